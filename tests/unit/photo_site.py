"""Photos to test with: pictures from a seed, and a system that keeps photos in a folder, asked over HTTP."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
from PIL import Image

from actors.kernel.names import User
from actors.packet.events import GrabbedMany, Opened
from actors.transfers.funding import Special
from actors.wallet.commands import Send
from actors.wallet.photo import payment_key
from tests.simulation.auditor import Auditor
from tests.simulation.http import Http
from tests.simulation.system import TENANT


def noise(width: int, height: int, seed: int = 1) -> Image.Image:
    """Return a picture that looks like nothing else: every pixel of it drawn."""
    return Image.frombytes("RGB", (width, height), Random(seed).randbytes(3 * width * height))


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    """Return the file of a picture."""
    content = io.BytesIO()
    picture.save(content, form, **options)
    return content.getvalue()


UPLOAD = encoded(noise(120, 80), "PNG")
OTHER = encoded(noise(120, 80, seed=2), "JPEG")
BAND = {"price_fen_min": 100, "price_fen_max": 900}
DAY_MS = 86_400_000


class Site:
    """A system with photos in a folder."""

    def __init__(self, http: Http, folder: Path) -> None:
        self.http, self.system, self.folder = http, http.system, folder

    @classmethod
    async def start(cls, folder: Path, **override: Any) -> "Site":
        """Start a system that keeps its photos there, and lets everybody in however busy this machine is."""
        calm = {"queueing_ms_target": 1_000_000}
        return cls(await Http.start(photos_url=str(folder), overload=calm, **override), folder)

    async def upload(self, key: str = "k", content: Any = UPLOAD, **options: Any) -> httpx.Response:
        """Upload as alice."""
        band, headers = BAND | options.pop("band", {}), {"content-type": "image/png"} | options.pop("headers", {})
        return await self.http.ask(
            "POST", "/v1/photos", key=key, params=band, content=content, headers=headers, **options
        )

    async def photo(self, key: str = "k") -> str:
        """Make a photo of alice's and return its path."""
        response = await self.upload(key)
        assert response.status_code == 201, response.text
        return f"/v1/photos/{response.json()['photo_id']}"

    async def get(self, path: str, user: str = "bob", **options: Any) -> httpx.Response:
        """Read as bob."""
        return await self.http.ask("GET", path, user=user, **options)

    async def pay(self, path: str, user: str = "bob", key: str = "k", price_fen: int = 0) -> httpx.Response:
        """Pay as bob, by default the price that he is shown."""
        price_fen = price_fen or (await self.get(path, user)).json()["price_fen"]
        return await self.http.ask("POST", f"{path}/payments", user=user, key=key, json={"price_fen": price_fen})

    async def debit(self, path: str, user: str = "bob") -> int:
        """Let the wallet pay, and the gateway die before it delivers that; return the price."""
        photo_id, price_fen = path.rpartition("/")[2], (await self.get(path, user)).json()["price_fen"]
        special = Special(addressee="alice", reference=photo_id)
        send = Send(TENANT, user, payment_key(photo_id), "photo", price_fen, 1, "", "equal/1", special)
        await self.system.directory.ask([(self.system.service.wallets.stream_of(User(TENANT, user)), [send])])
        return int(price_fen)

    async def balance(self, user: str) -> int:
        """Return what a user has once everything is settled."""
        await self.system.settle()
        return int((await self.get("/v1/wallet", user)).json()["available_fen"])

    def clear(self) -> bytes:
        """Return the bytes that are worth money: those of the only photo."""
        [path] = self.folder.rglob("clear-*.jpg")
        return path.read_bytes()

    async def restart(self) -> None:
        """Put fresh hosts and a fresh gateway in the place of all."""
        for name in list(self.system.members):
            self.system.replace(name)
        await self.system.tick()
        self.http = Http(self.system)

    async def check(self) -> None:
        """Let the auditors judge every book and every entry."""
        await self.system.settle()
        assert (await self.system.audit()).difference_fen == 0
        settings = self.system.settings
        auditor = Auditor(self.system.journals, settings, reads=True)
        entries: list[list[Any]] = []
        auditor.noted = lambda stream, position, events: entries.append(list(events))
        auditor.advance()
        auditor.check_conservation()
        for events in entries:
            opened = [e.funding.packet_id for e in events if isinstance(e, Opened) and e.funding.kind == "photo"]
            taken = {e.packet_id for e in events if isinstance(e, GrabbedMany)}
            assert taken.issuperset(opened), "a price opens and is taken in one entry"


async def audited_site(tmp_path: Path) -> AsyncIterator[Site]:
    """A fixture: a system with photos; at the end its books are audited."""
    made = await Site.start(tmp_path / "photos")
    yield made
    await made.check()
    await made.system.stop()


def told(response: httpx.Response) -> tuple[int, str]:
    """Return status and code of a problem."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    return response.status_code, response.json()["code"]


def ways(photo_id: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (method, path, options) of whatever somebody may try who has not paid."""
    path = f"/v1/photos/{photo_id}"
    clear = f"{path}/clear"
    conditions = [
        {"range": "bytes=0-99"},
        {"range": "bytes=-1"},
        {"if-none-match": "*"},
        {"if-match": "*"},
        {"if-modified-since": "Thu, 01 Jan 2099 00:00:00 GMT"},
        {"if-range": "x", "range": "bytes=0-"},
        {"accept": "image/jpeg"},
        {"x-http-method-override": "GET"},
        {"x-original-url": clear},
        {"x-acting-user": "alice"},
    ]
    tries: list[tuple[str, str, dict[str, Any]]] = [("GET", clear, {"headers": headers}) for headers in conditions]
    tries += [(method, clear, {}) for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS", "PATCH", "DELETE")]
    beside = f"{path}/blurred"
    tries += [
        ("GET", spelled, {})
        for spelled in (
            f"{clear}/",
            f"{path}/CLEAR",
            f"{path}/clear.jpg",
            f"{path}//clear",
            f"{path}/./clear",
            f"{path}/%63lear%2f",
            f"{path}/..%2f{photo_id}%2fclear",
            f"{path}%2fclear",
            f"{path}%00/clear",
            f"{path}%20/clear",
            f"/v1/photos/{photo_id.upper()}/clear",
            f"/v1/photos/..%2f{TENANT}%2f{photo_id}/clear",
            "/v1/photos/../clear",
            "/v1/photos/..%2f..%2f/clear",
            f"/v1/photos/{TENANT}/{photo_id}/clear",
            f"{beside}?name=clear",
            f"{beside}/../clear",
            f"{beside}%2f..%2fclear",
            f"{clear}?user=alice",
            f"{clear}?paid=true",
            "/v1/photos",
            "/v1/photos/",
            f"/photos/{TENANT}/{photo_id}/clear.jpg",
            f"/static/{photo_id}/clear.jpg",
        )
    ]
    tries += [("GET", clear, {"tenant": "qq"}), ("GET", clear, {"tenant": "qq", "user": "alice"})]
    tries += [("GET", clear, {"scope": "operator"}), ("GET", clear, {"scope": "gateway"})]
    tries += [("GET", clear, {"headers": {"authorization": wrong}}) for wrong in ("", "Bearer x", "Basic YWxpY2U6")]
    return tries
