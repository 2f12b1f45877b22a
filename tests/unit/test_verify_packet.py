"""Verify packet: a sound proof matches, whatever is changed in it is found, and what is no proof is refused."""

import contextlib
import copy
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.packet import verify_packet as page
from actors.packet.split import split
from actors.transfers.seeds import commitment_of
from tests.unit.proofs import START_MS, Proof, heads_of, lanes_of, opened, pages_of, proof_of

PAGE = Path(page.__file__)
TAMPERABLE: dict[str, Any] = {"total_fen": 50_000, "count": 6, "nonce": "年年有余", "links": [1, 3, 2]}


def code_of(proofs: Any, **noted: Any) -> int:
    return page.judge(copy.deepcopy(proofs), **noted)[0]


def told(proofs: Any, **noted: Any) -> str:
    return "\n".join(page.judge(proofs, **noted)[1])


# What is sound.


@st.composite
def sound(draw: st.DrawFn) -> Proof:
    """Draw any proof of an ended packet of one block."""
    count = draw(st.integers(1, 40))
    low = draw(st.integers(1, 50))
    high = low + draw(st.integers(0, 20_000))
    algorithm = draw(st.sampled_from(["even/1", "double-mean/1", "equal/1"]))
    total = draw(st.integers(low * count, high * count)) if algorithm != "equal/1" else count * low
    taken = draw(st.integers(0, count))
    cuts = sorted({0, taken, *draw(st.lists(st.integers(0, taken)))})
    return proof_of(
        algorithm=algorithm,
        total_fen=total,
        count=count,
        taken=taken,
        nonce=draw(st.none() | st.text(st.characters(exclude_categories=["Cs"]))),
        links=[end - start for start, end in pairwise(cuts)],
        limits=(low, high),
        seed=draw(st.binary(min_size=32, max_size=32)),
    )


@given(sound())
def test_a_sound_proof_matches_and_so_does_every_head_of_its_chain(proof: Proof) -> None:
    noted = {"commitments": [proof["commitment"].upper()], "noted": heads_of(proof), "total_fen": proof["total_fen"]}
    assert page.judge(proof, **noted)[0] == page.MATCHES
    assert page.judge([proof])[0] == page.MATCHES


@given(sound())
def test_the_page_splits_and_commits_as_the_platform_does(proof: Proof) -> None:
    seed, limits = bytes.fromhex(proof["seed"]), (proof["share_fen_min"], proof["share_fen_max"])
    terms = proof["algorithm"], seed, proof["total_fen"], proof["count"], *limits
    assert page.split(*terms) == split(*terms)
    assert proof["commitment"] == commitment_of(proof["algorithm"], proof["packet_id"], seed).hex()


def test_what_is_told_of_a_sound_proof_is_a_few_plain_lines() -> None:
    proof = proof_of(taken=3, nonce="\x1b[2J年", links=[1, 2])
    paid = sum(proof["shares_fen"][:3])
    assert page.judge(proof)[1] == [
        f"packet {'a' * 32}: everything matches: 5 shares, 1000 fen",
        f"  {'a' * 32}: 5 shares, 1000 fen, commitment {proof['commitment']}",
        "    shares recomputed by even/1 with the seed committed to, nonce '\\x1b[2J\\u5e74'",
        f"    3 grabs, no user twice; {paid} fen paid, {1000 - paid} fen never taken",
        f"    chain of 2 links, head {proof['chain_head']}",
    ]


@pytest.mark.parametrize("count", [10_000, 10_001, 25_003])
def test_a_long_packet_is_made_block_by_block_and_its_shares_sum_to_its_total(count: int) -> None:
    proof = proof_of(
        total_fen=7 * count + 5, count=count, nonce="n", links=[10_000, count - 10_000][: 1 + (count > 10_000)]
    )
    assert sum(proof["shares_fen"]) == proof["total_fen"]
    assert code_of(proof) == page.MATCHES
    if count > page.BLOCK:
        whole = proof | {"shares_fen": split("even/1", bytes.fromhex(proof["seed"]), 7 * count + 5, count, 1, 20_000)}
        assert code_of(whole) == page.DIFFERS


def test_words_of_the_last_stretch_are_left_out_and_a_choice_of_one_takes_none() -> None:
    limit = 2**32 // 10 * 10
    words = iter([limit, 2**32 - 1, 7, limit - 1])
    assert [page.draw(words, 1), page.draw(words, 10), page.draw(words, 10)] == [0, 7, 9]


def test_an_empty_nonce_is_a_nonce() -> None:
    proof = proof_of(**TAMPERABLE | {"nonce": ""})
    assert code_of(proof) == page.MATCHES
    assert code_of(proof | {"sender_nonce": None}) == page.DIFFERS


