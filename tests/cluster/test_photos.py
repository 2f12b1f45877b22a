"""Photos on the real cluster: nothing clear leaves HAProxy before its payment is durable, whatever dies meanwhile."""

import asyncio
from typing import Any

import msgspec
import pytest_asyncio

from tests.cluster.gallery import BAND, Gallery
from tests.cluster.platform import Platform, kill
from tests.unit.photo_site import encoded, noise, ways

BALANCE_FEN = 100_000
DAY_MS = 86_400_000
BYTES_MAX = 8_388_608
"""Of an upload, in configs/local.toml."""

PHOTOS, READERS = 4, 5
KILLED = {READERS: "ray::ServeReplica", 2 * READERS: "ray::ShardActor"}
"""What is killed after so many payments, of PHOTOS * READERS."""
NEVER_KEPT = {"cache-control": "private, no-store", "vary": "Authorization, X-Acting-User"}
VALIDATORS = {"etag", "last-modified", "accept-ranges", "content-range", "age"}


@pytest_asyncio.fixture
async def gallery(platform: Platform) -> Gallery:
    made = Gallery(platform)
    for person in ("bob", "carol"):
        await platform.user(made.name(person), BALANCE_FEN)
    return made


async def test_without_payment_no_way_through_the_proxy_leads_to_a_clear_byte(gallery: Gallery) -> None:
    path = await gallery.upload(1)
    assert await gallery.upload(1) == path
    photo_id, platform = path.rpartition("/")[2], gallery.platform
    _, blurred, _ = await platform.hear("GET", f"{path}/blurred", gallery.token("bob"))
    assert blurred.startswith(b"\xff\xd8")
    assert gallery.is_secret(blurred)
    assert (await gallery.pay(path, "bob", price_fen=1))[0] == 422
    assert (await gallery.pay(path, "carol"))[0] == 201
    for method, where, options in ways(photo_id):
        status, content, headers = await gallery.tried(method, where, path, options)
        assert content == blurred or status in (307, 400, 401, 402, 403, 404, 405), (method, where, options, status)
        assert status != 307 or "/clear" not in headers["location"], (method, where)
        assert not VALIDATORS & headers.keys(), (method, where, headers)
    near = f"{photo_id[:-1]}{'a' if photo_id[-1] != 'a' else 'b'}"
    for name, tenant in ((near, "wechat"), ("a" * 32, "wechat"), (photo_id.upper(), "wechat"), (photo_id, "qq")):
        for tail in ("", "/blurred", "/clear"):
            told = await platform.insist("GET", f"/v1/photos/{name}{tail}", gallery.token("carol", tenant=tenant))
            assert (told[0], told[1]["code"]) == (404, "photo_not_found")
    assert (await gallery.seen(path, "bob"))["paid"] is False
    assert await gallery.money("bob") == BALANCE_FEN


async def test_after_payment_the_proxy_sends_the_whole_picture_and_nobody_may_keep_it(gallery: Gallery) -> None:
    path = await gallery.upload(1)
    before = await gallery.seen(path, "bob")
    assert (before["paid"], 100 <= before["price_fen"] <= 900) == (False, True)
    status, paid = await gallery.pay(path, "bob")
    assert (status, paid["price_fen"]) == (201, before["price_fen"])
    assert await gallery.pay(path, "bob", "another key") == (201, paid)
    whole = (await gallery.clear(path, "owner"))[1]
    asked: list[dict[str, str]] = [{}, {"Range": "bytes=0-9"}, {"If_None_Match": "*"}, {"If_Modified_Since": "x"}]
    for headers in asked:
        status, content, told = await gallery.clear(path, "bob", **headers)
        assert (status, content, told["content-type"]) == (200, whole, "image/jpeg")
        assert {name: told[name] for name in NEVER_KEPT} == NEVER_KEPT
        assert not VALIDATORS & told.keys()
    assert (await gallery.clear(path, "carol"))[0] == 402, "just after, on the same connections"
    as_bob = {"X_Acting_User": gallery.name("bob")}
    assert (await gallery.platform.hear("GET", f"{path}/clear", gallery.platform.gateway, None, **as_bob))[1] == whole
    assert (await gallery.seen(path, "bob"))["paid"] is True
    platform = gallery.platform
    await platform.insist("POST", "/sandbox/clock", platform.operator, {"advance_ms": 2 * DAY_MS})
    for title in KILLED.values():
        kill_all(platform, title)
    assert (await gallery.clear(path, "bob"))[:2] == (200, whole), "two days later, all processes anew"
    assert await gallery.pay(path, "bob", "a key of today") == (201, paid)
    assert (await platform.settled())["clean"]
    assert await gallery.money("bob") == BALANCE_FEN - paid["price_fen"]
    assert await gallery.money("owner") == paid["price_fen"]


