"""Counting within one process: what is counted once for a group is what each of the group was told."""

import pytest

from actors.kernel.messages import Refused
from actors.kernel.metrics import LATENCY_BOUNDS_MS, HistogramFigures, Tally
from actors.packet.commands import Grab, GrabMany, View
from actors.packet.grab_metrics import count_grabs
from actors.packet.replies import Shares, Takings, Won
from actors.refusals import Refusal

DRAINED = Refused(Refusal.DRAINED)


def won(replayed: bool = False) -> Won:
    return Won(1, 10, 1_000, replayed)


def test_every_grab_of_a_call_is_counted_by_what_it_was_told() -> None:
    tally = Tally(1)
    commands = [
        Grab("p", "wechat", "a"),
        GrabMany("p", "wechat", ["b", "c", "d"]),
        GrabMany("q", "wechat", ["e", "f"]),
        GrabMany("r", "wechat", ["g", "h", "i"]),
        View("p", "wechat"),
    ]
    replies = [won(), Takings([won(), won(True), DRAINED]), DRAINED, Shares(1, [3, 4, 5], 1_000), DRAINED]
    count_grabs(tally, [("packet-000", commands[:3]), ("packet-001", commands[3:])], [replies[:3], replies[3:]])
    figures = tally.figures()
    assert figures.counts["grabs"] == {"accepted": 5, "replayed": 1, "drained": 3}
    assert figures.histograms["batch_size"].count == 1, "a call is one observation, however many streams it asks"
    assert figures.histograms["batch_size"].sum == 9


def test_a_call_without_grabs_is_no_batch_of_grabs() -> None:
    tally = Tally(1)
    count_grabs(tally, [("packet-000", [View("p", "wechat")])], [[DRAINED]])
    assert tally.figures().counts == {}
    assert tally.figures().histograms == {}


def test_a_value_on_a_bound_belongs_to_the_bucket_below_it() -> None:
    tally = Tally(1)
    for ms in (0.5, 0.6, 1, 1.01, 99_999):
        tally.latency("commit", ms)
    counts = tally.figures().histograms["commit"].counts
    assert counts[:3] == [1, 2, 1]
    assert counts[-1] == 1, "what is beyond the last bound is counted, too"
    assert len(counts) == len(LATENCY_BOUNDS_MS) + 1


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([0, 0, 0], 0.5, None),
        ([10, 0, 0], 0.5, 0.5),
        ([10, 10, 0], 0.5, 1.0),
        ([10, 10, 0], 0.75, 1.5),
        ([0, 0, 7], 0.99, 2.0),
        ([0, 4, 0], 1.0, 2.0),
    ],
)
def test_a_quantile_is_what_promql_makes_of_the_same_buckets(
    counts: list[int], share: float, expected: float | None
) -> None:
    assert HistogramFigures((1.0, 2.0), counts, 0.0).quantile(share) == expected


def test_what_grew_between_two_readings_is_their_difference() -> None:
    before = HistogramFigures((1.0, 2.0), [1, 2, 3], 10.0)
    now = HistogramFigures((1.0, 2.0), [2, 2, 5], 30.0)
    assert now.grown_since(before) == HistogramFigures((1.0, 2.0), [1, 0, 2], 20.0)
    whole = now.grown_since(None)
    whole.add(before)
    assert now.counts == [2, 2, 5], "a reading is not changed by what is made of it"
    assert whole.counts == [3, 4, 8]