def test_an_equal_packet_has_no_blocks() -> None:
    assert code_of(proof_of(algorithm="equal/1", total_fen=40_000, count=20_000)) == page.MATCHES


def test_a_packet_that_nobody_took_matches() -> None:
    proof = proof_of(taken=0)
    assert proof["chain_head"] != proof["commitment"], "the terms are in it"
    assert code_of(proof) == page.MATCHES


def test_a_link_of_more_grabs_than_there_are_is_found() -> None:
    proof = proof_of()
    proof["chain_links"].append(1)
    proof["chain_head"] = heads_of(proof)[-1]
    assert code_of(proof) == page.DIFFERS


# What is changed.


def change_share(proof: Proof, place: int) -> None:
    proof["shares_fen"][place] += 1


def move_a_fen_everywhere(proof: Proof, place: int) -> None:
    for at, fen in ((place, 1), (place - 1, -1)):
        proof["shares_fen"][at] += fen
        proof["grabs"][at]["amount_fen"] += fen
    proof["chain_head"] = heads_of(proof)[-1]


def change_amount(proof: Proof, place: int) -> None:
    proof["grabs"][place]["amount_fen"] += 1


def change_amounts_with_their_chain(proof: Proof, place: int) -> None:
    proof["grabs"][place]["amount_fen"] += 1
    proof["chain_head"] = heads_of(proof)[-1]


def change_user(proof: Proof, place: int) -> None:
    proof["grabs"][place]["user"] = "eve"


def repeat_user(proof: Proof, place: int) -> None:
    proof["grabs"][place]["user"] = proof["grabs"][place - 1]["user"]
    proof["chain_head"] = heads_of(proof)[-1]


def change_rank(proof: Proof, place: int) -> None:
    proof["grabs"][place]["rank"] += 1


def change_stamp(proof: Proof, place: int) -> None:
    proof["grabs"][place]["at_ms"] += 1


def turn_back_the_clock(proof: Proof, place: int) -> None:
    proof["grabs"][max(place, 1)]["at_ms"] = START_MS - 1
    proof["chain_head"] = heads_of(proof)[-1]


def swap_grabs(proof: Proof, place: int) -> None:
    grabs = proof["grabs"]
    grabs[place], grabs[place - 1] = grabs[place - 1], grabs[place]


def swap_users(proof: Proof, place: int) -> None:
    one, other = proof["grabs"][place], proof["grabs"][place - 1]
    one["user"], other["user"] = other["user"], one["user"]


def change_seed(proof: Proof, place: int) -> None:
    proof["seed"] = other_digit(proof["seed"], place)


def change_nonce(proof: Proof, place: int) -> None:
    proof["sender_nonce"] = [None, "", "x", "年年有余 ", "年年有餘", "年年"][place]


def change_commitment(proof: Proof, place: int) -> None:
    proof["commitment"] = other_digit(proof["commitment"], place)


def change_commitment_with_its_chain(proof: Proof, place: int) -> None:
    change_commitment(proof, place)
    proof["chain_head"] = heads_of(proof)[-1]


def change_total(proof: Proof, place: int) -> None:
    proof["total_fen"] += 2 * (place % 2) - 1


def change_count(proof: Proof, place: int) -> None:
    proof["count"] += 2 * (place % 2) - 1


def change_links(proof: Proof, place: int) -> None:
    proof["chain_links"] = [[1, 2, 3], [6], [1] * 6, [1, 3, 1, 1], [1, 3], [1, 3, 2, 1]][place]


def change_head(proof: Proof, place: int) -> None:
    proof["chain_head"] = other_digit(proof["chain_head"], place)


def change_state(proof: Proof, place: int) -> None:
    proof["state"] = "expired"


def change_algorithm(proof: Proof, place: int) -> None:
    proof["algorithm"] = "double-mean/1"


def change_packet(proof: Proof, place: int) -> None:
    proof["packet_id"] = other_digit(proof["packet_id"], place)


def change_base(proof: Proof, place: int) -> None:
    proof["rank_base"] += place + 1


def drop_last_grab(proof: Proof, place: int) -> None:
    proof["grabs"].pop()
    proof["chain_links"] = [1, 3, 1]
    proof["chain_head"] = heads_of(proof)[-1]


def add_a_share(proof: Proof, place: int) -> None:
    proof["shares_fen"].append(place + 1)


