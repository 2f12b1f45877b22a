"""Settlement task: brings the money that left one host's books into the books where it belongs.

It holds no state: run twice, late, on any node, or killed between any two lines, every transfer still arrives exactly
once, because destinations accept only the next numbers and a source forgets only what is acknowledged.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from actors.kernel.errors import OperatingFailure
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


async def settle(reach: Reach, hosts: Sequence[str], *, rounds_max: int, idle_rounds_max: int, pause_ms: int) -> int:
    """Deliver what the hosts' books have sent; return how many acknowledgements that made.

    Ends after `rounds_max` rounds, or `idle_rounds_max` in a row that brought nothing: a task that has just delivered
    lingers, because more is likely to come and starting the next one costs more than looking again.
    """
    acknowledged = idle = 0
    for turn in range(rounds_max):
        if turn:
            await asyncio.sleep(pause_ms / 1000)
        found = await asyncio.gather(*(_outgoing(reach, host) for host in hosts))
        groups = deliveries(batch for batches in found for batch in batches)
        news = acknowledgements(groups, await reach.ask(groups)) if groups else []
        if news:
            await reach.ask(news)
            acknowledged += sum(len(commands) for _, commands in news)
        idle = 0 if news else idle + 1
        if idle == idle_rounds_max:
            break
    return acknowledged


async def _outgoing(reach: Reach, host: str) -> list[Outgoing]:
    """Ask a host; one that is being restarted has nothing yet, and what it has sent is in its journal."""
    try:
        return await reach.outgoing(host)
    except OperatingFailure:
        return []
