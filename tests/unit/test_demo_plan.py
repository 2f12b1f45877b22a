"""Demo: its population comes near the minute it replays, and its record believes nothing that is not so."""

import io
from itertools import islice

import msgspec
import pytest
from rich.console import Console

from loadtest import finale
from loadtest.demo import CHATS, DemoOptions, MinuteReplay
from loadtest.display import show
from loadtest.population import ATTEMPTS_PER_OPEN, OPENS_PER_SEND, SEED, SHARE_FEN_MAX, plans
from loadtest.result import Outcome
from loadtest.target import Target
from tests.unit.fake_gateway import FAULTS, GATEWAY_TOKEN, OPERATOR_TOKEN, START_MS, FakeGateway, serving

HARMLESS = ("answer_lost", "overloaded", "proxy_error")
FIGURES = [
    "packets", "grabs_ok", "grabs_refused", "funded_fen", "paid_fen", "refunded_fen", "remaining_fen",
    "in_flight_fen", "difference_fen", "double_grabs", "over_issued", "seconds", "grabs_per_second",
]  # fmt: skip


# The population


@pytest.mark.parametrize("seed", [1, 7, SEED])
def test_the_plan_comes_near_the_ratios_of_the_minute(seed: int) -> None:
    dealt = list(islice(plans(seed, 1_000), 4_000))
    opens = sum(plan.opens for plan in dealt)
    assert opens / len(dealt) == pytest.approx(OPENS_PER_SEND, rel=0.08)
    assert sum(plan.attempts for plan in dealt) / opens == pytest.approx(ATTEMPTS_PER_OPEN, rel=0.08)


def test_every_planned_packet_is_one_the_platform_allows() -> None:
    for plan in islice(plans(3, 1_000), 4_000):
        assert 1 <= plan.shares <= 100
        assert plan.shares <= plan.total_fen <= SHARE_FEN_MAX * plan.shares
        assert plan.kind == "lucky" or plan.total_fen % plan.shares == 0
        assert {plan.sender, *plan.taps, *plan.late} <= set(range(1_000))


def test_the_plan_has_both_kinds_all_sizes_unfinished_and_hot_packets_and_mostly_single_grabs() -> None:
    dealt = list(islice(plans(3, 1_000), 4_000))
    assert {plan.kind for plan in dealt} == {"lucky", "equal"}
    assert {1, 100} <= {plan.shares for plan in dealt}
    assert sum(plan.opens < plan.shares for plan in dealt) > 400
    assert any(len(plan.taps) > plan.shares + 50 for plan in dealt)
    assert any(len(set(plan.taps)) < len(plan.taps) for plan in dealt)
    batched = sum(len(plan.taps) for plan in dealt if plan.batched)
    assert 0 < batched < sum(plan.attempts for plan in dealt) / 4


def test_the_same_seed_gives_the_same_minute() -> None:
    assert list(islice(plans(5, 1_000), 500)) == list(islice(plans(5, 1_000), 500))
    assert list(islice(plans(5, 1_000), 500)) != list(islice(plans(6, 1_000), 500))


# The run


async def run_against(
    gateway: FakeGateway, seconds: float = 0.3, *, fresh: bool = True, advance: bool = False
) -> Outcome:
    options = DemoOptions(seconds=seconds, users=60, seed=11, connections_max=16, deadline_s=5.0, advance_clock=advance)
    async with serving(gateway) as url:
        target = Target(url, OPERATOR_TOKEN, GATEWAY_TOKEN, fresh=fresh)
        return await MinuteReplay(target, options, Console(file=io.StringIO())).run()


def broken(outcome: Outcome) -> str:
    return "; ".join(check.sentence for check in outcome.checks if not check.holds)


@pytest.mark.parametrize("faults", [(), *((fault,) for fault in HARMLESS), HARMLESS])
async def test_an_honest_platform_is_found_clean_even_when_answers_are_lost(faults: tuple[str, ...]) -> None:
    for seconds in (0.3, 1.2, 4.8, 19.2):  # until some chat has sent a second packet, however slow this machine is
        gateway = FakeGateway(*faults)
        outcome = await run_against(gateway, seconds)
        if len(gateway.packets) > CHATS:
            break
    assert not broken(outcome), outcome.violations
    assert outcome.clean
    figures = outcome.figures
    assert figures.packets == len(gateway.packets) > CHATS
    assert figures.grabs_ok == sum(len(packet.grabs) for packet in gateway.packets.values())
    assert figures.grabs_refused > 0
    assert figures.funded_fen == figures.paid_fen + figures.refunded_fen
    assert figures.refunded_fen > 0
    assert list(msgspec.to_builtins(figures)) == FIGURES


async def test_a_running_systems_clock_stands_and_what_is_left_stays_open_and_is_told() -> None:
    gateway = FakeGateway()
    outcome = await run_against(gateway, fresh=False)
    assert gateway.now_ms == START_MS
    assert not broken(outcome), outcome.violations
    left = sum(packet.view()["state"] == "open" for packet in gateway.packets.values())
    assert left > 0
    assert dict(outcome.facts)["packets left open, for a day at most"] == str(left)
    assert outcome.figures.refunded_fen == 0


async def test_a_running_systems_clock_moves_if_that_is_asked_for_by_name() -> None:
    gateway = FakeGateway()
    outcome = await run_against(gateway, fresh=False, advance=True)
    assert gateway.now_ms > START_MS + 24 * 3_600_000
    assert not broken(outcome), outcome.violations
    assert outcome.figures.refunded_fen > 0


@pytest.mark.parametrize(("fault", "sentence"), [("credit_lost", "wallets"), ("win_forgotten", "contradict")])
async def test_a_lie_is_found_also_where_no_day_passes(fault: str, sentence: str) -> None:
    outcome = await run_against(FakeGateway(fault), seconds=1.0, fresh=False)
    assert sentence in broken(outcome)


@pytest.mark.parametrize(
    ("fault", "figure"),
    [
        ("grants_twice", "double_grabs"),
        ("gives_beyond", "over_issued"),
        ("same_rank", "over_issued"),
        ("refund_lost", "wallets"),
        ("credit_lost", "wallets"),
        ("win_forgotten", "contradict"),
        ("drained_early", "contradict"),
        ("late_win", "contradict"),
        ("never_settles", "in flight"),
        ("books_differ", "every book"),
    ],
)
async def test_every_lie_of_a_platform_is_found(fault: str, figure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finale, "PATIENCE_S", 0.3)
    for seconds in (0.3, 3.0, 12.0):  # a busy machine asks less in a second; a lie is found once somebody meets it
        outcome = await run_against(FakeGateway(fault), seconds=seconds)
        found = getattr(outcome.figures, figure) > 0 if figure in FIGURES else figure in broken(outcome)
        if found:
            break
    assert found
    assert not outcome.clean


def test_every_lie_has_its_test() -> None:
    lies = {
        mark.args[1][i][0]
        for mark in test_every_lie_of_a_platform_is_found.pytestmark  # type: ignore[attr-defined]
        for i in range(len(mark.args[1]))
    }
    assert lies | set(HARMLESS) == FAULTS


async def test_the_result_is_shown_with_its_verdict() -> None:
    outcome = await run_against(FakeGateway(), seconds=0.1)
    paper = io.StringIO()
    show(outcome, Console(file=paper, width=120))
    assert "opens for each send" in paper.getvalue()
    assert "Clean: every fen is accounted for." in paper.getvalue()
