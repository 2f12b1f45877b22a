"""`hongbao top`: what two readings say, and how it looks on terminals of any size. No system, no clock."""

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from actors.kernel.metrics import LATENCY_BOUNDS_MS, HistogramFigures
from cluster.commands.top import troubles, view
from cluster.observability.metrics_snapshot import AuditFigures, Figures, ShardFigures, StoreFigures
from cluster.observability.summary import Summary, summarize

SHARD = ShardFigures("packet-shard-0", 8, 3, 1_234, 5, 4_187, 45, 900, 0)
URL = "http://127.0.0.1:22759"


def latencies(*counts: int) -> HistogramFigures:
    return HistogramFigures(LATENCY_BOUNDS_MS, [*counts, *([0] * (len(LATENCY_BOUNDS_MS) + 1 - len(counts)))], 1.0)


def figures(at_ms: int, accepted: int, drained: int, local: int = 0, **changes: Any) -> Figures:
    """Return figures as a system gives them at that time."""
    made = Figures(
        at_ms=at_ms,
        born_ms=1,
        counts={
            "grabs": {"accepted": accepted, "drained": drained, "replayed": 1},
            "local_grabs": {"drained": local},
            "http_requests": {"200": accepted, "409": drained},
        },
        histograms={
            "commit": {"packet-shard": latencies(0, 10 * (at_ms // 1_000))},
            "batch_size": {"packet-shard": HistogramFigures((1, 10, 100), [0, at_ms // 1_000, 0, 0], 5.0)},
        },
        shards=[SHARD],
        streams=[],
        gateways=2,
        store=StoreFigures(True, at_ms, 2_000_000, 12_000_000_000, 40_000 * (at_ms // 1_000), 5),
        audit=AuditFigures(at_ms - 9_000, 20, 0, 0, 77),
    )
    return msgspec.structs.replace(made, **changes)


def seen(**changes: Any) -> Summary:
    return summarize(figures(6_000, 1_100, 5_000, 90, **changes), figures(1_000, 100, 0, 40))


def test_a_rate_is_what_grew_between_two_readings_a_second() -> None:
    assert seen().over_ms == 5_000
    assert seen().rates["accepted"] == 200
    assert seen().rates["refused"] == 1_000 + 10, "also what gateways refused by themselves"
    assert seen().rates["grabs"] == 200 + 1_000 + 10
    assert seen().refused == {"drained": 1_010}
    assert seen().spreads["commit packet-shard"].count == 50
    assert seen().spreads["commit packet-shard"].p50 == pytest.approx(0.75)
    assert seen().spreads["batch_size"].p50 == 6, "a number of things is a whole one"


def test_fsync_is_the_stores_time_on_its_log_shared_by_the_entries() -> None:
    assert seen().fsync_share == pytest.approx(0.04)
    assert seen().fsync_ms_mean == pytest.approx(200 / 50)
    silent = StoreFigures(True, 6_000)
    assert seen(store=silent).fsync_ms_mean is None
    again = StoreFigures(True, 6_000, 1, 1, fsync_us=10)
    assert seen(store=again).fsync_share is None, "a store that began anew says nothing about the time before"


def test_a_reading_of_another_supervisors_life_is_not_compared() -> None:
    fresh = summarize(figures(6_000, 5, 5, born_ms=5_000), figures(1_000, 100, 50))
    assert fresh.rates["accepted"] == 5, "5 in the one second since it began"
    assert min(fresh.rates.values()) >= 0


def test_calm_figures_are_no_trouble() -> None:
    assert troubles(seen()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"audit": AuditFigures(6_000, 1, -5, 0, 0)}, "THE BOOKS DIFFER"),
        ({"audit": AuditFigures(6_000, 1, 0, 5, 0)}, "THE BOOKS DIFFER"),
        ({"store": StoreFigures(False, 6_000)}, "store takes no writes"),
        ({"shards": [msgspec.structs.replace(SHARD, streams=0)]}, "no report from packet-shard-0"),
        ({"shards": [msgspec.structs.replace(SHARD, lag_ms=1_500)]}, "settlement is 1.5 s behind"),
        ({"shards": [msgspec.structs.replace(SHARD, overdue_ms=90_000)]}, "snapshot is overdue"),
        ({"counts": {"http_requests": {"503": 50}}}, "10.0 requests/s fail"),
    ],
)
def test_what_is_wrong_is_said_in_words(changes: dict[str, Any], words: str) -> None:
    [trouble] = troubles(seen(**changes))
    assert words in trouble
    assert words in drawn(seen(**changes), 80, 24)[1]


def drawn(what: Summary, width: int, height: int) -> list[str]:
    """Return the lines as a terminal of that size shows them."""
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(view(what, URL, width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 40), (200, 60)])
@pytest.mark.parametrize("shards", [1, 2, 500])
def test_it_fits_the_terminal_with_every_figure(width: int, height: int, shards: int) -> None:
    many = [msgspec.structs.replace(SHARD, host=f"packet-shard-{i}", members=10**8) for i in range(shards)]
    huge = {"accepted": 10**9, "drained": 5 * 10**9}
    lines = drawn(seen(shards=many, counts={"grabs": huge, "http_requests": huge}), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for words in ("grabs accepted", "commit packets, ms", "settlement lag", "difference", "packet-shard-0", "fsync"):
        assert words in text
    assert "…" not in text.replace("… 4", ""), "nothing is cut but the shards for which there is no room"


def test_the_worst_shards_come_first_where_not_all_have_room() -> None:
    many = [msgspec.structs.replace(SHARD, host=f"packet-shard-{i:03d}") for i in range(100)]
    many[77] = msgspec.structs.replace(many[77], streams=0)
    many[55] = msgspec.structs.replace(many[55], lag_ms=9_000)
    rows = [line for line in drawn(seen(shards=many), 80, 24) if line.startswith("packet-shard-")]
    assert rows[0].startswith("packet-shard-077")
    assert rows[1].startswith("packet-shard-055")
