"""Bugs of the page that checks a proof, and of the command that fetches one: what they would no longer find."""

from tests.bugs import Mutant

PAGE, COMMAND = "cluster/verify_packet.py", "cluster/commands/verify_packet.py"
SEEN, FETCHED = "tests/unit/test_verify_packet.py::test_", "tests/unit/test_proving.py::test_"
SOUND = "a_sound_proof_matches_and_so_does_every_head_of_its_chain"
CHANGED, NAMED, REFUSED = (
    "whatever_is_changed_is_found",
    "what_is_found_is_named",
    "what_is_no_proof_is_refused_with_what_is_wrong",
)
BLOCKS = "a_long_packet_is_made_block_by_block_and_its_shares_sum_to_its_total"


def _page(promise: str, test: str, old: str, new: str) -> Mutant:
    return Mutant(f"proof: {promise}", PAGE, old, new, (SEEN + test,))


def _command(promise: str, test: str, old: str, new: str) -> Mutant:
    return Mutant(f"proof: {promise}", COMMAND, old, new, (FETCHED + test,))


PROOFS = [
    _page(
        "the commitment is recomputed",
        CHANGED,
        'if proof["commitment"] != hashlib',
        'if proof["commitment"] is hashlib',
    ),
    _page(
        "every share is recomputed",
        CHANGED,
        "        shares = recompute(proof)",
        "        recompute(proof)",
    ),
    _page(
        "every share is compared",
        CHANGED,
        "if told[place] != share:",
        "if told[place] < share:",
    ),
    _page(
        "words of the last stretch are left out",
        "words_of_the_last_stretch_are_left_out_and_a_choice_of_one_takes_none",
        "if word < 2**32 // n * n) % n",
        "if word < 2**32) % n",
    ),
    _page(
        "even shares are shuffled",
        SOUND,
        'if algorithm == "even/1" else ()',
        'if algorithm == "even/2" else ()',
    ),
    _page(
        "the nonce counts",
        SOUND,
        'mac(seed, b"nonce\\0" + proof',
        'mac(seed, b"" + proof',
    ),
    _page(
        "an empty nonce is one",
        "an_empty_nonce_is_a_nonce",
        'if proof.get("sender_nonce") is not None:',
        'if proof.get("sender_nonce"):',
    ),
    _page(
        "a block has a seed of its own",
        BLOCKS,
        "split(algorithm, block_seed,",
        "split(algorithm, seed,",
    ),
    _page(
        "10,000 shares are no two blocks",
        BLOCKS,
        "if count <= BLOCK or",
        "if count < BLOCK or",
    ),
    _page(
        "blocks share the total exactly",
        BLOCKS,
        "total * end // count - total * start // count",
        "total * (end - start) // count",
    ),
    _page(
        "the amount of a grab is its share's",
        CHANGED,
        '(grab["rank"], grab["amount_fen"]) != (rank, share)',
        'grab["rank"] != rank',
    ),
    _page(
        "ranks follow their place",
        CHANGED,
        '(grab["rank"], grab["amount_fen"]) != (rank, share)',
        'grab["amount_fen"] != share',
    ),
    _page(
        "stamps never go back",
        CHANGED,
        'grab["at_ms"] < grabs[place - 1]["at_ms"]',
        'grab["at_ms"] < 0',
    ),
    _page(
        "a drained packet has no share left",
        CHANGED,
        '(proof["state"] == "drained") != (len(grabs) == count)',
        "False",
    ),
    _page(
        "the shares sum to the total",
        "an_equal_packet_that_does_not_divide_is_found",
        "if sum(shares) != total:",
        "if sum(told) != sum(shares):",
    ),
    _page(
        "what cannot be split is not split",
        "a_total_that_its_limits_do_not_allow_is_told_and_never_recomputed",
        "elif not low * count <= total <= high * count:",
        "elif not total:",
    ),
    _page(
        "stamps are chained",
        CHANGED,
        'struct.pack("<IQ", grab["amount_fen"], grab["at_ms"])',
        'struct.pack("<IQ", grab["amount_fen"], 0)',
    ),
    _page(
        "users are chained",
        CHANGED,
        '"\\n".join(grab["user"] for grab in link)',
        '"\\n".join("" for grab in link)',
    ),
    _page(
        "the chain begins at the commitment",
        SOUND,
        'hashlib.sha256(bytes.fromhex(proof["commitment"]) + terms.encode())',
        "hashlib.sha256(terms.encode())",
    ),
    _page(
        "the chain ends in the told head",
        CHANGED,
        'or proof["chain_head"] != head:',
        "or not head:",
    ),
    _page(
        "every grab is in a link",
        "a_link_of_more_grabs_than_there_are_is_found",
        'if sum(proof["chain_links"]) != len(grabs) or',
        "if",
    ),
    _page(
        "a noted head must occur",
        "a_list_rewritten_with_its_chain_is_found_by_whoever_noted_a_head",
        "for one in noted if not is_open and",
        "for one in noted if is_open and",
    ),
    _page(
        "a noted commitment must occur",
        "another_commitment_or_another_total_than_noted_is_found",
        "if one.lower() not in committed)",
        "if not committed)",
    ),
    _page(
        "a noted total is the whole packet's",
        "another_commitment_or_another_total_than_noted_is_found",
        "if total_fen not in (None, sent) else []",
        "if False else []",
    ),
    _page(
        "no user takes in two lanes",
        "what_differs_between_lanes_is_found",
        "    base, users = 0, set()\n    for proof in proofs:\n",
        "    base = 0\n    for proof in proofs:\n        users = set()\n",
    ),
    _page(
        "no user takes twice",
        CHANGED,
        '            if grab["user"] in users:',
        '            if grab["user"] in ():',
    ),
    _page(
        "the ranks of lanes do not overlap",
        "what_differs_between_lanes_is_found",
        'if proof["rank_base"] != base:',
        'if proof["rank_base"] < 0:',
    ),
    _page(
        "a packet is checked with all its lanes",
        "lanes_that_are_missing_doubled_or_out_of_order_are_refused",
        "for lane in range(lanes)]):",
        "for lane in range(len(names))]):",
    ),
    _page(
        "an open lane keeps the packet open",
        "a_packet_is_open_until_its_last_lane_has_ended_but_a_wrong_one_is_told_at_once",
        "            is_open = True",
        "            is_open = False",
    ),
    _page(
        "a part is not taken for the whole",
        REFUSED,
        'if proof.get("next_after_rank") is not None:',
        'if proof.get("next_after_rank") == "":',
    ),
    _page(
        "true is no integer",
        REFUSED,
        "type(value) is int and value in rule",
        "isinstance(value, int) and value in rule",
    ),
    _page(
        "a file is bounded",
        "a_file_beyond_the_bound_is_refused_and_not_read_to_its_end",
        "if len(content) > BYTES_MAX:",
        "if len(content) > 2 * BYTES_MAX:",
    ),
    _page(
        "nesting without end is refused",
        "a_hostile_file_is_refused_in_one_line",
        "except (ValueError, RecursionError) as",
        "except ValueError as",
    ),
    _command(
        "the pages of a proof follow one another",
        "pages_are_put_together_in_every_lane",
        "_ask(api, packet_id, lane, rank)",
        "_ask(api, packet_id, lane)",
    ),
    _command(
        "pages that do not go on end",
        "pages_that_never_end_are_left",
        "not rank < after_rank <",
        "not rank <= after_rank <",
    ),
    _command(
        "pages are of one proof",
        "pages_of_different_proofs_are_not_put_together",
        "if field not in PAGED):",
        "if field in ()):",
    ),
    _command(
        "every lane is asked for",
        "pages_are_put_together_in_every_lane",
        "await _ask(api, packet_id, lane)) for lane",
        "await _ask(api, packet_id, 0)) for lane",
    ),
    _command(
        "the proof is that packet's",
        "an_answer_that_is_no_proof_is_one_line",
        'if proof.get("packet_id") != name:',
        'if proof.get("packet_id") is None:',
    ),
    _command(
        "the verdict is the exit code",
        "a_tampered_proof_ends_with_1_and_an_open_packet_with_3",
        "if code != page.MATCHES:",
        "if code == page.NO_PROOF:",
    ),
    _command(
        "what was noted is passed on",
        "a_file_is_held_against_what_was_noted_down",
        "commitment or (), head or (), total_fen)",
        "commitment or (), ())",
    ),
    _command(
        "what was fetched is saved",
        "what_was_fetched_is_saved_for_the_page",
        "json.dumps(content, indent=1)",
        "json.dumps(content[:1], indent=1)",
    ),
]
