"""Placement: which Ray actor hosts which stream. A pure function of the configuration; a host refuses any other stream.

Changing the number of hosts moves streams, never keys: a moved stream is activated by its new host, and its epoch
fences the old one out.
"""

from cluster.config import Settings

NAMESPACE = "hongbao"
SUPERVISOR = "supervisor"


def host_of(stream: str, settings: Settings) -> str:
    """Name the host of a stream, e.g. "packet-003" -> "packet-shard-1"."""
    kind, _, number = stream.partition("-")
    index, placement = int(number), settings.placement
    if kind == "wallet":
        return f"wallet-shard-{index % placement.wallet_shards}"
    ordinary = settings.layout.packet_streams
    if index >= ordinary:
        return f"packet-shard-{placement.packet_shards + (index - ordinary) % placement.hot_shards}"
    return f"packet-shard-{index % placement.packet_shards}"


def hosts(settings: Settings) -> dict[str, list[str]]:
    """Return every host with its streams."""
    layout = settings.layout
    placed: dict[str, list[str]] = {}
    for stream in layout.streams():
        placed.setdefault(host_of(stream, settings), []).append(stream)
    return placed


def kinds(settings: Settings) -> dict[str, str]:
    """Return the catalogue of a new system: stream -> kind."""
    return {stream: stream.partition("-")[0] for stream in settings.layout.streams()}
