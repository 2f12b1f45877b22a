"""Catalogue: every stream of a system, by kind and pool, and the layout that it follows from.

The number of a kind's streams is fixed when its first one is created: ids are hashed over it. Only a later pool, whose
streams are numbered behind all others of its kind, may grow, and a kind may be added.
"""

from collections.abc import Mapping

import msgspec

from actors.kernel.kind import UnknownKind
from actors.kernel.rules import StreamCounts
from actors.kinds import kind_named, kind_of, streams_of


def encode_layout(layout: StreamCounts) -> bytes:
    """Return a layout as a store keeps it."""
    return msgspec.json.encode(layout)


def decode_layout(content: bytes | None) -> StreamCounts:
    """Read what a store keeps; nothing of a store without a system. Raises UnknownKind."""
    layout = msgspec.json.decode(content, type=dict[str, dict[str, int]]) if content else {}
    streams_of(layout)
    return layout


def check_growth(store: str, found: StreamCounts, wanted: StreamCounts) -> None:
    """Raise ValueError if a system's layout cannot become the configured one."""
    for kind, pools in found.items():
        configured = wanted.get(kind, {})
        [first, *later] = pools
        grows = later[-1:]  # the streams of the last pool are numbered behind all others
        for pool in (first, *later):
            before, after = pools[pool], configured.get(pool, 0)
            if after != before and not (pool in grows and after > before):
                raise ValueError(
                    f"the system in {store} was created with {before} streams of kind {kind!r}{_in_pool(pool)}, the "
                    f"configuration says {after}: {'it only grows' if pool in grows else 'it is fixed'}, set it back"
                )


def _in_pool(pool: str) -> str:
    return f" in pool {pool!r}" if pool else ""


def check_streams(store: str, listed: Mapping[str, str], layout: StreamCounts) -> None:
    """Raise UnknownKind or ValueError, which name the stream, if a catalogue lists a stream that has no host."""
    wanted = streams_of(layout)
    for stream, kind in listed.items():
        if kind_of(stream) is not kind_named(kind):
            raise UnknownKind(f"the catalogue in {store} lists {stream!r} as of kind {kind!r}")
        if stream not in wanted:
            raise ValueError(f"the catalogue in {store} lists {stream!r}, which the configuration has no place for")
