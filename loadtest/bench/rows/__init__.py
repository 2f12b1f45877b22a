"""Rows: the groups of comparisons, in the order in which a bench runs them.

Each is `async def rows(ground)` in the module of its name. The ones that fill the store or a shard with a million of
something come after those that measure rates.
"""

import importlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from loadtest.bench.result import BenchRow

if TYPE_CHECKING:  # it imports Ray, which reads its environment once
    from loadtest.bench.ground import Ground

Group = Callable[["Ground"], Awaitable[list[BenchRow]]]
NAMES = (
    *("http", "idle", "stream", "floods", "settlement", "overload", "curve"),
    *("million", "star", "shard", "flat", "memory", "shares"),
)


def group_of(name: str) -> Group:
    """Return a group by its name."""
    group: Group = importlib.import_module(f"{__name__}.{name}").rows
    return group
