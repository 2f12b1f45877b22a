"""Gallery: somebody's photos on a running system, and what others try with them over HTTP."""

import time
from typing import Any

import msgspec

from tests.cluster.platform import Platform, until
from tests.unit.photo_site import encoded, noise

BAND = "price_fen_min=100&price_fen_max=900"


class Gallery:
    """An owner, his photos, and readers with money."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self._run = f"photos-{time.time_ns()}"
        self.secrets: list[bytes] = []
        """A piece of every clear picture, behind the tables with which any JPEG begins."""

    def name(self, person: str) -> str:
        """Return a name nobody had before."""
        return f"{self._run}-{person}"

    def token(self, person: str, **options: str) -> str:
        """Return his token."""
        return self.platform.token(self.name(person), **options)

    async def upload(self, number: int) -> str:
        """Make one of the owner's photos; return its path."""
        picture = encoded(noise(120, 80, seed=number), "PNG")
        key = f"{self._run}-{number}"
        where, owner = f"/v1/photos?{BAND}", self.token("owner")
        status, told, _ = await self.platform.hear("POST", where, owner, picture, Idempotency_Key=key)
        photo = msgspec.json.decode(told)
        assert (status, photo["width"], photo["height"]) == (201, 120, 80), photo
        path = f"/v1/photos/{photo['photo_id']}"
        clear = (await self.clear(path, "owner"))[1]
        self.secrets.append(clear[len(clear) // 2 :][:64])
        return path

    async def clear(self, path: str, person: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """Ask for the clear picture."""
        return await self.platform.hear("GET", f"{path}/clear", self.token(person), None, **headers)

    async def seen(self, path: str, person: str) -> dict[str, Any]:
        """Look at a photo."""
        status, told = await self.platform.insist("GET", path, self.token(person))
        assert status == 200, told
        return dict(told)

    async def pay(self, path: str, person: str, key: str = "k", price_fen: int = 0) -> tuple[int, dict[str, Any]]:
        """Pay, by default the price that he is shown."""
        body = {"price_fen": price_fen or (await self.seen(path, person))["price_fen"]}
        return await self.platform.insist("POST", f"{path}/payments", self.token(person), body, Idempotency_Key=key)

    async def tried(self, method: str, where: str, path: str, options: dict[str, Any]) -> tuple[int, bytes, Any]:
        """Ask in a crooked way as bob, each time after carol, who has paid, was shown the picture of that path."""
        person = "owner" if options.get("user") == "alice" else "bob"
        token = self.token(person, **{k: options[k] for k in ("tenant", "scope") if k in options})
        headers = {k: v.replace("alice", self.name("owner")) for k, v in options.get("headers", {}).items()}

        async def ask() -> tuple[int, bytes, dict[str, str]]:
            assert (await self.clear(path, "carol"))[0] == 200
            return await self.platform.fetch(method, where, token, **headers)

        def is_answered(told: tuple[int, bytes, dict[str, str]]) -> bool:
            assert self.is_secret(told[1]), (method, where, options)
            return told[0] < 500 and told[0] != 429

        found: tuple[int, bytes, dict[str, str]] = await until(ask, is_answered)
        return found

    async def money(self, person: str) -> int:
        """Return what he has."""
        return int((await self.platform.insist("GET", "/v1/wallet", self.token(person)))[1]["available_fen"])

    def is_secret(self, content: bytes) -> bool:
        """Tell whether nothing clear is in an answer."""
        return not any(secret in content for secret in self.secrets)
