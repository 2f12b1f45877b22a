"""Degradation: a store that is silent, dead or out of room stops money and nothing else; no redeploy loses anybody.

Customers send and take all the while, and repeat whatever is not answered, as real ones do. The shared system is
disturbed for seconds; a system of its own has its disk filled and is ended under load.
"""

import asyncio
import contextlib
import itertools
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import pytest_asyncio
import redis

from cluster.config import keys_at
from cluster.local.bootstrap import down, status, up
from cluster.local.record import SystemRecord, child_environment, read_record
from tests.cluster.platform import Platform, asked, kill
from tests.processes import as_child

BALANCE_FEN = 1_000_000
PACKET_FEN = 300
TAKERS = 3
CUSTOMERS = 6
WAIT_S = 60.0
ROOM_BYTES = 20_000
UNAVAILABLE = {"journal_unavailable", "shard_unavailable"}
PARTS = ("ray::ShardActor", "ray::ServeReplica", "ray::Supervisor", "ray::ServeController", "ray::HAProxyManager")
_serial = itertools.count()


def fresh(name: str) -> str:
    """Return a name nobody had before."""
    return f"{name}-{time.time_ns()}-{next(_serial)}"


class Customers:
    """They send packets and take every share, repeat what is not answered with the same identity, and keep notes."""

    def __init__(self, platform: Platform) -> None:
        self.answers: Counter[str] = Counter()
        """What came, by code; "ok" for a success, "cut" for a connection that ended without an answer."""
        self._platform = platform
        self._ending = False
        self._lives: list[asyncio.Task[None]] = []
        self._sent: dict[str, dict[str, str]] = {}
        self._taken: Counter[str] = Counter()

    async def begin(self) -> None:
        """Let everybody send and take from now on."""
        for _ in range(CUSTOMERS):
            name = fresh("customer")
            self._sent[name] = {}
            token = await self._platform.user(name, BALANCE_FEN)
            self._lives.append(asyncio.create_task(self._live(name, token)))

    async def until(self, seen: Callable[[Counter[str]], bool]) -> None:
        """Wait until the answers so far are as wished."""
        deadline = time.monotonic() + WAIT_S
        while not seen(self.answers):
            assert time.monotonic() < deadline, f"it does not come about: {self.answers}"
            await asyncio.sleep(0.02)

    async def served(self) -> None:
        """Wait until everybody is served again."""
        before = self.answers["ok"]
        await self.until(lambda answers: answers["ok"] > before + 10 * CUSTOMERS)

    async def end(self) -> None:
        """Let everybody finish what he has begun, and check that nothing told is lost and nothing was done twice."""
        self._ending = True
        await asyncio.wait_for(asyncio.gather(*self._lives), WAIT_S)
        report = await self._platform.settled()
        assert report["clean"], report
        for name, packets in self._sent.items():
            token = self._platform.token(name)
            _, wallet, _ = await self._platform.ask("GET", "/v1/wallet", token)
            assert wallet["available_fen"] == BALANCE_FEN - PACKET_FEN * len(packets), "every send was paid once"
            key, packet_id = next(iter(packets.items()))
            again = await self._platform.send(token, key, PACKET_FEN, TAKERS)
            assert again["packet_id"] == packet_id, "a success, once told, is told again"
        for name, fen in self._taken.items():
            _, wallet, _ = await self._platform.ask("GET", "/v1/wallet", self._platform.token(name))
            assert wallet["available_fen"] == fen, "every share was credited once"

    def cancel(self) -> None:
        """Let everybody go away, as after a test that failed."""
        for life in self._lives:
            life.cancel()

    async def _live(self, name: str, token: str) -> None:
        takers = [f"{name}-taker-{n}" for n in range(TAKERS)]
        while not self._ending:
            key = fresh("key")
            body = {"kind": "lucky", "total_fen": PACKET_FEN, "count": TAKERS}
            packet = await self._insist("/v1/packets", token, body, Idempotency_Key=key)
            self._sent[name][key] = packet["packet_id"]
            path = f"/v1/packets/{packet['packet_id']}/grabs"
            shares = [await self._insist(path, self._platform.token(taker), None) for taker in takers]
            assert sum(share["amount_fen"] for share in shares) == PACKET_FEN
            for taker, share in zip(takers, shares, strict=True):
                self._taken[taker] += share["amount_fen"]
            await asyncio.sleep(0.02)

    async def _insist(self, path: str, token: str, body: Any, **headers: str) -> Any:
        """Repeat until it is answered for good."""
        while True:
            try:
                status_code, answer, _ = await self._platform.ask("POST", path, token, body, **headers)
            except (ConnectionError, msgspec.DecodeError):
                self.answers["cut"] += 1
            else:
                if status_code < 300:
                    self.answers["ok"] += 1
                    return answer
                self.answers[answer["code"]] += 1
                assert answer["retryable"], answer
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def customers(platform: Platform) -> AsyncIterator[Customers]:
    """Customers of the shared system, at work."""
    customers = Customers(platform)
    await customers.begin()
    await customers.served()
    yield customers
    customers.cancel()