async def test_a_large_upload_passes_the_proxy_and_one_that_is_too_large_is_told_so(gallery: Gallery) -> None:
    platform, where = gallery.platform, f"/v1/photos?{BAND}"
    picture = encoded(noise(1_600, 1_600), "PNG", compress_level=0)
    assert 7_000_000 < len(picture) < BYTES_MAX
    own = gallery.token("owner")
    status, told, _ = await platform.hear("POST", where, own, picture, Idempotency_Key=gallery.name("large"))
    photo = msgspec.json.decode(told)
    assert (status, photo["width"]) == (201, 1_600), photo
    status, clear, _ = await gallery.clear(f"/v1/photos/{photo['photo_id']}", "owner")
    assert (status, clear[:2], clear[-2:]) == (200, b"\xff\xd8", b"\xff\xd9")
    beyond = picture + bytes(BYTES_MAX + 1 - len(picture))
    status, told, _ = await platform.hear("POST", where, own, beyond, Idempotency_Key=gallery.name("larger"))
    assert (status, msgspec.json.decode(told)["code"]) == (413, "too_large")
    other = gallery.token("bob")
    status, told, _ = await platform.hear("POST", where, other, b"no picture", Idempotency_Key=gallery.name("none"))
    assert (status, msgspec.json.decode(told)["code"]) == (422, "invalid")


def kill_all(platform: Platform, title: str) -> None:
    """Kill every process that is called so."""
    pids = platform.pids(title)
    assert pids, f"there is no {title}"
    for pid in pids:
        kill(pid)


class Reading:
    """Readers who pay for one photo after the other, and look meanwhile, as somebody without money does; things die."""

    def __init__(self, gallery: Gallery, paths: list[str]) -> None:
        self.paid: dict[tuple[str, str], dict[str, Any]] = {}
        self.readers = [f"reader-{n}" for n in range(READERS)]
        self._gallery, self._paths = gallery, paths
        self._ended = False

    async def read(self, reader: str) -> None:
        """Pay for every photo; what one sees clearly once one sees for ever."""
        for path in self._paths:
            assert (await self._gallery.clear(path, reader))[0] == 402
            paying = asyncio.create_task(self._gallery.pay(path, reader, f"{reader}-{path}"))
            seen = [await self._look(path, reader)]
            while not paying.done():
                seen.append(await self._look(path, reader))
            status, self.paid[reader, path] = await paying
            assert status == 201
            if title := KILLED.get(len(self.paid)):  # while others are in the middle of paying
                kill_all(self._gallery.platform, title)
            assert seen == sorted(seen), "nothing once seen is hidden again"
            assert await self._look(path, reader)

    async def lurk(self) -> None:
        """Look without paying."""
        while not self._ended:
            for path in self._paths:
                assert not await self._look(path, "lurker")

    async def _look(self, path: str, person: str) -> bool:
        status, content, _ = await self._gallery.clear(path, person)
        assert status in (200, 402)
        assert (status == 200) != self._gallery.is_secret(content)
        return status == 200

    async def run(self) -> None:
        """Let everybody read until he has paid for all."""
        async with asyncio.TaskGroup() as everybody:
            everybody.create_task(self.lurk())
            async with asyncio.TaskGroup() as payers:
                for reader in self.readers:
                    payers.create_task(self.read(reader))
            self._ended = True


async def test_whoever_dies_while_people_pay_everybody_pays_once_and_nobody_sees_before(gallery: Gallery) -> None:
    platform = gallery.platform
    paths = [await gallery.upload(number) for number in range(PHOTOS)]
    reading = Reading(gallery, paths)
    for reader in reading.readers:
        await platform.user(gallery.name(reader), BALANCE_FEN)
    await reading.run()
    assert (await gallery.pay(paths[0], "lurker"))[1]["code"] == "insufficient_funds"
    assert (await platform.settled())["clean"]
    for reader in reading.readers:
        prices = [reading.paid[reader, path]["price_fen"] for path in paths]
        assert await gallery.money(reader) == BALANCE_FEN - sum(prices)
        again = [(await gallery.pay(path, reader, "again"))[1] for path in paths]
        assert again == [reading.paid[reader, path] for path in paths]
        _, told = await platform.insist("GET", "/v1/wallet/statement", gallery.token(reader))
        assert [line["kind"] for line in told["entries"]].count("photo_paid") == PHOTOS
    assert await gallery.money("owner") == sum(paid["price_fen"] for paid in reading.paid.values())
