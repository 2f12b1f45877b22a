"""The bench's clients and its check of payouts, against the fake platform and a fake stream."""

import asyncio
from typing import Any

import msgspec
import pytest

from loadtest.bench.bed import Bed
from loadtest.bench.stream_load import Stream, StreamJob
from loadtest.bench.wire import drive_http, http_request
from tests.unit.fake_gateway import GATEWAY_TOKEN, OPERATOR_TOKEN, FakeGateway, serving

PACKETS, SHARES = 6, 10


async def played(*lies: str) -> int:
    """Send packets, take half of their shares, then let the bench check; return how many it found taken before."""
    gateway = FakeGateway(*lies)
    gateway.wallets = {GATEWAY_TOKEN: 10**9} | {f"taker-{number}": 0 for number in range(PACKETS * SHARES)}
    async with serving(gateway) as url:
        bed = Bed(url, OPERATOR_TOKEN, GATEWAY_TOKEN, "run")
        packets = await bed.open(bed.sends(PACKETS, SHARES))
        half = bed.batch_grabs(packets[: PACKETS // 2], SHARES, 4)
        await drive_http(url, iter(half), connections=3, seconds=30.0)
        before = await bed.drain_rest(packets, SHARES)
        await bed.check()
        return before


async def test_a_platform_that_pays_exactly_passes_the_check() -> None:
    assert await played() == PACKETS // 2 * SHARES


@pytest.mark.parametrize("lie", ["grants_twice", "same_rank", "drained_early", "books_differ"])
async def test_a_platform_that_pays_anything_else_fails_the_check(lie: str) -> None:
    with pytest.raises(AssertionError):
        await played(lie)


async def test_kept_bodies_come_in_the_order_of_their_requests() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with_body = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"
        while head := await reader.readline():
            path = head.split()[1]
            while (await reader.readline()).strip():
                pass
            await asyncio.sleep(0.01 if path.endswith(b"0") else 0)  # the first are answered last
            writer.write(with_body % (len(path), path))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        requests = [http_request("GET", f"/{number}") for number in range(40)]
        for per_second in (0.0, 10_000.0):
            run = await drive_http(url, iter(requests), connections=7, seconds=30.0, keep=True, per_second=per_second)
            assert run.bodies == [b"/%d" % number for number in range(40)]
            assert run.statuses == {200: 40}


class Wire(asyncio.Transport):
    """What the stream's client writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True


def lines_of(chunk: bytes) -> list[dict[str, Any]]:
    """Return the lines of one chunk as it was written."""
    size, _, rest = chunk.partition(b"\r\n")
    assert rest == rest[: int(size, 16)] + b"\r\n"
    return [msgspec.json.decode(line) for line in rest.splitlines() if line]


def chunk_of(*answers: dict[str, Any]) -> bytes:
    payload = b"".join(msgspec.json.encode(answer) + b"\n" for answer in answers)
    return b"%x\r\n%b\r\n" % (len(payload), payload)


async def begun(grabs: int, window: int) -> tuple[Stream, Wire]:
    order = StreamJob("http://127.0.0.1:1", "token", window, 60.0, [])
    stream, wire = Stream(order, [("packet", f"user{number}") for number in range(grabs)]), Wire()
    stream.until_s = float("inf")
    stream.connection_made(wire)
    return stream, wire


async def test_a_stream_keeps_a_window_under_way_and_half_closes_when_nothing_is_left() -> None:
    stream, wire = await begun(grabs=5, window=2)
    assert [line["id"] for line in lines_of(wire.written[1])] == [0, 1]
    stream.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    stream.data_received(chunk_of({"id": 1, "amount_fen": 3, "rank": 1, "replayed": False}))
    assert [line["id"] for line in lines_of(wire.written[2])] == [2]
    stream.data_received(chunk_of({"id": 0, "amount_fen": 3}, {"id": 2, "code": "drained"}))
    assert [line["id"] for line in lines_of(wire.written[3])] == [3, 4]
    stream.data_received(chunk_of({"id": 3, "amount_fen": 1}, {"id": 4, "amount_fen": 1}))
    assert wire.written[4:] == [b"0\r\n\r\n"]
    assert not stream.done.done()
    stream.data_received(b"0\r\n\r\n")
    await stream.done
    assert (stream.sent, stream.answers, stream.codes, wire.closed) == (5, 5, {"drained": 1}, True)


async def test_answers_are_read_wherever_the_network_cuts_them() -> None:
    answers = [{"id": number, "amount_fen": number + 1} for number in range(6)]
    text = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n" + chunk_of(*answers[:3]) + chunk_of(*answers[3:]) + b"0\r\n\r\n"
    for size in (1, 2, 7, 50):
        stream, _ = await begun(grabs=6, window=6)
        for at in range(0, len(text), size):
            stream.data_received(text[at : at + size])
        await stream.done
        assert stream.answers == 6


async def test_a_stream_that_ends_with_grabs_unanswered_fails() -> None:
    stream, _ = await begun(grabs=3, window=3)
    stream.data_received(b"HTTP/1.1 200 OK\r\n\r\n" + chunk_of({"id": 0, "amount_fen": 1}) + b"0\r\n\r\n")
    with pytest.raises(ConnectionResetError, match="not answered"):
        await stream.done


async def test_a_stream_that_is_refused_fails_with_the_platforms_words() -> None:
    stream, _ = await begun(grabs=3, window=3)
    stream.data_received(b"HTTP/1.1 404 Not Found\r\n\r\n")
    with pytest.raises(ConnectionResetError, match="404"):
        await stream.done