@pytest.fixture(scope="module")
def own() -> Iterator[SystemRecord]:
    """A system of this module's own: its disk is filled, then it is ended under load."""
    data = Path(tempfile.mkdtemp(prefix="hongbao-degrade-"))
    try:
        yield up(data, owned=True, report=print)
    finally:
        down(data, print)
        shutil.rmtree(data, ignore_errors=True)


def store_of(record: SystemRecord) -> psutil.Process:
    """Return the store's process as it is now."""
    now = read_record(record.data)
    assert now is not None
    return psutil.Process(now.pids["store"].pid)


def parts_of(platform: Platform) -> dict[str, list[int]]:
    """Return the processes that no blip of the store may end."""
    return {title: sorted(platform.pids(title)) for title in PARTS}


async def unready(platform: Platform) -> Any:
    """Wait until /readyz says no, and return its problem. Meanwhile and then /healthz says yes."""
    deadline = time.monotonic() + WAIT_S
    while True:
        alive, _, _ = await platform.ask("GET", "/healthz", platform.operator)
        assert alive == 200
        status_code, problem, _ = await platform.ask("GET", "/readyz", platform.operator)
        if status_code != 200:
            return problem
        assert time.monotonic() < deadline, "it stays ready"
        await asyncio.sleep(0.02)


async def ready(platform: Platform) -> None:
    """Wait until /readyz says yes."""
    await platform.insist("GET", "/readyz", platform.operator)


async def test_a_silent_store_is_told_on_every_money_route_and_ends_no_process(
    platform: Platform, customers: Customers
) -> None:
    taker = platform.token(fresh("taker"))
    packet = await platform.send(await platform.user(fresh("sender"), BALANCE_FEN), fresh("key"), PACKET_FEN, TAKERS)
    path, send = f"/v1/packets/{packet['packet_id']}", {"kind": "lucky", "total_fen": 300, "count": 3}
    grabs = {"grabs": [{"packet_id": packet["packet_id"], "user": "a"}]}
    before = parts_of(platform)
    store = store_of(platform.record)
    store.suspend()
    try:
        problem = await unready(platform)
        assert (problem["code"], problem["retryable"]) == ("journal_unavailable", True)
        answers: list[Any] = await asyncio.gather(
            platform.ask("POST", "/v1/packets", taker, send, Idempotency_Key=fresh("key")),
            platform.ask("POST", f"{path}/grabs", taker),
            platform.ask("GET", path, taker),
            platform.ask("GET", "/v1/wallet", taker),
            platform.ask("GET", "/v1/wallet/statement", taker),
            platform.ask("POST", "/v1/grabs/batch", platform.gateway, grabs),
        )
        (_, batch, _) = answers.pop()
        assert batch["results"] == [{"code": "journal_unavailable"}]
        for status_code, body, headers in answers:
            assert (status_code, body["code"], body["retryable"]) == (503, "journal_unavailable", True), body
            assert headers["retry-after"]
        assert "does not answer" in status(platform.record.data).trouble
    finally:
        store.resume()
    await ready(platform)
    await customers.served()
    assert parts_of(platform) == before
    await customers.end()
    assert set(customers.answers) <= {"ok", *UNAVAILABLE}


async def test_a_killed_store_comes_back_and_ends_no_other_process(platform: Platform, customers: Customers) -> None:
    before = parts_of(platform)
    kill(store_of(platform.record).pid)
    await customers.until(lambda answers: bool(UNAVAILABLE & set(answers)))
    await ready(platform)
    await customers.served()
    assert parts_of(platform) == before
    await customers.end()
    assert set(customers.answers) <= {"ok", *UNAVAILABLE}


