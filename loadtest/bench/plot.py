"""Plot: throughput and p99 latency against connections, for each system, as one picture."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from loadtest.bench.ground import Point

OURS = (("#c8102e", "-"), ("#e8871e", "-"), ("#8e1b8e", "-"))
PEERS = (("#1f6fb2", "--"), ("#5f6b73", "--"))
"""Colour and line, in the order of the systems."""
INCHES = (13.0, 5.6)


def draw(points: Sequence[Point], path: Path) -> None:
    """Write the picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    figure, (left, right) = pyplot.subplots(1, 2, figsize=INCHES)
    systems = list(dict.fromkeys(point.system for point in points))
    ours, peers = itertools.cycle(OURS), itertools.cycle(PEERS)
    for system in systems:
        colour, dashes = next(ours if system.startswith("hongbao") else peers)
        found = [point for point in points if point.system == system]
        connections = [point.connections for point in found]
        style = {"marker": "o", "color": colour, "linewidth": 2, "linestyle": dashes, "label": system}
        left.plot(connections, [point.per_second for point in found], **style)
        right.plot(connections, [point.p99_ms for point in found], **style)
    plain = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    ticks = sorted({point.connections for point in points})
    for axes, title in ((left, "answers a second (grabs)"), (right, "p99 latency, ms")):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.yaxis.set_major_formatter(plain)
        axes.set_xlabel("connections, closed loop")
        axes.set_title(title)
        axes.grid(visible=True, which="both", alpha=0.25)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.suptitle("hongbao beside its peers: one machine, one run, fsync always")
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
