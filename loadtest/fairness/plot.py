"""Plot: chances by round, rank against the order of the requests, and waits, as one picture."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from loadtest.fairness.run import Round

COLOURS = ("#c8102e", "#1f6fb2", "#e8871e", "#5f6b73", "#8e1b8e")
"""Of the replicas in turn; a further one begins anew."""
INCHES = (16.0, 5.6)
BINS = 40


def draw(rounds: Sequence[Round], path: Path) -> None:
    """Write the picture. Raises ModuleNotFoundError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=INCHES)
    shots = [
        (number, place, shot, shot.told)
        for number, found in enumerate(rounds, 1)
        for place, shot in enumerate(sorted(found.fired, key=lambda one: one.sent_s), 1)
        if shot.told is not None
    ]
    for at, replica in enumerate(sorted({told.served_by for *_, told in shots})):
        style = {"color": COLOURS[at % len(COLOURS)], "label": f"replica {replica[:4]}"}
        own = [shot for shot in shots if shot[3].served_by == replica]
        asked = Counter(number for number, *_ in own)
        won = Counter(number for number, _, _, told in own if told.rank)
        left.plot(list(asked), [won[number] / asked[number] for number in asked], marker="o", linestyle="", **style)
        left.axhline(won.total() / asked.total(), linewidth=2, **{**style, "label": None})
        ranked = [(place, told.rank) for _, place, _, told in own if told.rank]
        middle.scatter([place for place, _ in ranked], [rank for _, rank in ranked], s=4, alpha=0.4, **style)
        waits = [1_000 * (shot.answered_s - shot.sent_s) for _, _, shot, _ in own]
        right.hist(waits, bins=BINS, histtype="step", linewidth=2, **style)
    for axes, title, across in (
        (left, "part of a replica's requests that won; lines: all rounds", "round"),
        (middle, "rank of the winners", "place in the order of sending"),
        (right, "answers by wait", "ms from request to answer"),
    ):
        axes.set_title(title)
        axes.set_xlabel(across)
        axes.grid(visible=True, alpha=0.25)
    left.set_ylim(-0.03, 1.03)
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=max(1, len(labels)), frameon=False, fontsize=9)
    clients = len(rounds[0].fired)
    figure.suptitle(f"{len(rounds)} packets, {clients} equal clients and {rounds[0].shares} shares each")
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
