"""A chaos run without its faults, against the fake platform: crowd, history, finale and checker find every lie."""

import asyncio
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest

from actors.kernel.errors import JournalCorrupt
from loadtest import finale as finales
from loadtest import history as histories
from loadtest.chaos import crowd as crowds
from loadtest.chaos.crowd import ChaosLoad
from loadtest.chaos.faults import DECK, deal
from loadtest.chaos.run import FAULTS, ChaosFigures, is_clean
from loadtest.finale import AT_ONCE, Ending, Finale
from loadtest.history import Attempt, FaultLine, History
from loadtest.oracle import Violation, check
from loadtest.recorder import PlannedSend, Recorder, create_users
from tests.unit.fake_gateway import FAULTS as LIES
from tests.unit.fake_gateway import GATEWAY_TOKEN, LIFETIME_MS, OPERATOR_TOKEN, FakeGateway, serving

HARMLESS = {"answer_lost": "unknown", "overloaded": "later", "proxy_error": "unknown"}
FOUND_AS = {
    "grants_twice": "double_grab",
    "gives_beyond": "over_issued",
    "same_rank": "over_issued",
    "refund_lost": "wallet",
    "credit_lost": "wallet",
    "win_forgotten": "lost",
    "drained_early": "contradicted",
    "late_win": "contradicted",
    "never_settles": "unanswered",
    "books_differ": "wrong_total",
}


class Platform(FakeGateway):
    """The fake, with accounts for everybody who takes a share."""

    def __init__(self, *faults: str) -> None:
        super().__init__(*faults)
        self.wallets = defaultdict(int)


def token_of(user: str, scope: str) -> str:
    return {"operator": OPERATOR_TOKEN, "gateway": GATEWAY_TOKEN}.get(scope, user)


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for bound, few in {"TAKERS": 30, "SENDERS": 6, "POOR": 2, "PEOPLE_MAX": 20}.items():
        monkeypatch.setattr(crowds, bound, few)
    monkeypatch.setattr(crowds, "TAPS_SPREAD_S", 0.02)
    monkeypatch.setattr(crowds, "PAUSE_S", (0.0, 0.01))
    monkeypatch.setattr(finales, "PAUSE_S", 0.01)


async def run_against(platform: Platform, folder: Path, attempts: int = 300) -> tuple[list[Attempt], list[Violation]]:
    history = History(folder / "history.ndjson")

    async def journals() -> dict[str, int]:
        return {user: fen for user, fen in platform.wallets.items() if fen}

    async with serving(platform) as url, Recorder(url, history, token_of, seed=1) as recorder:
        crowd = ChaosLoad(recorder, seed=1)
        await create_users(recorder.operator, crowd.credited_fen, AT_ONCE)
        stop = asyncio.Event()
        load = asyncio.create_task(crowd.run(stop))
        while len(history.attempts) < attempts and not load.done():  # noqa: ASYNC110 - the product has no event for it
            await asyncio.sleep(0.01)
        stop.set()
        await load
        ending = Ending(LIFETIME_MS + 1_000, asks_all_again=True, replay=journals)
        final = await Finale(recorder, crowd.credited_fen, ending, lambda words: None).run()
    history.close()
    return history.attempts, check(history.attempts, final)


@pytest.mark.parametrize("fault", ["", *HARMLESS])
async def test_an_honest_platform_is_clean_however_many_answers_are_lost(fault: str, tmp_path: Path) -> None:
    attempts, violations = await run_against(Platform(*([fault] if fault else [])), tmp_path)
    assert violations == []
    assert {attempt.outcome for attempt in attempts} == {"ok", "refused", *([HARMLESS[fault]] if fault else [])}


@pytest.mark.parametrize("lie", FOUND_AS)
async def test_every_lie_of_a_platform_is_found(lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finales, "PATIENCE_S", 0.5)
    _, violations = await run_against(Platform(lie), tmp_path)
    assert FOUND_AS[lie] in {violation.kind for violation in violations}


def test_every_lie_has_its_test() -> None:
    assert FOUND_AS.keys() | set(HARMLESS) == LIES


async def test_the_file_tells_what_the_memory_holds(tmp_path: Path) -> None:
    attempts, _ = await run_against(Platform("answer_lost"), tmp_path, attempts=100)
    lines = (tmp_path / "history.ndjson").read_bytes().splitlines()
    assert [msgspec.json.decode(line) for line in lines] == msgspec.json.decode(msgspec.json.encode(attempts))


async def test_an_attempt_that_is_broken_off_is_unknown(tmp_path: Path) -> None:
    history = History(tmp_path / "history.ndjson")
    async with serving(Platform()) as url, Recorder(url, history, token_of, seed=1) as recorder:
        asking = asyncio.create_task(recorder.try_send(PlannedSend("li", "key", "equal", 10, 1)))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    [attempt] = history.attempts
    assert attempt.outcome == "unknown"


async def test_a_crowd_stops_when_the_history_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "ATTEMPTS_MAX", 100)
    attempts, violations = await run_against(Platform(), tmp_path, attempts=1_000_000)
    assert len(attempts) > 100
    assert violations == []


def test_a_seed_names_the_order_and_every_kind_comes_soon() -> None:
    dealt = deal(7, FAULTS)
    assert dealt == deal(7, FAULTS) != deal(8, FAULTS)
    assert set(dealt[: len(DECK)]) == set(DECK)
    assert len(dealt) >= 60
    assert len(DECK) >= 8
    assert len(deal(7, 500)) == 500
    assert set(deal(7, 20, ["store", "gcs"])) == {"store", "gcs"}


def test_any_violation_makes_a_run_unclean() -> None:
    clean = ChaosFigures(
        faults=1,
        by_kind={"store": 1},
        requests=9,
        acknowledged=5,
        unknown=3,
        lost=0,
        contradicted=0,
        over_issued=0,
        double_grabs=0,
        difference_fen=0,
        recovery_ms={"store": {"p50": 1, "max": 1}},
        negative_balances=0,
        wrong_totals=0,
        unanswered=0,
        not_recovered=0,
        unclear=0,
        activations=16,
        snapshots=1,
        sealed_parts=1,
        passivated=1,
        seed=1,
        seconds=1.0,
    )
    assert is_clean(clean)
    for name in (
        *("lost", "contradicted", "over_issued", "double_grabs", "difference_fen", "negative_balances"),
        *("wrong_totals", "unanswered", "not_recovered", "unclear"),
    ):
        assert not is_clean(msgspec.structs.replace(clean, **{name: 1}))


def test_a_fault_stands_between_the_attempts_of_the_file(tmp_path: Path) -> None:
    history = History(tmp_path / "history.ndjson")
    history.mark(FaultLine(kind="store", at_us=5, recovery_ms=12))
    history.close()
    line = msgspec.json.decode((tmp_path / "history.ndjson").read_bytes())
    assert line == {"what": "fault", "kind": "store", "at_us": 5, "recovery_ms": 12, "note": ""}


async def test_journals_that_cannot_be_replayed_are_a_violation(tmp_path: Path) -> None:
    async def corrupt() -> dict[str, int]:
        raise JournalCorrupt("journal packet-000: 1-2 does not chain")

    history = History(tmp_path / "history.ndjson")
    async with serving(Platform()) as url, Recorder(url, history, token_of, seed=1) as recorder:
        final = await Finale(recorder, {}, Ending(1_001, replay=corrupt), lambda words: None).run()
    assert [violation.kind for violation in check(history.attempts, final)] == ["unanswered"]
