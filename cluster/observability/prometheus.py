"""Prometheus: the figures of the system under Prometheus names, through `ray.util.metrics`.

One process exports them, the supervisor, once a `report_ms`; Ray adds `ray_` in front and its own labels (`WorkerId`,
`NodeAddress`, ...), and serves them on its metrics port. Base units are seconds, bytes and fen.

A histogram is a counter with the label `le` (cumulative, as in Prometheus) and one for its sum: Ray's own Histogram
takes one value at a time, and its agent rebuilds every observation in Python from the middle of its bucket. So
`histogram_quantile(0.99, sum by (le) (rate(ray_hongbao_commit_seconds_bucket_total[1m])))`, and sums are exact.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from actors.kernel.metrics import ACCEPTED, REPLAYED
from cluster.observability.metrics_snapshot import Figures

MS, FEN, BYTES, COUNT = 0.001, 1.0, 1.0, 1.0


class Counted(NamedTuple):
    """A family of counters: `hongbao_<name>_total{label}`. `known`: labels that are there from the start, at 0."""

    name: str
    label: str
    words: str
    known: tuple[str, ...] = ()


class Observed(NamedTuple):
    """A family of histograms: `hongbao_<name>_bucket{part, le}` and `_sum{part}`. `unit`: of 1 in its tally."""

    name: str
    unit: float
    words: str


class Measured(NamedTuple):
    """A gauge: `hongbao_<name>{labels}`."""

    name: str
    labels: tuple[str, ...]
    words: str


_TAKEN = (ACCEPTED, REPLAYED)
_DOWN = ("overloaded", "paused", "journal_unavailable", "shard_unavailable")
_FAILURES = ("FencedOut", "JournalUnavailable", "JournalFull")
COUNTERS = {
    "grabs": Counted(
        "grabs",
        "outcome",
        "Grabs answered by shards: accepted, replayed, or the code of the refusal.",
        (*_TAKEN, "drained", "expired", "packet_not_found", "seed_unknown", *_DOWN),
    ),
    "local_grabs": Counted(
        "local_grabs", "outcome", "Grabs answered by gateways alone, without a shard.", ("drained", "expired")
    ),
    "sends": Counted(
        "sends",
        "outcome",
        "Sends answered by wallet shards: accepted, replayed, or the code of the refusal.",
        (*_TAKEN, "insufficient_funds", *_DOWN),
    ),
    "shed": Counted(
        "shed",
        "kind",
        "Requests refused early by gateways, by kind; full: too many were under way.",
        ("send", "grab_many", "grab", "read", "last", "stream_line", "full"),
    ),
    "queue_drops": Counted(
        "queue_drops",
        "reason",
        "Items that left a gateway's queue without a call, and items sent again.",
        ("refused_full", "refused_packet_full", "refused_late", "gone", "repeated"),
    ),
    "http_requests": Counted("http_requests", "status", "HTTP responses by status.", ("200", "429", "500", "503")),
    "commit_bytes": Counted("commit_bytes", "shard", "Bytes of journal entries made durable."),
    "commit_failures": Counted(
        "commit_failures", "failure", "Appends and confirmations that failed, by what failed.", _FAILURES
    ),
    "activations": Counted("activations", "shard", "Streams activated: each takes an epoch, fences the one before."),
    "activation_failures": Counted(
        "activation_failures",
        "failure",
        "Activations that failed, by what failed.",
        (*_FAILURES[:2], "JournalCorrupt", "WrongKeys"),
    ),
    "passivations": Counted("passivations", "shard", "Ended packets that left memory."),
    "recalls": Counted("recalls", "shard", "Packets looked up after they had left memory."),
    "restarts": Counted("restarts", "shard", "Shard processes that began anew."),
    "maintenance_failures": Counted("maintenance_failures", "shard", "Streams that got no snapshot though it was due."),
    "audits": Counted(
        "audits",
        "outcome",
        "Audits by the supervisor; failed: a book could not be read.",
        ("clean", "unclean", "failed"),
    ),
}
"""family in the tallies -> how it is exported"""

HISTOGRAMS = {
    "commit": Observed("commit_seconds", MS, "Round trip of an append, until the store has it on disk."),
    "confirm": Observed("confirm_seconds", MS, "Round trip that confirms an epoch with nothing to append."),
    "activation": Observed("activation_seconds", MS, "Fence and replay of one stream."),
    "queueing": Observed("queueing_seconds", MS, "How long the oldest item of a call to a shard had waited."),
    "request": Observed("http_request_seconds", MS, "A request within its gateway replica."),
    "batch_size": Observed("batch_size", COUNT, "Grabs in one call to a packet shard."),
    "commit_size": Observed("commit_size", COUNT, "Events in one journal entry."),
}

_SHARD, _NONE = ("shard",), ()
GAUGES = [
    Measured("streams", _SHARD, "Streams of a shard that are active."),
    Measured("epoch_max", _SHARD, "The greatest epoch of a shard's streams."),
    Measured("members", _SHARD, "Packets or accounts in memory."),
    Measured(
        "packets_withheld", _SHARD, "Packets met whose seed the platform's keys do not give: anything but 0 is one."
    ),
    Measured("unsettled_transfers", _SHARD, "Transfers sent and not yet acknowledged by their receiver."),
    Measured("in_flight_fen", _SHARD, "Money in them."),
    Measured("settlement_lag_seconds", _SHARD, "Age of the oldest of them."),
    Measured("unsnapshotted_events", _SHARD, "Events behind the last snapshot, of the stream that has most."),
    Measured("snapshot_overdue_seconds", _SHARD, "How long a stream has waited for a snapshot that was due."),
    Measured("conservation_difference_fen", _NONE, "The last audit's difference; anything but 0 is an emergency."),
    Measured("book_sum_fen", _NONE, "The last audit's sum of the absolute sums of all books; 0."),
    Measured("audit_in_flight_fen", _NONE, "The last audit's money between two books."),
    Measured("audit_age_seconds", _NONE, "Time since the last audit that could be made."),
    Measured("store_ready", _NONE, "1 if the store takes writes now."),
    Measured("store_memory_bytes", _NONE, "Memory the store uses."),
    Measured("store_memory_max_bytes", _NONE, "Memory it may use; 0: unbounded."),
    Measured("gateways", _NONE, "Gateway replicas that report."),
]
STORE_COUNTERS = [
    Counted("store_fsync_seconds", "", "Time the store's event loop spent on writing and syncing its log."),
    Counted("store_cycles", "", "Turns of the store's event loop; with always-fsync each syncs at most once."),
]


class Sample(NamedTuple):
    """One value of one series. `grows`: it is a counter's sum."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float
    grows: bool


