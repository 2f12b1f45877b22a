"""Settlement task: brings the money that left one host's books into the books where it belongs.

It holds no state: run twice, late, on any node, or killed between any two lines, every transfer still arrives exactly
once, because destinations accept only the next numbers and a source forgets only what is acknowledged.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from actors.ledger.transfer import Outgoing
from actors.settlement.plan import acknowledgements, deliveries


class Reach(Protocol):
    """How a settlement task reaches streams."""

    async def outgoing(self, host: str) -> list[Outgoing]:
        """Return what the host's streams have to deliver, all of it durable."""
        ...

    async def ask(self, groups: Sequence[tuple[str, Sequence[Any]]]) -> list[list[Any]]:
        """Ask streams, wherever they are; a stream that cannot be reached answers with refusals."""
        ...


async def settle(reach: Reach, host: str, *, rounds_max: int, pause_ms: int) -> int:
    """Deliver until nothing is left that can be delivered now, at most `rounds_max` rounds; return acknowledgements."""
    acknowledged = 0
    for turn in range(rounds_max):
        if turn:
            await asyncio.sleep(pause_ms / 1000)
        groups = deliveries(await reach.outgoing(host))
        if not groups:
            break
        news = acknowledgements(groups, await reach.ask(groups))
        if not news:
            break
        await reach.ask(news)
        acknowledged += sum(len(commands) for _, commands in news)
    return acknowledged
