"""Placement: which Ray actor hosts which stream. A pure function of the configuration; a host refuses any other stream.

Each pool of a kind has hosts of its own, numbered behind those of the pools before it, as its streams are. Changing the
number of hosts moves streams, never keys: a moved stream is activated by its new host, and its epoch fences the old one
out.
"""

from cluster.config import Settings

NAMESPACE = "hongbao"
SUPERVISOR = "supervisor"


def hosts(settings: Settings) -> dict[str, list[str]]:
    """Return every host with its streams, e.g. "bank-shard-1" -> ["bank-001", "bank-003"]."""
    streams = iter(settings.streams)  # of each kind in turn, in the order of its pools
    placed: dict[str, list[str]] = {}
    for kind, section in settings.kinds.items():
        first = 0
        for _, pool in section.pools:
            for index in range(pool.streams):
                placed.setdefault(f"{kind}-shard-{first + index % pool.hosts}", []).append(next(streams))
            first += pool.hosts
    return placed


def host_of_streams(settings: Settings) -> dict[str, str]:
    """Return every stream with its host."""
    return {stream: host for host, streams in hosts(settings).items() for stream in streams}
