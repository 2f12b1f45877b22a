"""Metrics snapshot: what the whole system does, gathered in the supervisor from the tallies of its processes.

Pure. A process that began anew starts its tally at 0; the sums here go on: they never go back while the supervisor
lives, and what is read at its own start is where it counts from. Amounts in fen, instants in Unix ms.
"""

import msgspec

from actors.kernel.host import StreamFigures
from actors.kernel.metrics import HistogramFigures, TallyFigures

SOURCES_MAX = 4_096
"""Processes whose last reading is kept; a gateway replica that has gone is dropped after `GONE_MS`."""

GONE_MS = 60_000

GATEWAY = "gateway"


class ShardFigures(msgspec.Struct):
    """One stream host: its streams in sum, or the worst of them."""

    host: str
    streams: int
    epoch_max: int
    members: int
    unsettled: int
    in_flight_fen: int
    lag_ms: int
    unsnapshotted_events: int
    """Events, and transfers within them, behind the last snapshot, of the stream that has most."""
    overdue_ms: int
    """How long a stream has been waiting for a snapshot that was due."""
    withheld: int = 0
    """Packets met whose seed the platform's keys do not give."""


class AuditFigures(msgspec.Struct):
    """The last audit that could be made."""

    at_ms: int
    took_ms: int
    difference_fen: int
    book_sum_fen: int
    """The sum of the absolute sums of all books."""
    in_flight_fen: int


class StoreFigures(msgspec.Struct):
    """The store, as it says itself. None: it does not say."""

    ready: bool
    at_ms: int
    memory_bytes: int | None = None
    memory_bytes_max: int | None = None
    fsync_us: int | None = None
    """Since its start, what its event loop spent on writing and syncing its log."""
    cycles: int | None = None


class Figures(msgspec.Struct):
    """All figures at one moment. `counts` and `histograms` only grow until `born_ms` changes."""

    at_ms: int
    born_ms: int
    counts: dict[str, dict[str, int]]
    """family -> label -> count; the label of what has none in its tally is the host that counted it."""
    histograms: dict[str, dict[str, HistogramFigures]]
    """family -> kind of process ("packet-shard", "wallet-shard", "gateway") -> what was observed."""
    shards: list[ShardFigures]
    streams: list[StreamFigures]
    gateways: int
    store: StoreFigures | None
    audit: AuditFigures | None


class Gatherer:
    """Takes readings in and adds them up."""

    def __init__(self, born_ms: int, snapshot_events: int, counted_before_ms: int = 0) -> None:
        """`snapshot_events`: so many events behind the last snapshot make a new one due.

        `counted_before_ms`: what processes older than that had done was counted by a supervisor before this one.
        """
        self._counted_before_ms = counted_before_ms
        self.audit: AuditFigures | None = None
        self.store: StoreFigures | None = None
        self._born_ms = born_ms
        self._snapshot_events = snapshot_events
        self._counts: dict[str, dict[str, int]] = {}
        self._histograms: dict[str, dict[str, HistogramFigures]] = {}
        self._last: dict[str, TallyFigures] = {}
        self._gateways: dict[str, int] = {}
        self._streams: dict[str, list[StreamFigures]] = {}
        self._due_since_ms: dict[str, int] = {}

    def add(self, family: str, label: str = "", by: int = 1) -> None:
        """Count something that the supervisor itself has seen."""
        counts = self._counts.setdefault(family, {})
        counts[label] = counts.get(label, 0) + by

    def take_shard(self, host: str, read: TallyFigures) -> None:
        """Take the reading of a stream host in."""
        last = self._last.get(host)
        if last is not None and last.born_ms != read.born_ms:
            self.add("restarts", host)
        self._take(host, host.rpartition("-")[0], read)

    def take_gateway(self, replica: str, read: TallyFigures, now_ms: int) -> None:
        """Take the reading of a gateway replica in, and forget replicas that are silent for long."""
        self._take(replica, GATEWAY, read)
        self._gateways[replica] = now_ms
        for gone in [name for name, at_ms in self._gateways.items() if now_ms - at_ms > GONE_MS]:
            del self._gateways[gone], self._last[gone]

    def take_streams(self, host: str, reports: list[StreamFigures], now_ms: int) -> None:
        """Take what a host reports of its streams; an empty list when it does not report."""
        self._streams[host] = reports
        for each in reports:
            if each.work_behind < self._snapshot_events:
                self._due_since_ms.pop(each.stream, None)
            else:
                self._due_since_ms.setdefault(each.stream, now_ms)

    def _take(self, source: str, kind: str, read: TallyFigures) -> None:
        """Add what has grown since the last reading of the same life."""
        last = self._last.get(source)
        if last is None and read.born_ms < self._counted_before_ms:
            last = read
        elif last is None or last.born_ms != read.born_ms:
            last = TallyFigures(read.born_ms)
        if len(self._last) < SOURCES_MAX or source in self._last:
            self._last[source] = read
        for family, counts in read.counts.items():
            before = last.counts.get(family, {})
            for label, count in counts.items():
                self.add(family, label or (GATEWAY if kind == GATEWAY else source), count - before.get(label, 0))
        for family, histogram in read.histograms.items():
            grown = histogram.grown_since(last.histograms.get(family))
            empty = HistogramFigures(grown.bounds, [0] * len(grown.counts), 0.0)
            self._histograms.setdefault(family, {}).setdefault(kind, empty).add(grown)

    def figures(self, now_ms: int) -> Figures:
        """Return everything as of now. Not a copy: encode or read it before the next reading is taken in."""
        return Figures(
            at_ms=now_ms,
            born_ms=self._born_ms,
            counts=self._counts,
            histograms=self._histograms,
            shards=[self._shard(host, reports, now_ms) for host, reports in sorted(self._streams.items())],
            streams=[each for _, reports in sorted(self._streams.items()) for each in reports],
            gateways=sum(now_ms - at_ms <= GONE_MS // 6 for at_ms in self._gateways.values()),
            store=self.store,
            audit=self.audit,
        )

    def _shard(self, host: str, reports: list[StreamFigures], now_ms: int) -> ShardFigures:
        due_ms = [self._due_since_ms[each.stream] for each in reports if each.stream in self._due_since_ms]
        return ShardFigures(
            host=host,
            streams=len(reports),
            epoch_max=max((each.epoch for each in reports), default=0),
            members=sum(each.members for each in reports),
            unsettled=sum(each.unsettled for each in reports),
            in_flight_fen=sum(each.in_flight_fen for each in reports),
            lag_ms=max((each.oldest_unsettled_ms for each in reports), default=0),
            unsnapshotted_events=max((each.work_behind for each in reports), default=0),
            overdue_ms=max((now_ms - since_ms for since_ms in due_ms), default=0),
            withheld=sum(each.withheld for each in reports),
        )
