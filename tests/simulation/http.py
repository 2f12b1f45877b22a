"""HTTP: the real gateway app over the whole system in one process, asked through httpx without a socket."""

import time
from typing import Any

import httpx

from actors.wallet.commands import CreditSandbox
from cluster.config import PLATFORM_KID, Keys, TokenKey
from cluster.gateway.app import build_api
from cluster.gateway.auth import Auth
from cluster.gateway.operator import routes as operator
from cluster.gateway.operator.switches import SwitchFlow
from cluster.gateway.packet.photos import photos_of
from cluster.gateway.packet.stream import Streams
from cluster.pictures.process import Picture, PictureBounds
from cluster.tokens import mint
from tests.simulation.contract import contract
from tests.simulation.system import KEYS as PLATFORM
from tests.simulation.system import TENANT, System

TOKEN_KEY = TokenKey(algorithm="HS256", key="cd" * 32, tenant="*", scopes=frozenset({"user", "gateway", "operator"}))
KEYS = Keys(
    first=PLATFORM.first, current=PLATFORM.current, platform=PLATFORM.platform, tokens={PLATFORM_KID: TOKEN_KEY}
)
BALANCE_FEN = 10_000_000


def make_here(upload: bytes, bounds: PictureBounds) -> Picture:
    """Make a picture in this process: the same as `cluster.pictures.process.make_apart`, a tenth of a second sooner."""
    from cluster.pictures.render import make

    return make(upload, bounds.pixels_max)


class Gateway:
    """What `build_api` needs of a replica."""

    def __init__(self, system: System) -> None:
        self.settings = system.settings
        self.keys = KEYS
        self.auth = Auth(KEYS, system.settings.bounds.token_cache_max)
        self.service = system.service
        self.platform_key = KEYS.key(KEYS.first)
        self.switches = SwitchFlow(system.settings, system.directory)
        self.streams = Streams(system.settings, system.service.grabs, self.platform_key)
        self.photos = photos_of(system.settings, KEYS, system.service, system.journals, system.clock, make_here)
        self._system = system

    async def ready(self) -> str:
        """Return the system's id."""
        return await self._system.journals.system_id()

    async def advance_clock(self, advance_ms: int) -> int:
        """Move the durable offset and tell every host."""
        offset_ms_max = self.settings.limits.sandbox_clock_ms_max
        offset_ms = await self._system.journals.advance_clock(advance_ms, offset_ms_max=offset_ms_max)
        if offset_ms is None:
            raise operator.too_far(offset_ms_max)
        await self.service.operations.advance_clock(offset_ms)
        return offset_ms


def token(user: str = "alice", scope: str = "user", tenant: str = TENANT, ttl_s: int = 600) -> str:
    """Return a bearer token; one with a negative life has expired."""
    now_s = int(time.time()) - (0 if ttl_s > 0 else 600)
    return mint(KEYS, user=user, tenant=tenant, scope=scope, now_s=now_s, ttl_s=abs(ttl_s))


class Http:
    """A client of one system, and the system's journals to look into. Users alice, bob and carol have money."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.gateway = Gateway(system)
        transport = httpx.ASGITransport(build_api(self.gateway), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://platform")

    @classmethod
    async def start(cls, **override: Any) -> "Http":
        """Start a small system with three users, every stream active."""
        system = await System.start(**{"sandbox": True} | override)
        for user in ("alice", "bob", "carol"):
            await system.service.wallets.ask(CreditSandbox(TENANT, user, BALANCE_FEN))
        await system.tick()
        return cls(system)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        user: str = "alice",
        scope: str = "user",
        tenant: str = TENANT,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Send one request as that caller; `json`, `content` and the like as httpx has them.

        Every answer is one that the OpenAPI document tells of, or this fails.
        """
        sent = {"authorization": f"Bearer {token(user, scope, tenant)}"}
        if key is not None:
            sent["idempotency-key"] = key
        if "content" in options:
            sent["content-type"] = "application/json"
        response = await self.client.request(method, path, headers=sent | (headers or {}), **options)
        contract().judge(response)
        return response

    async def send(self, key: str = "k", *, user: str = "alice", **body: Any) -> dict[str, Any]:
        """Send a packet, by default 1,000 fen in 5 lucky shares, and return it."""
        wish = {"kind": "lucky", "total_fen": 1_000, "count": 5} | body
        response = await self.ask("POST", "/v1/packets", user=user, key=key, json=wish)
        assert response.status_code == 201, response.text
        return dict(response.json())

    async def grab(self, packet_id: str, user: str, **options: Any) -> httpx.Response:
        """Grab as that user."""
        return await self.ask("POST", f"/v1/packets/{packet_id}/grabs", user=user, **options)

    def entries(self) -> dict[str, int]:
        """Count the entries of every journal (confirmations and fences leave none)."""
        return {
            stream: sum(position.seq > 0 for position, _ in stored.elements)
            for stream, stored in self.system.journals.stored.items()
        }