async def test_with_its_memory_full_the_store_takes_no_new_money_and_loses_none(
    platform: Platform, customers: Customers
) -> None:
    before = parts_of(platform)
    with redis.Redis.from_url(platform.record.store_url) as store:
        room = store.config_get("maxmemory")["maxmemory"]
        store.config_set("maxmemory", 1)
        try:
            problem = await unready(platform)
            assert problem["code"] == "journal_unavailable"
            trouble = status(platform.record.data).trouble
            assert "out of memory" in trouble
            assert "\n" not in trouble
            await customers.until(lambda answers: answers["journal_unavailable"] > 5 * CUSTOMERS)
            told = customers.answers["ok"]
            await customers.until(lambda answers: answers["journal_unavailable"] > 10 * CUSTOMERS)
            assert customers.answers["ok"] == told, "nobody sends or takes while there is no room"
            kill(platform.pids("ray::ShardActor")[0])  # whoever activates now finds no room either
            await customers.until(lambda answers: answers["journal_unavailable"] > 20 * CUSTOMERS)
        finally:
            store.config_set("maxmemory", room)
    await ready(platform)
    await customers.served()
    kept = [title for title in PARTS if title != "ray::ShardActor"]
    assert {title: parts_of(platform)[title] for title in kept} == {title: before[title] for title in kept}
    await customers.end()


async def test_a_rolling_redeploy_under_load_refuses_nobody_for_good_and_loses_nothing(
    platform: Platform, customers: Customers
) -> None:
    before = set(platform.pids("ray::ServeReplica"))
    deploying = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cluster.deploy", "--data", str(platform.record.data)),
        env=child_environment(platform.record),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=as_child,
    )
    assert await deploying.wait() == 0
    deadline = time.monotonic() + WAIT_S
    while before & set(platform.pids("ray::ServeReplica")):
        assert time.monotonic() < deadline, "the old replicas stay"
        await asyncio.sleep(0.1)
    await customers.served()
    await customers.end()


async def test_a_full_disk_stops_new_money_loses_none_and_service_resumes_when_there_is_room(own: SystemRecord) -> None:
    """The limit on a file's size stands for the full disk: the watchdog hands it on to every store it starts."""
    async with asked(own, keys_at(own.data / "keys.json")) as platform:
        customers = Customers(platform)
        await customers.begin()
        try:
            await customers.served()
            with disk_full(own):
                await customers.until(lambda answers: answers["journal_unavailable"] > 5 * CUSTOMERS)
                trouble = await disk_trouble(own, starts=4)
                assert "\n" not in trouble
                assert (await unready(platform))["code"] in UNAVAILABLE
            await customers.served()
            await ready(platform)
            await customers.end()
        finally:
            customers.cancel()
    assert own.watchdog.alive()
    assert status(own.data).trouble == ""


@contextlib.contextmanager
def disk_full(record: SystemRecord) -> Iterator[None]:
    """Let no file of the store, and of every store that the watchdog starts, grow much beyond the present journal."""
    journals = (record.data / "store" / "appendonlydir").glob("*.aof")
    room = max(path.stat().st_size for path in journals) + ROOM_BYTES
    watchdog, unlimited = psutil.Process(record.watchdog.pid), psutil.RLIM_INFINITY
    try:
        for process in (watchdog, store_of(record)):
            process.rlimit(psutil.RLIMIT_FSIZE, (room, unlimited))
        yield
    finally:
        watchdog.rlimit(psutil.RLIMIT_FSIZE, (unlimited, unlimited))


async def disk_trouble(record: SystemRecord, starts: int) -> str:
    """Wait until the store was started again so often, and status says that the disk is why; return its line."""
    deadline = time.monotonic() + WAIT_S
    while True:
        now = await asyncio.to_thread(status, record.data)
        if now.restarts.get("store", 0) >= starts and "cannot write to its disk" in now.trouble:
            return now.trouble
        assert time.monotonic() < deadline, f"it does not come about: {now}"
        await asyncio.sleep(0.05)


async def test_down_answers_what_is_under_way_and_takes_nothing_new(own: SystemRecord) -> None:
    async with asked(own, keys_at(own.data / "keys.json")) as platform:
        await ready(platform)
        sender = await platform.user(fresh("sender"), BALANCE_FEN)
        store = store_of(own)
        store.suspend()  # so that a request is under way for as long as we want
        send = {"kind": "lucky", "total_fen": 300, "count": 3}
        sending = asyncio.create_task(platform.ask("POST", "/v1/packets", sender, send, Idempotency_Key=fresh("key")))
        await asyncio.sleep(0.2)
        assert not sending.done()
        ending = asyncio.create_task(asyncio.to_thread(down, own.data, print))
        try:
            deadline = time.monotonic() + WAIT_S
            while _takes_connections(own.http_port):
                assert time.monotonic() < deadline, "it still listens"
                await asyncio.sleep(0.02)
        finally:
            store.resume()
        status_code, _, _ = await sending
        assert status_code == 201
        await ending
        assert status(own.data).state == "stopped"


def _takes_connections(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