def samples(figures: Figures) -> Iterator[Sample]:
    """Yield every series of the figures, whatever exports them."""
    for family, counted in COUNTERS.items():
        known = [shard.host for shard in figures.shards] if counted.label == "shard" else counted.known
        for label, count in (dict.fromkeys(known, 0) | figures.counts.get(family, {})).items():
            yield Sample(f"hongbao_{counted.name}_total", ((counted.label, str(label)),), count, True)
    for family, observed in HISTOGRAMS.items():
        for part, histogram in figures.histograms.get(family, {}).items():
            below = 0
            for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
                below += count
                le = "+Inf" if bound is None else f"{bound * observed.unit:g}"
                yield Sample(f"hongbao_{observed.name}_bucket", (("part", part), ("le", le)), below, True)
            yield Sample(f"hongbao_{observed.name}_sum", (("part", part),), histogram.sum * observed.unit, True)
    yield from _gauges(figures)


def _gauges(figures: Figures) -> Iterator[Sample]:
    for shard in figures.shards:
        labels = (("shard", shard.host),)
        for name, value in (
            ("streams", shard.streams),
            ("epoch_max", shard.epoch_max),
            ("members", shard.members),
            ("packets_withheld", shard.withheld),
            ("unsettled_transfers", shard.unsettled),
            ("in_flight_fen", shard.in_flight_fen),
            ("settlement_lag_seconds", shard.lag_ms * MS),
            ("unsnapshotted_events", shard.unsnapshotted_events),
            ("snapshot_overdue_seconds", shard.overdue_ms * MS),
        ):
            yield Sample(f"hongbao_{name}", labels, value, False)
    audit, store = figures.audit, figures.store
    found: dict[str, float | None] = {"gateways": figures.gateways}
    found["audit_age_seconds"] = (figures.at_ms - (audit.at_ms if audit else figures.born_ms)) * MS
    if audit is not None:
        found["conservation_difference_fen"] = audit.difference_fen
        found["book_sum_fen"] = audit.book_sum_fen
        found["audit_in_flight_fen"] = audit.in_flight_fen
    if store is not None:
        found["store_ready"] = int(store.ready)
        found["store_memory_bytes"] = store.memory_bytes
        found["store_memory_max_bytes"] = store.memory_bytes_max
        if store.fsync_us is not None:
            yield Sample("hongbao_store_fsync_seconds_total", (), store.fsync_us / 1_000_000, True)
        if store.cycles is not None:
            yield Sample("hongbao_store_cycles_total", (), store.cycles, True)
    for name, found_value in found.items():
        if found_value is not None:
            yield Sample(f"hongbao_{name}", (), found_value, False)


