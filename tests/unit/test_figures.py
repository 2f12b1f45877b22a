"""The figures of the whole system: sums over processes that come, go and begin anew, and what is exported of them."""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.host import StreamFigures
from actors.kernel.metrics import Tally, TallyFigures
from cluster.observability.metrics_snapshot import GONE_MS, AuditFigures, Gatherer, StoreFigures
from cluster.observability.prometheus import COUNTERS, HISTOGRAMS, Exporter, samples

SNAPSHOT_EVENTS = 100


def read(born_ms: int, accepted: int) -> TallyFigures:
    return TallyFigures(born_ms, {"grabs": {"accepted": accepted}})


def accepted(gathered: Gatherer) -> int:
    return gathered.figures(0).counts.get("grabs", {}).get("accepted", 0)


def test_a_shard_that_began_anew_adds_to_what_the_one_before_had_done() -> None:
    gathered = Gatherer(0, SNAPSHOT_EVENTS)
    for born_ms, count in ((1, 10), (1, 15), (2, 3), (2, 4)):
        gathered.take_shard("packet-shard-0", read(born_ms, count))
    assert accepted(gathered) == 15 + 4
    assert gathered.figures(0).counts["restarts"] == {"packet-shard-0": 1}


def test_a_new_supervisor_counts_nothing_again_that_the_one_before_has_counted() -> None:
    gathered = Gatherer(1_000, SNAPSHOT_EVENTS, counted_before_ms=1_000)
    gathered.take_shard("packet-shard-0", read(500, 10_000))  # older than the supervisor
    gathered.take_shard("packet-shard-1", read(2_000, 7))  # younger: nobody has counted that
    gathered.take_shard("packet-shard-0", read(500, 10_001))
    assert accepted(gathered) == 1 + 7


def test_the_first_supervisor_counts_what_was_done_before_it() -> None:
    gathered = Gatherer(1_000, SNAPSHOT_EVENTS)
    gathered.take_shard("packet-shard-0", read(500, 10))
    assert accepted(gathered) == 10


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 1_000)), max_size=30))
def test_no_sum_ever_goes_back_however_processes_come_and_go(readings: list[tuple[int, int]]) -> None:
    gathered, last = Gatherer(0, SNAPSHOT_EVENTS), 0
    exporter, instruments = exporter_with_instruments()
    done = dict.fromkeys((1, 2, 3), 0)
    born_ms = 1
    for life, more in readings:
        born_ms = max(born_ms, life)  # lives follow one another
        done[born_ms] += more
        gathered.take_shard("packet-shard-0", read(born_ms, done[born_ms]))
        exporter.export(gathered.figures(0))
        assert accepted(gathered) >= last
        last = accepted(gathered)
    assert last == sum(done.values())
    if readings:
        exported = instruments["hongbao_grabs_total"].values[(("outcome", "accepted"),)]
        assert exported == last, "what is exported adds up to what was done"


class Instrument:
    """An instrument with the contract of Ray's: a counter takes no negative growth."""

    def __init__(self) -> None:
        self.values: dict[Any, float] = defaultdict(float)

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value >= 0
        self.values[tuple(sorted(tags.items()))] += value

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.values[tuple(sorted(tags.items()))] = value


def exporter_with_instruments() -> tuple[Exporter, dict[str, Instrument]]:
    instruments: dict[str, Instrument] = {}

    def make(name: str, words: str, labels: tuple[str, ...], grows: bool) -> Instrument:
        assert words, f"{name} says what it is"
        instruments[name] = Instrument()
        return instruments[name]

    return Exporter(make), instruments


def test_a_store_that_began_anew_counts_from_there() -> None:
    gathered = Gatherer(0, SNAPSHOT_EVENTS)
    exporter, instruments = exporter_with_instruments()
    for fsync_us in (5_000_000, 7_000_000, 1_000_000, 1_500_000):
        gathered.store = StoreFigures(ready=True, at_ms=0, fsync_us=fsync_us, cycles=1)
        exporter.export(gathered.figures(0))
    assert instruments["hongbao_store_fsync_seconds_total"].values[()] == pytest.approx(7.0 + 1.5)


