"""Rows: the groups of comparisons, in the order in which a bench runs them.

Each is `async def rows(ground) -> list[Row]`. The ones that fill the store or a shard with a million of something come
after those that measure rates.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from loadtest.bench.result import Row

if TYPE_CHECKING:  # it imports Ray, which reads its environment once
    from loadtest.bench.ground import Ground

Group = Callable[["Ground"], Awaitable[list[Row]]]
NAMES = (
    "http",
    "idle",
    "stream",
    "floods",
    "settlement",
    "overload",
    "curve",
    "million",
    "star",
    "shard",
    "flat",
    "memory",
    "shares",
)


def group_of(name: str) -> Group:
    """Return a group by its name."""
    from loadtest.bench.rows import (
        curve,
        flat,
        floods,
        http,
        idle,
        memory,
        million,
        overload,
        settlement,
        shard,
        shares,
        star,
        stream,
    )

    groups: dict[str, Group] = {
        "http": http.rows,
        "idle": idle.rows,
        "stream": stream.rows,
        "floods": floods.rows,
        "settlement": settlement.rows,
        "overload": overload.rows,
        "curve": curve.rows,
        "million": million.rows,
        "star": star.rows,
        "shard": shard.rows,
        "flat": flat.rows,
        "memory": memory.rows,
        "shares": shares.rows,
    }
    return groups[name]