Instruments = Callable[[str, str, tuple[str, ...], bool], Any]
"""(name, description, label names, grows) -> an object with `inc` or `set`, as in `ray.util.metrics`; `inc` takes 0."""


def ray_instrument(name: str, words: str, labels: tuple[str, ...], grows: bool) -> Any:
    """Make a counter or gauge of Ray's."""
    from ray.util import metrics

    class FromZero(metrics.Counter):  # type: ignore[misc]
        def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
            # Ray's own refuses 0. But a series must be there before it first grows, or `increase` misses that.
            self._record(value, tags=tags)

    return (FromZero if grows else metrics.Gauge)(name, words, labels)


class Exporter:
    """Carries samples into instruments: sets gauges, and adds to a counter what its sum has grown by."""

    def __init__(self, make: Instruments = ray_instrument) -> None:
        """`make`: how an instrument is made."""
        self._make = make
        self._instruments: dict[str, Any] = {}
        self._sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._words = _words()

    def export(self, figures: Figures) -> None:
        """Export everything once. A sum that is smaller than before (a store that began anew) counts from there."""
        for sample in samples(figures):
            instrument = self._instruments.get(sample.name)
            if instrument is None:
                names = tuple(name for name, _ in sample.labels)
                instrument = self._make(sample.name, self._words[sample.name], names, sample.grows)
                self._instruments[sample.name] = instrument
            if not sample.grows:
                instrument.set(sample.value, dict(sample.labels))
                continue
            key = (sample.name, sample.labels)
            known = key in self._sums
            before = self._sums.get(key, 0)
            self._sums[key] = sample.value
            grown = sample.value - before if sample.value >= before else sample.value
            if not known:
                instrument.inc(0, dict(sample.labels))
            if grown > 0:
                instrument.inc(grown, dict(sample.labels))


def _words() -> dict[str, str]:
    """Return what each name means."""
    words = {f"hongbao_{each.name}_total": each.words for each in (*COUNTERS.values(), *STORE_COUNTERS)}
    for observed in HISTOGRAMS.values():
        words[f"hongbao_{observed.name}_bucket"] = f"{observed.words} (cumulative)"
        words[f"hongbao_{observed.name}_sum"] = f"{observed.words} (sum)"
    return words | {f"hongbao_{each.name}": each.words for each in GAUGES}
