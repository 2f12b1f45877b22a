"""Proving: `hongbao verify-packet`, in a process of its own, of a file or of what a system tells over HTTP."""

import json
from pathlib import Path
from typing import Any

import pytest

from actors.packet import verify_packet as page
from cluster.keys import new_keys
from tests.unit.fake_gateway import FakeGateway, serving
from tests.unit.proofs import PACKET_ID, Proof, heads_of, lanes_of, opened, proof_of
from tests.unit.test_cli import WITH_FAKE_BOOTSTRAP, run


class ProofsInTurn(list[Proof]):
    """Another proof at every request, whichever lane is asked for."""

    def __getitem__(self, lane: Any) -> Any:
        return self.pop(0)


async def verify(proofs: list[Proof], *options: str, ranks_max: int = 10_000) -> tuple[int, str, str]:
    """Verify the packet of which a system tells these proofs, so many ranks a page."""
    gateway = FakeGateway()
    gateway.proofs[PACKET_ID], gateway.proof_ranks_max = proofs, ranks_max
    async with serving(gateway) as url:
        return await run("verify-packet", PACKET_ID, "--url", url, "--token", "li", *options)


def told_as(code: int, proofs: Any, **noted: Any) -> tuple[int, str, str]:
    """Return what the command is to print: what the page does."""
    judged, lines = page.judge(proofs, **noted)
    assert judged == code
    return code, "\n".join(lines) + "\n", ""


async def test_a_packet_is_verified_by_its_id_as_the_page_would() -> None:
    proof = proof_of(nonce="年")
    code, stdout, stderr = await verify([proof])
    assert (code, stdout) == told_as(page.MATCHES, proof)[:2]
    assert "Traceback" not in stderr


async def test_pages_are_put_together_in_every_lane() -> None:
    lanes = lanes_of(3, nonce="x")
    code, stdout, _ = await verify(lanes, ranks_max=2)
    assert (code, stdout) == told_as(page.MATCHES, lanes)[:2]


@pytest.mark.parametrize("ranks_max", [10_000, 2])
async def test_what_was_fetched_is_saved_for_the_page(ranks_max: int, tmp_path: Path) -> None:
    saved = tmp_path / "proof.json"
    lanes = lanes_of(2, taken=3)
    assert (await verify(lanes, "--save", str(saved), ranks_max=ranks_max))[0] == page.MATCHES
    assert page.judge(page.read(str(saved)))[1] == page.judge(lanes)[1]
    assert await run("verify-packet", str(saved)) == told_as(page.MATCHES, lanes)


async def test_a_tampered_proof_ends_with_1_and_an_open_packet_with_3() -> None:
    wrong = proof_of()
    wrong["shares_fen"][0] += 1
    assert (await verify([wrong]))[:2] == told_as(page.DIFFERS, wrong)[:2]
    shown = opened(proof_of())
    assert (await verify([shown]))[:2] == told_as(page.NOT_ENDED, shown)[:2]


async def test_a_file_is_held_against_what_was_noted_down(tmp_path: Path) -> None:
    proof, file = proof_of(), tmp_path / "proof.json"
    file.write_text(json.dumps(proof))
    sound = ("--commitment", proof["commitment"], "--head", heads_of(proof)[1], "--total-fen", "1000")
    assert await run("verify-packet", str(file), *sound) == told_as(page.MATCHES, proof)
    for name, other in (("commitment", "0" * 64), ("head", "0" * 64), ("total-fen", "999")):
        code, stdout, _ = await run("verify-packet", str(file), *sound, f"--{name}", other)
        assert (code, "was noted" in stdout) == (page.DIFFERS, True)


async def test_without_an_address_the_system_of_the_data_folder_is_asked_as_a_user(tmp_path: Path) -> None:
    new_keys(tmp_path / "keys.json")
    gateway = FakeGateway()
    gateway.proofs[PACKET_ID] = [proof_of()]
    async with serving(gateway) as url:
        command = (str(tmp_path), url, "verify-packet", PACKET_ID, "--data", str(tmp_path))
        code, stdout, _ = await run(*command, python=("-c", WITH_FAKE_BOOTSTRAP))
    assert (code, stdout) == told_as(page.MATCHES, proof_of())[:2]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"packet_id": "b" * 32}, "got that of another packet"),
        ({"lanes": 0}, "tells no number of lanes from 1 to 10000"),
        ({"lanes": "2"}, "tells no number of lanes"),
        ({"next_after_rank": "x"}, "does not go on after rank 'x'"),
        ({"seed": "x"}, "no proof that can be checked: seed of the proof must be"),
        ({"state": "open", "next_after_rank": 3}, "does not go on after rank 3"),
        ({"next_after_rank": 0}, "does not go on after rank 0"),
        ({"next_after_rank": 5}, "does not go on after rank 5"),
    ],
)
async def test_an_answer_that_is_no_proof_is_one_line(change: dict[str, Any], says: str) -> None:
    code, stdout, stderr = await verify([proof_of() | change])
    assert (code, stdout) == (page.NO_PROOF, "")
    assert says in stderr.splitlines()[-1]


async def test_pages_that_never_end_are_left() -> None:
    """Each page names the same next one, which would go on for ever."""
    code, _, stderr = await verify([proof_of() | {"next_after_rank": 3}])
    assert code == page.NO_PROOF
    assert "does not go on after rank 3" in stderr


async def test_pages_of_different_proofs_are_not_put_together() -> None:
    """Between two pages the system changes what it tells."""
    gateway = FakeGateway()
    first, other = proof_of(nonce="x") | {"next_after_rank": 3}, proof_of(nonce="y")
    gateway.proofs[PACKET_ID] = ProofsInTurn([first, other])
    async with serving(gateway) as url:
        code, _, stderr = await run("verify-packet", PACKET_ID, "--url", url, "--token", "li")
    assert code == page.NO_PROOF
    assert "are of different proofs" in stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere.json",), "'nowhere.json' is neither a file nor a packet id"),
        (("b" * 32, "--url", "http://127.0.0.1:9"), "--url needs --token"),
        (("b" * 32, "--data", "/nowhere/at/all"), "no system runs on"),
        ((__file__,), "no proof that can be checked: this is not JSON"),
        ((__file__, "--save", "x"), "--save goes with a packet's id"),
    ],
)
async def test_what_cannot_be_verified_is_said_in_one_line(arguments: tuple[str, ...], says: str) -> None:
    code, stdout, stderr = await run("verify-packet", *arguments)
    assert (code, stdout, stderr.count("\n")) == (page.NO_PROOF, "", 1)
    assert says in stderr


async def test_a_packet_that_nobody_knows_is_one_line() -> None:
    async with serving(FakeGateway()) as url:
        code, _, stderr = await run("verify-packet", "b" * 32, "--url", url, "--token", "li")
    assert code == page.NO_PROOF
    assert "packet_not_found (status 404)" in stderr
