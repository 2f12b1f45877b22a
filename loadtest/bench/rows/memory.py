"""Memory rows: bytes of a live packet and of an account, each measured in a process of its own."""

import asyncio
import sys

from cluster.local.processes import end_with_parent
from loadtest.bench.ground import Ground
from loadtest.bench.result import BenchRow, bounded

COUNT = 100_000
PACKET_BYTES_MAX = 1_536
ACCOUNT_BYTES_MAX = 300


async def bytes_of(what: str) -> int:
    """Measure what one of `packets` or `accounts` takes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtest.bench.memory", what, str(COUNT)),
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=end_with_parent,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"loadtest.bench.memory {what} failed"
    return int(output)


async def rows(ground: Ground) -> list[BenchRow]:
    """Measure both."""
    ground.say("memory")
    return [
        bounded("a live 10-share packet", await bytes_of("packets"), PACKET_BYTES_MAX, "bytes", "5 of 10 taken"),
        bounded("an account", await bytes_of("accounts"), ACCOUNT_BYTES_MAX, "bytes", "one statement line"),
    ]
