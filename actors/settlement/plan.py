"""Settlement plan: which deliveries go where, and what may be acknowledged. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from actors.ledger.transfer import Acknowledge, Outgoing, Receive, Watermark


def deliveries(batches: Iterable[Outgoing]) -> list[tuple[str, list[Receive]]]:
    """Group what the sources have by destination, so that each is called once."""
    groups: dict[str, list[Receive]] = {}
    for batch in batches:
        groups.setdefault(batch.destination, []).append(batch.receive)
    return list(groups.items())


def acknowledgements(
    groups: Sequence[tuple[str, list[Receive]]], replies: Sequence[Sequence[Any]]
) -> list[tuple[str, list[Acknowledge]]]:
    """Group, by source, what the destinations say they have beyond what the sources knew. Anything else is not news."""
    known: dict[str, list[Acknowledge]] = {}
    for (destination, receives), answers in zip(groups, replies, strict=True):
        for receive, answer in zip(receives, answers, strict=True):
            if isinstance(answer, Watermark) and answer.number > receive.before_number:
                known.setdefault(receive.source, []).append(Acknowledge(destination, answer.number))
    return list(known.items())
