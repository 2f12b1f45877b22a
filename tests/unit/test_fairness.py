"""Fairness: its statistics, what it makes of rounds, and whether it sees a platform that is not fair."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from cluster.client import TakenShare
from loadtest.fairness.client import CUT, UNREAD, DefiniteAnswer, Fired
from loadtest.fairness.plot import draw
from loadtest.fairness.report import FairnessReport, chances_of, faults_of, order_of, report_of, waits_of
from loadtest.fairness.run import FairnessFailed, FairnessOptions, Round, Rounds
from loadtest.fairness.statistic import chi_square, chi_square_p, jain, percentile
from tests.simulation.http import Http
from tests.simulation.loop import simulated
from tests.unit.fake_gateway import OPERATOR_TOKEN, FakeGateway, serving
from tests.unit.test_cli import run

SMALL = FairnessOptions(users=20, packets=20, seed=5)


# Statistics


@pytest.mark.parametrize(
    ("statistic", "freedom", "p"),
    [
        (3.841459, 1, 0.05),
        (10.827566, 1, 0.001),
        (5.991465, 2, 0.05),
        (7.814728, 3, 0.05),
        (16.918978, 9, 0.05),
        (18.307038, 10, 0.05),
        (124.342113, 100, 0.05),
        (140.169489, 100, 0.005),
        (0.210721, 2, 0.9),
        (2.0, 2, 0.36787944),
    ],
)
def test_the_tail_of_chi_square_is_that_of_the_printed_tables(statistic: float, freedom: int, p: float) -> None:
    assert chi_square_p(statistic, freedom) == pytest.approx(p, rel=1e-5)


def test_where_nothing_differs_or_can_differ_p_is_one() -> None:
    assert chi_square_p(0.0, 4) == chi_square_p(3.0, 0) == 1.0


def test_chi_square_sums_squares_over_what_is_due() -> None:
    assert chi_square([12, 8], [10, 10]) == pytest.approx(0.8)


def test_jain_is_one_for_equals_and_a_part_for_one_who_has_all() -> None:
    assert jain([0.5, 0.5, 0.5]) == pytest.approx(1)
    assert jain([3, 0, 0]) == pytest.approx(1 / 3)


def test_a_percentile_is_one_of_the_numbers() -> None:
    assert [percentile([1, 2, 3, 4], share) for share in (0, 0.5, 0.99, 1.0)] == [1, 3, 4, 4]
    assert percentile([], 0.5) == 0


# Rounds


def shot(user: str, sent_ms: float, rank: int, replica: str, *, loss: str = "", wait_ms: float = 10.0) -> Fired:
    told = DefiniteAnswer(rank, 100 if rank else 0, False, "" if rank else "drained", replica)
    return Fired(user, loss, sent_ms / 1_000, (sent_ms + wait_ms) / 1_000, None if loss == CUT else told, 1)


def round_of(fired: list[Fired], **repeated: DefiniteAnswer) -> Round:
    """A round whose list is what was told, with ranks 1.. of 100 fen each."""
    wins = [(one.told.rank, one.user) for one in fired if one.told is not None and one.told.rank]
    shares = [TakenShare(rank, user, 100, 0) for rank, user in sorted(wins)]
    return Round(len(shares), 100 * len(shares), fired, repeated, shares, shares)


def won_by(*replicas_in_order: str, losers: str) -> Round:
    """A round whose ranks go to clients of these replicas; `losers`: the others', a letter each."""
    everybody = [(replica, rank) for rank, replica in enumerate(replicas_in_order, 1)]
    everybody += [(replica, 0) for replica in losers]
    return round_of([shot(f"u{at}", at, rank, replica) for at, (replica, rank) in enumerate(everybody)])


def whole(winner: str) -> Round:
    """A round of which one replica's batch takes every share."""
    return won_by(*winner * 20, losers=("b" if winner == "a" else "a") * 20)


def test_a_replica_that_wins_a_little_more_in_every_round_is_found() -> None:
    chances = chances_of([won_by(*"a" * 11 + "b" * 9, losers="a" * 9 + "b" * 11)] * 30)
    assert chances.p < 0.001
    assert [(one.wins, one.due) for one in chances.replicas] == [(330, 300), (270, 300)]
    assert chances.one_replica_part == pytest.approx(0.55)