def test_every_series_is_there_at_zero_before_it_first_grows() -> None:
    gathered = Gatherer(0, SNAPSHOT_EVENTS)
    gathered.take_streams("packet-shard-0", [], 0)
    exporter, instruments = exporter_with_instruments()
    exporter.export(gathered.figures(0))
    for counted in COUNTERS.values():
        assert instruments[f"hongbao_{counted.name}_total"].values, f"{counted.name} has no series yet"
        assert set(instruments[f"hongbao_{counted.name}_total"].values.values()) == {0}


def test_an_exported_histogram_is_cumulative_and_ends_with_everything_in_seconds() -> None:
    tally = Tally(1)
    for ms in (0.4, 4, 4, 60_000):
        tally.latency("commit", ms)
    gathered = Gatherer(0, SNAPSHOT_EVENTS)
    gathered.take_shard("wallet-shard-0", tally.figures())
    exporter, instruments = exporter_with_instruments()
    exporter.export(gathered.figures(0))
    by_bound = {dict(tags)["le"]: n for tags, n in instruments["hongbao_commit_seconds_bucket"].values.items()}
    assert (by_bound["0.0005"], by_bound["0.003"], by_bound["0.005"]) == (1, 1, 3)
    assert by_bound["+Inf"] == 4
    assert list(instruments["hongbao_commit_seconds_sum"].values) == [(("part", "wallet-shard"),)]
    assert sum(instruments["hongbao_commit_seconds_sum"].values.values()) == pytest.approx(60.0084)


def test_gateways_add_up_and_one_that_is_silent_is_no_replica_any_more() -> None:
    gathered = Gatherer(0, SNAPSHOT_EVENTS)
    gathered.take_gateway("a", TallyFigures(1, {"http_requests": {"200": 5}}), 0)
    gathered.take_gateway("b", TallyFigures(2, {"http_requests": {"200": 7}}), 0)
    assert gathered.figures(0).gateways == 2
    gathered.take_gateway("b", TallyFigures(2, {"http_requests": {"200": 8}}), GONE_MS + 1)
    figures = gathered.figures(GONE_MS + 1)
    assert figures.gateways == 1
    assert figures.counts["http_requests"] == {"200": 13}, "what the gone one has done stays done"


def stream(name: str, work_behind: int, lag_ms: int = 0) -> StreamFigures:
    return StreamFigures(name, 3, 500, 0, 2, lag_ms, in_flight_fen=70, members=4, work_behind=work_behind)


def test_a_snapshot_is_overdue_from_when_it_was_due_until_it_is_taken() -> None:
    gathered = Gatherer(0, SNAPSHOT_EVENTS)
    seen = []
    for now_ms, behind in ((0, 99), (1_000, 100), (5_000, 150), (6_000, 3), (7_000, 100)):
        gathered.take_streams("packet-shard-0", [stream("packet-000", behind)], now_ms)
        seen.append(gathered.figures(now_ms).shards[0].overdue_ms)
    assert seen == [0, 0, 4_000, 0, 0]


def test_a_shard_is_the_sum_of_its_streams_or_the_worst_of_them() -> None:
    gathered = Gatherer(0, SNAPSHOT_EVENTS)
    gathered.take_streams("packet-shard-0", [stream("packet-000", 1, 10), stream("packet-001", 9, 30)], 0)
    shard = gathered.figures(0).shards[0]
    assert (shard.streams, shard.members, shard.unsettled, shard.in_flight_fen) == (2, 8, 4, 140)
    assert (shard.lag_ms, shard.unsnapshotted_events, shard.epoch_max) == (30, 9, 3)
    gathered.take_streams("packet-shard-0", [], 1_000)
    assert gathered.figures(1_000).shards[0].streams == 0, "a shard that does not report is seen not to"


def test_an_audit_that_cannot_be_made_grows_old() -> None:
    gathered = Gatherer(1_000, SNAPSHOT_EVENTS)

    def age_s(now_ms: int) -> float:
        [age] = [s.value for s in samples(gathered.figures(now_ms)) if s.name == "hongbao_audit_age_seconds"]
        return age

    assert age_s(11_000) == pytest.approx(10), "counted from the start while there was none"
    gathered.audit = AuditFigures(11_000, 5, 0, 0, 0)
    assert age_s(12_000) == pytest.approx(1)


def test_every_histogram_and_counter_has_a_name_of_its_own() -> None:
    metrics: list[Any] = [*COUNTERS.values(), *HISTOGRAMS.values()]
    names = [each.name for each in metrics]
    assert len(names) == len(set(names))
