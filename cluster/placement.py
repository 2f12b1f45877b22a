"""Placement: which Ray actor hosts which stream. A pure function of the configuration; a host refuses any other stream.

Changing the number of hosts moves streams, never keys: a moved stream is activated by its new host, and its epoch
fences the old one out.
"""

from actors.ids import packet_stream, wallet_stream
from cluster.config import Settings

NAMESPACE = "hongbao"
SUPERVISOR = "supervisor"


def host_of(stream: str, settings: Settings) -> str:
    """Name the host of a stream, e.g. "packet-003" -> "packet-shard-1"."""
    kind, _, index = stream.partition("-")
    hosts = settings.placement.packet_shards if kind == "packet" else settings.placement.wallet_shards
    return f"{kind}-shard-{int(index) % hosts}"


def hosts(settings: Settings) -> dict[str, list[str]]:
    """Return every host with its streams."""
    layout = settings.layout
    placed: dict[str, list[str]] = {}
    for stream in layout.streams():
        placed.setdefault(host_of(stream, settings), []).append(stream)
    return placed


def kinds(settings: Settings) -> dict[str, str]:
    """Return the catalogue of a new system: stream -> kind."""
    layout = settings.layout
    catalogue = {packet_stream(i): "packet" for i in range(layout.packet_streams)}
    return catalogue | {wallet_stream(i): "wallet" for i in range(layout.wallet_streams)}
