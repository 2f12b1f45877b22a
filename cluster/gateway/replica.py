"""Replica: what the handlers of routes need of the gateway replica that serves them."""

from typing import Protocol

from cluster.config import Keys, Settings
from cluster.gateway.auth import Auth
from cluster.gateway.operator.switches import SwitchFlow
from cluster.gateway.packet.photos import Photos
from cluster.gateway.packet.stream import Streams
from cluster.gateway.service import Service


class Replica(Protocol):
    """One gateway replica."""

    settings: Settings
    keys: Keys
    platform_key: bytes
    """Names packets and binds phrases."""
    auth: Auth
    service: Service
    switches: SwitchFlow
    streams: Streams
    photos: Photos | None
    """None: this system has no photos, and no routes of theirs."""

    async def ready(self) -> str:
        """Return the system's id if money can be served. Raises Problem."""
        ...

    async def advance_clock(self, advance_ms: int) -> int:
        """Move the durable clock offset and tell every host; return the offset in ms. Raises Problem."""
        ...