def add_a_grab(proof: Proof, place: int) -> None:
    proof["grabs"].append({"rank": 7, "user": "eve", "amount_fen": 1, "at_ms": START_MS + 9})
    proof["chain_links"].append(1)
    proof["chain_head"] = heads_of(proof)[-1]


def other_digit(text: str, place: int) -> str:
    return text[:place] + ("b" if text[place] != "b" else "c") + text[place + 1 :]


CHANGES = [
    change_share, move_a_fen_everywhere, change_amount, change_amounts_with_their_chain, change_user, repeat_user,
    change_rank, change_stamp, turn_back_the_clock, swap_grabs, swap_users, change_seed, change_nonce,
    change_commitment, change_commitment_with_its_chain, change_total, change_count, change_links, change_head,
    change_state, change_algorithm, change_packet, change_base, drop_last_grab, add_a_share, add_a_grab,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@settings(max_examples=20)
@given(place=st.integers(0, 5), seed=st.binary(min_size=32, max_size=32))
def test_whatever_is_changed_is_found(change: Any, place: int, seed: bytes) -> None:
    proof = proof_of(**TAMPERABLE, seed=seed)
    assert code_of(proof) == page.MATCHES
    change(proof, place)
    assert code_of(proof) == page.DIFFERS


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (change_share, "share of rank 3: told "),
        (change_amounts_with_their_chain, "grab 3: told rank 3 and "),
        (repeat_user, "user '\\u7528\\u62372' has taken another"),
        (change_rank, "grab 3: told rank 4 and "),
        (turn_back_the_clock, f"grab 3: told at_ms {START_MS - 1}, before the grab before it"),
        (swap_users, "chain: told 6 grabs, head "),
        (change_links, "chain: told 6 grabs, head "),
        (drop_last_grab, "state: told drained, but 5 of 6 shares are taken"),
        (add_a_grab, "state: told drained, but 7 of 6 shares are taken"),
        (change_count, "count: told 5, but shares_fen lists 6"),
        (change_commitment_with_its_chain, "commitment: told "),
        (change_base, "rank_base: told 3, but 0 shares come before"),
    ],
)
def test_what_is_found_is_named(change: Any, found: str) -> None:
    proof = proof_of(**TAMPERABLE)
    change(proof, 2)
    assert found in told(proof)


@given(st.data())
def test_no_number_and_no_text_of_a_proof_can_be_another(data: st.DataObject) -> None:
    """Whatever single value a proof holds, another one in its place is found or refused."""
    proof = proof_of(**TAMPERABLE)
    free = {"next_after_rank", "share_fen_min", "share_fen_max"}  # limits matter only where they change a share
    paths: list[tuple[Any, ...]] = [
        (name,) for name, value in proof.items() if not isinstance(value, list) and name not in free
    ]
    paths += [(name, place) for name in ("shares_fen", "chain_links") for place in range(len(proof[name]))]
    paths += [("grabs", place, name) for place in range(6) for name in proof["grabs"][0]]
    path = data.draw(st.sampled_from(paths))
    outer, last = path[:-1], path[-1]
    holder = proof
    for step in outer:
        holder = holder[step]
    before = holder[last]
    other = st.integers(0, 2**64) if isinstance(before, int) else st.text(max_size=80) | st.none()
    holder[last] = data.draw(other.filter(lambda value: value != before))
    with contextlib.suppress(page.NotAProof):
        assert code_of(proof) in (page.DIFFERS, page.NOT_ENDED)


def test_a_total_that_its_limits_do_not_allow_is_told_and_never_recomputed() -> None:
    for terms in ({"total_fen": 4}, {"share_fen_max": 199}, {"share_fen_min": 201}, {"share_fen_min": 20_001}):
        assert "total_fen: " in told(proof_of() | terms)
    assert code_of(proof_of() | {"share_fen_max": 199}) == page.DIFFERS


def test_an_equal_packet_that_does_not_divide_is_found() -> None:
    proof = proof_of(algorithm="equal/1", total_fen=1_000, count=5) | {"total_fen": 1_001}
    assert "total_fen: told 1001, its shares sum to 1000" in told(proof)


def test_only_the_first_findings_are_told() -> None:
    proof = proof_of(total_fen=90_000, count=60)
    proof["shares_fen"].reverse()
    lines = page.judge(proof)[1]
    assert len(lines) == page.LINES_MAX + 2
    assert lines[0].endswith("DOES NOT MATCH")
    assert lines[-1].endswith(" more")


# What somebody noted down.