def test_batches_that_win_whole_packets_by_turns_favour_nobody() -> None:
    chances = chances_of([whole("a")] * 13 + [whole("b")] * 7)
    assert chances.p == pytest.approx(chi_square_p(1.8, 1))
    assert chances.p_single < 1e-9, "what the textbook would call unfair"
    assert chances.one_replica_part == 1


def test_a_replica_that_gets_more_requests_has_more_wins_due() -> None:
    chances = chances_of([won_by(*"aaab", losers="aaab")] * 20)
    assert (chances.p, chances.jain) == (1.0, pytest.approx(1))


def test_a_third_replica_that_starves_is_found() -> None:
    rounds = [won_by(*"aab", losers="bcc"), won_by(*"abb", losers="acc")] * 15
    assert chances_of(rounds).p < 0.001


def test_p_is_below_a_twentieth_in_a_twentieth_of_fair_runs() -> None:
    coin = random.Random(7)
    runs = [chances_of([whole(coin.choice("ab")) for _ in range(30)]).p for _ in range(200)]
    assert 3 <= sum(p < 0.05 for p in runs) <= 22


def test_pairs_are_compared_by_sending_and_rank_and_losers_come_last() -> None:
    fired = [shot("a", 0, 2, "x"), shot("b", 3, 1, "x"), shot("c", 1, 0, "y"), shot("d", 9, 0, "y")]
    order = order_of([round_of(fired)])
    assert (order.pairs, order.inverted) == (5, 2)  # of six, c and d have nothing to compare
    assert order.within_part == 1.0  # of the winners, both x's, who are the wrong way round
    assert (order.gap_ms_p50, order.gap_ms_max) == (pytest.approx(3), pytest.approx(3))  # a before b 3, c before b 2
    assert order.span_ms_p50 == pytest.approx(9)


def test_an_answer_that_was_cut_is_neither_a_wait_nor_a_pair() -> None:
    fired = [shot("a", 0, 1, "x"), shot("b", 1, 0, "x", loss=CUT), shot("c", 2, 0, "x", wait_ms=40)]
    waits = waits_of([round_of(fired)])
    assert order_of([round_of(fired)]).pairs == 1
    assert (waits.worst_ms, waits.worst_over_median) == (pytest.approx(40), pytest.approx(1))


WON, LOST = DefiniteAnswer(1, 100, True, "", "y"), DefiniteAnswer(0, 0, False, "drained", "y")


@pytest.mark.parametrize("loss", [CUT, UNREAD])
def test_a_repeat_that_is_told_the_same_breaks_nothing(loss: str) -> None:
    fired = [shot("a", 0, 1, "x", loss=loss), shot("b", 0, 0, "x", loss=loss)]
    listed = [TakenShare(1, "a", 100, 0)]
    assert faults_of(Round(1, 100, fired, {"a": WON, "b": LOST}, listed, listed)) == []


@pytest.mark.parametrize("loss", [CUT, UNREAD])
@pytest.mark.parametrize(
    "told",
    [LOST, WON._replace(rank=2), WON._replace(amount_fen=99), WON._replace(replayed=False)],
)
def test_a_repeat_that_is_told_anything_else_has_lost_its_place(loss: str, told: DefiniteAnswer) -> None:
    listed = [TakenShare(1, "a", 100, 0)]
    faults = faults_of(Round(1, 100, [shot("a", 0, 1, "x", loss=loss)], {"a": told}, listed, listed))
    assert [kind for kind, _ in faults] == ["lost_place"]


def test_a_repeat_that_moves_the_place_in_the_list_has_lost_it() -> None:
    before, after = [TakenShare(1, "a", 100, 0)], [TakenShare(1, "b", 100, 0), TakenShare(2, "a", 100, 0)]
    told = WON._replace(rank=2)
    [(kind, words)] = faults_of(Round(2, 200, [shot("a", 0, 1, "x", loss=CUT)], {"a": told}, before, after))
    assert (kind, "had (rank, fen) (1, 100)" in words) == ("lost_place", True)


def test_a_repeat_of_somebody_who_had_nothing_may_not_win() -> None:
    after = [TakenShare(1, "a", 100, 0)]
    told = DefiniteAnswer(1, 100, False, "", "y")
    faults = faults_of(Round(1, 100, [shot("a", 0, 0, "x", loss=CUT)], {"a": told}, [], after))
    assert [kind for kind, _ in faults] == ["lost_place"]


