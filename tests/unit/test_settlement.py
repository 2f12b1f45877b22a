"""Settlement plan: deliveries grouped by destination, and only news is acknowledged."""

from actors.kernel.messages import Refused
from actors.ledger.transfer import Acknowledge, Outgoing, Receive, Watermark
from actors.refusals import Refusal
from actors.settlement.plan import acknowledgements, deliveries


def outgoing(source: str, destination: str, before: int = 0) -> Outgoing:
    return Outgoing(source, destination, Receive(source, before, 0))


def test_each_destination_is_called_once_with_everything_for_it() -> None:
    batches = [outgoing("p0", "w0"), outgoing("p1", "w1"), outgoing("p1", "w0")]
    groups = dict(deliveries(batches))
    assert groups == {"w0": [batches[0].receive, batches[2].receive], "w1": [batches[1].receive]}
    assert deliveries([]) == []


def test_only_a_watermark_beyond_what_the_source_knew_is_acknowledged() -> None:
    groups = deliveries([outgoing("p0", "w0", 5), outgoing("p1", "w0", 5), outgoing("p2", "w0", 5)])
    replies = [[Watermark(6, 100), Watermark(5, 90), Watermark(4, 80)]]
    assert acknowledgements(groups, replies) == [("p0", [Acknowledge("w0", 6)])]


def test_a_refusal_acknowledges_nothing() -> None:
    groups = deliveries([outgoing("p0", "w0"), outgoing("p1", "w0")])
    replies = [[Refused(Refusal.SHARD_UNAVAILABLE), Watermark(1, 5)]]
    assert acknowledgements(groups, replies) == [("p1", [Acknowledge("w0", 1)])]


def test_a_source_hears_of_all_its_destinations_at_once() -> None:
    groups = deliveries([outgoing("p0", "w0"), outgoing("p0", "w1")])
    assert acknowledgements(groups, [[Watermark(1, 5)], [Watermark(2, 9)]]) == [
        ("p0", [Acknowledge("w0", 1), Acknowledge("w1", 2)])
    ]
