"""Overload rows: what the platform keeps at twice the load it can carry; measured by `loadtest.bench.overload`."""

import importlib
import importlib.util

from loadtest.bench.ground import Ground
from loadtest.bench.result import Row


async def rows(ground: Ground) -> list[Row]:
    """Measure them."""
    if importlib.util.find_spec("loadtest.bench.overload") is None:
        return []
    overload_rows = importlib.import_module("loadtest.bench.overload").overload_rows
    bed = ground.bed
    return [Row(*row) for row in await overload_rows(bed.url, ground.operator_token, bed.gateway_token, ground.say)]
