"""Overload rows: what the platform keeps at twice the load it can carry; measured by `loadtest.bench.overload`."""

from loadtest.bench.ground import Ground
from loadtest.bench.overload import overload_rows
from loadtest.bench.result import BenchRow


async def rows(ground: Ground) -> list[BenchRow]:
    """Measure them."""
    bed = ground.bed
    return await overload_rows(bed.url, ground.operator_token, bed.gateway_token, ground.say)