def test_a_list_rewritten_with_its_chain_is_found_by_whoever_noted_a_head() -> None:
    proof = proof_of(**TAMPERABLE)
    seen = heads_of(proof)[1]
    swap = copy.deepcopy(proof)
    swap_users(swap, 1)
    swap["chain_head"] = heads_of(swap)[-1]
    assert code_of(swap) == page.MATCHES, "alone it cannot be told"
    assert code_of(swap, noted=[seen]) == page.DIFFERS
    assert code_of(proof, noted=[seen.upper()]) == page.MATCHES
    assert f"head: '{seen}' was noted" in told(swap, noted=[seen])


def test_another_commitment_or_another_total_than_noted_is_found() -> None:
    proof = proof_of()
    assert code_of(proof, commitments=["0" * 64]) == page.DIFFERS
    assert code_of(proof, commitments=[proof["commitment"], "0" * 64]) == page.DIFFERS
    assert "total_fen: 1001 was noted, told is 1000" in told(proof, total_fen=1_001)


def test_of_an_open_packet_it_is_told_what_to_note_down() -> None:
    proof = opened(proof_of())
    assert code_of(proof, noted=["0" * 64]) == page.NOT_ENDED
    assert "not ended yet" in told(proof)
    assert proof["commitment"] in told(proof)
    assert proof["chain_head"] in told(proof)
    assert code_of(proof, commitments=["0" * 64]) == page.DIFFERS


# Lanes.


def test_the_lanes_of_a_packet_match_together() -> None:
    lanes = lanes_of(3, taken=2)
    noted = {"commitments": [lane["commitment"] for lane in lanes], "noted": [heads_of(lane)[1] for lane in lanes]}
    assert code_of(lanes, total_fen=3_000, **noted) == page.MATCHES
    assert told(lanes).startswith(f"packet {'a' * 32}: everything matches: 15 shares, 3000 fen\n")


def test_what_differs_between_lanes_is_found() -> None:
    lanes = lanes_of()
    lanes[2]["grabs"][0]["user"] = lanes[0]["grabs"][0]["user"]
    lanes[2]["chain_head"] = heads_of(lanes[2])[-1]
    assert "grab 10: user '\\u7528\\u62371' has taken another" in told(lanes)
    overlap = lanes_of()
    overlap[1] = proof_of(packet_id=f"{'a' * 32}.1", lanes=3, rank_base=3, seed=b"\x01" * 32)
    assert "rank_base: told 3, but 4 shares come before" in told(overlap)
    nonces = [lanes_of()[0], *lanes_of(nonce="x")[1:]]
    assert f"sender_nonce: {'a' * 32}.1 tells another one than {'a' * 32}.0" in told(nonces)
    one_wrong = lanes_of()
    change_share(one_wrong[1], 0)
    assert f"{'a' * 32}.1: share of rank 5" in told(one_wrong)


def test_a_packet_is_open_until_its_last_lane_has_ended_but_a_wrong_one_is_told_at_once() -> None:
    lanes = lanes_of()
    lanes[1] = opened(lanes[1])
    assert code_of(lanes) == page.NOT_ENDED
    change_share(lanes[2], 0)
    assert code_of(lanes) == page.DIFFERS


@pytest.mark.parametrize("choose", [[0, 1], [1, 0, 2], [0, 1, 1], [0, 0, 1, 2], [1]])
def test_lanes_that_are_missing_doubled_or_out_of_order_are_refused(choose: list[int]) -> None:
    lanes = lanes_of()
    with pytest.raises(page.NotAProof, match="all its lanes in order"):
        page.judge([lanes[lane] for lane in choose])


def test_two_packets_are_not_one() -> None:
    with pytest.raises(page.NotAProof, match="one packet"):
        page.judge([proof_of(), proof_of(packet_id="b" * 32)])


# What is no proof.


def changed(**fields: Any) -> Proof:
    return proof_of() | fields


