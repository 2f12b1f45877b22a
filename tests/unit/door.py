"""Door: the app of a system with photos and a sandbox, asked from outside any event loop, and its document."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import msgspec

from cluster.config import load
from cluster.gateway.openapi import document
from cluster.gateway.routing import ROUTES, RouteTable
from cluster.observability.metrics_snapshot import Gatherer
from cluster.runtime.placement import SUPERVISOR
from tests.unit.photo_site import Site

ROUTE_OF = {route.name: route for route in ROUTES}
REQUESTS = {name: route.requests for name, route in ROUTE_OF.items() if route.requests}
ANSWERS = {name: route.answer for name, route in ROUTE_OF.items() if route.answer is not None}

JUDGED_BY_PARTS = {"grab_batch", "grab_stream"}
"""Operations that take anything, and answer each bad part in its place."""


def written() -> dict[str, Any]:
    """Return the document of a system that serves all there is."""
    settings = load(sandbox=True, photos_url="/nowhere")
    return document(RouteTable(ROUTES, settings), settings)


class Supervisor:
    """What a system in one process lacks for its figures."""

    async def figures(self) -> bytes:
        return msgspec.json.encode(Gatherer(0, 1).figures(1))

    async def stop(self) -> None:
        """End nothing."""


class Door:
    """The app of a system with photos and a sandbox, asked from outside any event loop."""

    def __init__(self, folder: Path) -> None:
        self._runner = asyncio.Runner()
        self.site = self.run(Site.start(folder))
        self.site.system.members[SUPERVISOR] = Supervisor()

    def run(self, work: Any) -> Any:
        """Run a coroutine to its end."""
        return self._runner.run(work)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask as `Http.ask` does."""
        response: httpx.Response = self.run(self.site.http.ask(method, path, **options))
        return response

    def known(self, path: str) -> dict[str, str]:
        """Make one of everything that a path names by its id; return the ids by parameter."""
        makers = {
            "packet_id": self._packet,
            "rain_id": self._rain,
            "lishi_id": lambda: self.ask("POST", "/v1/lishi", user="bob", key="l", json={"asked": "alice"}),
            "photo_id": lambda: self.run(self.site.upload("f")),
        }
        return {name: make().json()[name] for name, make in makers.items() if f"{{{name}}}" in path}

    def _packet(self) -> httpx.Response:
        return self.ask("POST", "/v1/packets", key="p", json={"kind": "lucky", "total_fen": 10_000, "count": 100})

    def _rain(self) -> httpx.Response:
        now_ms = self.site.system.clock.ms
        burst = {"opens_at_ms": now_ms, "ends_at_ms": now_ms + 60_000, "total_fen": 500, "count": 5}
        return self.ask("POST", "/v1/rains", key="r", json={"bursts": [burst]})

    def close(self) -> None:
        """End the system."""
        self.run(self.site.system.stop())
        self._runner.close()
