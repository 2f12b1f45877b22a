"""Odd heads through HAProxy and Serve: nobody is taken for another, nothing is obeyed, nothing is a plain 500."""

import asyncio
import json
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.cluster.gallery import Gallery
from tests.cluster.platform import Platform

SEND = b'{"kind": "lucky", "total_fen": 100, "count": 5}'


class Told(NamedTuple):
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    @property
    def code(self) -> str:
        """Of a problem, which has its request's id in head and body."""
        assert self.headers["content-type"] == ["application/problem+json"], self
        problem = json.loads(self.body)
        assert self.headers["x-request-id"] == [problem["request_id"]], self
        return str(problem["code"])


async def say(
    platform: Platform, line: str, *headers: tuple[str, bytes], body: bytes = b"", version: str = "1.1"
) -> Told:
    """Send one request, byte by byte as it is given, on a connection of its own; return what is answered."""
    host = urlsplit(platform.record.url)
    reader, writer = await asyncio.open_connection(host.hostname, host.port)
    sent = [("host", b"x"), ("connection", b"close"), *headers]
    if body:
        sent.append(("content-length", b"%d" % len(body)))
    head = b"".join(b"%s: %s\r\n" % (name.encode(), value) for name, value in sent)
    try:
        writer.write(f"{line} HTTP/{version}\r\n".encode() + head + b"\r\n" + body)
        told = await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()
    first, _, rest = told.partition(b"\r\n\r\n")
    status, *lines = first.decode("latin-1").split("\r\n")
    found: dict[str, list[str]] = {}
    for name, value in (one.split(": ", 1) for one in lines):
        found.setdefault(name.lower(), []).append(value)
    return Told(int(status.split()[1]), found, rest)


def bearer(token: str) -> tuple[str, bytes]:
    return "Authorization", f"Bearer {token}".encode()


JSON, NDJSON = ("Content-Type", b"application/json"), ("Content-Type", b"application/x-ndjson")
ODD = {
    "X-Request-Id": b"\xff",
    "X-Request-Timeout-Seconds": b"\xff",
    "X-Request-Disconnect-Disabled": b"\xff",
    "serve_multiplexed_model_id": b"\xff",
    "Serve-Multiplexed-Model-Id": b"\xff",
    "X-Session-Id": b"\xff",
    "traceparent": b"\xff",
    "Cookie": b"\xff",
}


async def test_a_head_that_serve_would_stumble_over_or_obey_changes_nothing(platform: Platform) -> None:
    name = f"heads-{time.time_ns()}"
    token = await platform.user(name, 10_000)
    for header, value in ODD.items():
        told = await say(platform, "GET /v1/wallet", bearer(token), (header, value))
        assert told.status == 200, (header, told)
        assert len(told.headers["x-request-id"]) == 1, (header, told)
        assert "server" not in told.headers, told
    for number, timeout in enumerate((b"0.0001", b"-1", b"nan", b"1e999")):
        key = ("Idempotency-Key", b"%d" % number)
        told = await say(
            platform, "POST /v1/packets", bearer(token), JSON, key, ("X-Request-Timeout-Seconds", timeout), body=SEND
        )
        assert told.status == 201, (timeout, told)
    named = await say(platform, "GET /v1/wallet", bearer(token), ("X-Request-Id", b"order-66"))
    assert named.headers["x-request-id"] == ["order-66"]
    assert (await say(platform, "GET /v1/wallet", bearer(token), bearer(token))).code == "malformed"


async def test_the_bytes_of_a_name_are_the_same_person_at_every_door(platform: Platform) -> None:
    packet = await platform.send(await platform.user(f"sender-{time.time_ns()}", 1_000), "k", 500, 5)
    path, user = f"/v1/packets/{packet['packet_id']}/grabs", f"zoé-{time.time_ns()}"
    escaped = user.replace("é", "%C3%A9")
    won = [
        await say(platform, f"POST {path}", bearer(platform.token(user))),
        await say(platform, f"POST {path}", bearer(platform.gateway), ("X-Acting-User", user.encode())),
        await say(platform, f"POST {path}", bearer(platform.gateway), ("X-Acting-User", escaped.encode())),
    ]
    assert [json.loads(told.body)["rank"] for told in won] == [1, 1, 1]
    refused = await say(platform, f"POST {path}", bearer(platform.gateway), ("X-Acting-User", user.encode("latin-1")))
    assert (refused.status, refused.code) == (422, "invalid")


async def test_an_old_client_gets_pictures_whole_and_is_told_that_streams_are_not_for_it(platform: Platform) -> None:
    gallery = Gallery(platform)
    path = await gallery.upload(1)
    whole = (await gallery.clear(path, "owner"))[1]
    token = gallery.token("owner")
    for version in ("1.0", "1.1"):
        told = await say(platform, f"GET {path}/clear", bearer(token), version=version)
        assert (told.status, told.body == whole) == (200, True), version
        assert told.headers["content-length"] == [str(len(whole))], version
        head = await say(platform, f"HEAD {path}/clear", bearer(token), version=version)
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", [str(len(whole))])
    old = await say(platform, "POST /v1/grabs/stream", bearer(platform.gateway), NDJSON, body=b"{}\n", version="1.0")
    assert old.code == "malformed"