NO_PROOFS: list[tuple[Any, str]] = [
    (None, "the proof must be a JSON object, not NoneType"),
    ([], "given are 0"),
    ([[]], "the proof must be a JSON object, not list"),
    ("text", "not 'text'"),
    ({}, "packet_id of the proof must be"),
    (changed(packet_id="a\x00b"), "packet_id"),
    (changed(packet_id="a\n"), "packet_id"),
    (changed(algorithm="even/2"), "equal/1|double-mean/1|even/1, not 'even/2'"),
    (changed(state="ended"), "state"),
    (changed(seed="00"), "seed"),
    (changed(seed="G" * 64), "seed"),
    (changed(commitment=None), "commitment"),
    (changed(chain_head="A" * 64), "chain_head"),
    (changed(total_fen=1000.0), "total_fen of the proof must be an integer from 0 to 9223372036854775807, not float"),
    (changed(total_fen=True), "total_fen"),
    (changed(count=0), "count"),
    (changed(count=2**63), "count"),
    (changed(share_fen_max=2**31), "share_fen_max"),
    (changed(lanes=0), "lanes"),
    (changed(sender_nonce=5), "sender_nonce"),
    (changed(sender_nonce="\ud800"), "sender_nonce"),
    (changed(shares_fen=None), "shares_fen of the proof must be a list, not NoneType"),
    (changed(shares_fen=[200, -1]), "entry 2 of shares_fen of the proof"),
    (changed(chain_links=[0]), "entry 1 of chain_links"),
    (changed(chain_links="5"), "chain_links"),
    (changed(grabs={"0": 1}), "grabs of the proof must be a list, not dict"),
    (changed(grabs=[[1]]), "entry 1 of grabs of the proof must be a JSON object"),
    (changed(next_after_rank=5), "only a part of the proof"),
    *(
        (changed(grabs=[proof_of()["grabs"][0] | {name: value}]), f"{name} of entry 1 of grabs")
        for name, value in [
            ("user", "two\nlines"),
            ("user", "\ud800"),
            ("user", ""),
            ("user", "x" * 65),
            ("rank", "1"),
            ("amount_fen", 2**32),
            ("amount_fen", -1),
            ("at_ms", 2**64),
            ("at_ms", None),
        ]
    ),
]


@pytest.mark.parametrize(("content", "says"), NO_PROOFS)
def test_what_is_no_proof_is_refused_with_what_is_wrong(content: Any, says: str) -> None:
    with pytest.raises(page.NotAProof) as refused:
        page.judge(content)
    assert says in str(refused.value)
    assert str(refused.value).isascii()
    assert len(str(refused.value)) < 400


def test_a_page_of_a_proof_is_not_taken_for_the_whole() -> None:
    with pytest.raises(page.NotAProof, match="only a part"):
        page.judge(pages_of(proof_of(), 2)[0])


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(
    st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(proof_of())), inner))
)
def test_any_json_is_a_proof_or_refused(content: Any) -> None:
    with pytest.raises(page.NotAProof):
        page.judge(content)


# The page by itself.


def run(content: bytes, *options: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run the page as a stranger does: no platform, no packages, no environment."""
    done = subprocess.run(
        [python, "-I", "-S", str(PAGE), "-", *options],
        cwd="/",
        env={"PATH": os.defpath},
        input=content.decode("latin-1"),
        encoding="latin-1",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_it_runs_alone_and_ends_with_the_verdict() -> None:
    proof = proof_of(**TAMPERABLE)
    content = json.dumps(proof, ensure_ascii=False).encode()
    noted = ("--commitment", proof["commitment"], "--head", heads_of(proof)[2], "--total-fen", "50000")
    sound = run(content, *noted)
    assert (sound.returncode, sound.stdout.splitlines()) == (page.MATCHES, page.judge(proof)[1])
    differs = run(content, *noted, "--head", "0" * 64)
    assert (differs.returncode, differs.stderr) == (page.DIFFERS, "")
    assert run(json.dumps(opened(proof)).encode()).returncode == page.NOT_ENDED
    assert run(json.dumps(lanes_of()).encode()).returncode == page.MATCHES


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"{",
        b"[" * 100_000,
        b"[" * 900 + b"]" * 900,
        b'{"count": ' + b"9" * 100_000 + b"}",
        b"NaN",
        b'"\\ud800"',
        json.dumps(changed(sender_nonce="\ud800")).encode(),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(content: bytes) -> None:
    done = run(content)
    assert (done.returncode, done.stdout) == (page.NO_PROOF, "")
    assert done.stderr.startswith("no proof that can be checked: ")
    assert done.stderr.count("\n") == 1


def test_a_file_beyond_the_bound_is_refused_and_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "BYTES_MAX", 10)
    (tmp_path / "proof").write_bytes(b" " * 9 + b"1")
    assert page.read(str(tmp_path / "proof")) == 1
    (tmp_path / "proof").write_bytes(b" " * 10 + b"1")
    with pytest.raises(page.NotAProof, match="longer than 10 bytes"):
        page.read(str(tmp_path / "proof"))


def test_a_count_that_no_memory_holds_is_told_at_once() -> None:
    assert "count: told" in told(changed(count=2**62))


def test_the_page_imports_nothing_but_the_standard_library_and_stays_readable() -> None:
    text = PAGE.read_text()
    imported = {
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))
    }
    assert imported <= sys.stdlib_module_names
    first_page, second_page = (part.count("\n") for part in text.split("# The second page: "))
    assert first_page <= 135
    assert second_page <= 115