def test_what_a_packet_lists_wrongly_is_found() -> None:
    good = round_of([shot("a", 0, 1, "x"), shot("b", 0, 2, "x")])
    twice = [TakenShare(1, "a", 100, 0), TakenShare(2, "a", 100, 0)]
    same_rank = [TakenShare(1, "a", 100, 0), TakenShare(1, "b", 100, 0)]
    too_much = [TakenShare(1, "a", 100, 0), TakenShare(2, "b", 101, 0)]
    for listed, kinds in (
        (twice, {"double_grab", "contradiction"}),
        (same_rank, {"rank", "contradiction"}),
        (too_much, {"contradiction"}),
    ):
        assert {kind for kind, _ in faults_of(good._replace(after=listed))} == kinds
    assert faults_of(good) == []


# Runs


async def measured(*faults: str, options: FairnessOptions = SMALL) -> tuple[list[Round], FairnessReport]:
    async with serving(FakeGateway(*faults)) as url:
        rounds = await Rounds(url, OPERATOR_TOKEN, options, lambda words: None).run()
    return rounds, report_of(rounds, options)


@pytest.mark.parametrize("fault", [(), ("overloaded", "answer_lost")])
async def test_a_fair_platform_is_called_fair(fault: tuple[str, ...]) -> None:
    _, report = await measured(*fault)
    assert report.fair, report
    assert report.grabs == SMALL.users * SMALL.packets
    assert report.repeats.cut == report.repeats.unread == SMALL.packets
    assert report.repeats.kept == report.repeats.cut_won + report.repeats.unread_won > 0
    assert (report.refused_for_now > 0) == bool(fault)


@pytest.mark.parametrize(
    ("fault", "shows"),
    [
        ("favours_replica", lambda report: report.chances.p < 0.001),
        ("grants_twice", lambda report: report.repeats.lost_place or report.double_grabs),
        ("same_rank", lambda report: report.rank_faults),
        ("drained_early", lambda report: report.rank_faults),
        ("win_forgotten", lambda report: report.contradictions),
    ],
)
async def test_a_platform_that_is_not_fair_is_seen(fault: str, shows: Any) -> None:
    _, report = await measured(fault)
    assert shows(report), report
    assert not report.fair


async def test_the_order_of_the_start_is_the_seeds() -> None:
    (one, _), (other, _) = await measured(), await measured()
    suffixes = [[[shot.user.rpartition("-")[2] for shot in found.fired] for found in rounds] for rounds in (one, other)]
    assert suffixes[0] == suffixes[1]
    assert suffixes[0][0] != suffixes[0][1]


async def test_clients_fire_one_after_another_at_even_distances_if_asked() -> None:
    _, report = await measured(options=SMALL._replace(spread_ms=100))
    assert (report.spread_ms, report.fair) == (100, True)
    assert report.order.span_ms_p50 >= 50, "of the 95 ms between the first and the last; a late loop may take some"


async def test_a_platform_that_names_one_replica_only_cannot_be_judged() -> None:
    gateway = FakeGateway()
    gateway.replicas = "a"
    async with serving(gateway) as url:
        with pytest.raises(FairnessFailed, match="gateway_replicas"):
            await Rounds(url, OPERATOR_TOKEN, SMALL, lambda words: None).run()


async def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rounds, _ = await measured()
    draw(rounds, tmp_path / "fair.png")
    assert (tmp_path / "fair.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("fault", "code"), [((), 0), (("favours_replica",), 1)])
async def test_the_command_prints_its_report_last_and_ends_with_the_verdict(fault: tuple[str, ...], code: int) -> None:
    small = ("--users", "20", "--packets", "20", "--json")
    async with serving(FakeGateway(*fault)) as url:
        ended, stdout, stderr = await run("fairness", "--url", url, "--token", OPERATOR_TOKEN, *small)
    assert ended == code, stderr
    report = json.loads(stdout.splitlines()[-1])
    assert (report["users"], report["packets"], report["fair"]) == (20, 20, code == 0)


# The header


@simulated
async def test_every_answer_names_its_replica_also_a_refusal() -> None:
    http = await Http.start()
    packet = await http.send(count=1)
    answers = [await http.grab(packet["packet_id"], user) for user in ("bob", "carol", "bob")]
    answers += [await http.client.get(path) for path in ("/healthz", "/nowhere")]
    [replica] = {answer.headers["x-served-by"] for answer in answers}
    assert len(replica) == 16
    assert (await (await Http.start()).client.get("/healthz")).headers["x-served-by"] != replica
