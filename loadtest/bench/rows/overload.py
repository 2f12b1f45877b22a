"""Overload rows: what the platform keeps at twice the load it can carry; measured by `loadtest.bench.overload`."""

from loadtest.bench.ground import Ground
from loadtest.bench.overload import overload_rows
from loadtest.bench.result import BenchRow


async def rows(ground: Ground) -> list[BenchRow]:
    """Measure them."""
    return await overload_rows(ground.bed, ground.say)
