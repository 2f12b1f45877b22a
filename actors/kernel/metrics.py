"""Metrics: what one process has done since it began, as plain counters and histograms. Pure: no clock, no I/O.

Counting happens once per group or commit, never for an item that would not be touched anyway; a report reads the whole
at once. A tally only grows and dies with its process: `born_ms` tells two lives apart.
"""

from bisect import bisect_left

import msgspec

LATENCY_BOUNDS_MS = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
SIZE_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)


ACCEPTED, REPLAYED = "accepted", "replayed"
"""Outcomes of what was not refused; a refusal's outcome is its code."""


class HistogramFigures(msgspec.Struct):
    """Observations by bucket: `counts[i]` lie above `bounds[i - 1]` and up to `bounds[i]`; the last is unbounded."""

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float

    @property
    def count(self) -> int:
        """How many observations."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """Return the value below which that share (0 to 1) lies, as far as buckets can tell; None without any.

        Within a bucket values are taken as evenly spread, as in PromQL; beyond the last bound it is that bound.
        """
        rank, below, lower = share * self.count, 0, 0.0
        if not self.count:
            return None
        for upper, count in zip(self.bounds, self.counts, strict=False):
            if count and below + count >= rank:
                return lower + (upper - lower) * (rank - below) / count
            below, lower = below + count, upper
        return self.bounds[-1]

    def grown_since(self, before: "HistogramFigures | None") -> "HistogramFigures":
        """Return what was observed after `before`, an earlier reading of the same histogram."""
        if before is None:
            return HistogramFigures(self.bounds, list(self.counts), self.sum)
        counts = [now - then for now, then in zip(self.counts, before.counts, strict=True)]
        return HistogramFigures(self.bounds, counts, self.sum - before.sum)

    def add(self, other: "HistogramFigures") -> None:
        """Take another one's observations in. Both have the same bounds."""
        assert self.bounds == other.bounds, "histograms of one name have the same bounds"
        for index, count in enumerate(other.counts):
            self.counts[index] += count
        self.sum += other.sum


class TallyFigures(msgspec.Struct):
    """A reading of a tally. `counts`: family -> label -> how many; a family without labels has the label ""."""

    born_ms: int
    counts: dict[str, dict[str, int]] = {}
    histograms: dict[str, HistogramFigures] = {}


class Tally:
    """The counters of one process."""

    __slots__ = ("_counts", "_histograms", "born_ms")

    def __init__(self, born_ms: int) -> None:
        """`born_ms`: when this process began."""
        self.born_ms = born_ms
        self._counts: dict[str, dict[str, int]] = {}
        self._histograms: dict[str, HistogramFigures] = {}

    def add(self, family: str, label: str = "", by: int = 1) -> None:
        """Count `by` more."""
        counts = self._counts.get(family)
        if counts is None:
            counts = self._counts[family] = {}
        counts[label] = counts.get(label, 0) + by

    def latency(self, family: str, ms: float) -> None:
        """Observe how long something took."""
        self._observe(family, ms, LATENCY_BOUNDS_MS)

    def size(self, family: str, size: int) -> None:
        """Observe how large something was."""
        self._observe(family, size, SIZE_BOUNDS)

    def _observe(self, family: str, value: float, bounds: tuple[float, ...]) -> None:
        histogram = self._histograms.get(family)
        if histogram is None:
            histogram = self._histograms[family] = HistogramFigures(bounds, [0] * (len(bounds) + 1), 0.0)
        histogram.counts[bisect_left(bounds, value)] += 1
        histogram.sum += value

    def figures(self) -> TallyFigures:
        """Read the whole. It is the live object: encode it before the next `await`."""
        return TallyFigures(self.born_ms, self._counts, self._histograms)
