"""Gateway places: what callers of one gateway replica share, each small and never answered; see `tests.unit.places`."""

import asyncio
import time
from array import array
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, cast

from actors.kernel.names import User
from actors.kernel.quota import Bound
from actors.packet.commands import Grab
from actors.packet.grab_replies import DRAINED, OVERLOADED
from actors.packet.replies import PacketEnd
from cluster.config import load
from cluster.gateway.dispatch.batcher import Batcher, Parcel
from cluster.gateway.dispatch.ended_packet_cache import ENTRY_BYTES, EndedPacketCache
from cluster.gateway.middleware.admission import Admission, Caller
from cluster.gateway.middleware.overload_control import SEND, OverloadControl
from cluster.gateway.middleware.queue_delay import overload_rules
from cluster.gateway.packet.photos import Band, Photos
from cluster.gateway.packet.stream import Streams
from cluster.gateway.problems import Problem
from cluster.tokens import Verifier, mint
from tests.unit.fake_replica import Replica
from tests.unit.places import PERCENT, WHOLE, Take
from tests.unit.samples import order
from tests.unit.test_auth import KEYS

PARTS = {"user": PERCENT.user, "tenant": PERCENT.tenant}
TURNS = 5
"""Of the loop, in which whoever is let in begins to wait, and whoever is not has been told."""

_loops: list[asyncio.AbstractEventLoop] = []


def end() -> None:
    """End everything that is under way in the loops of these places."""
    while _loops:
        loop = _loops.pop()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.close()


class _Loop:
    """A loop of a place's own, that runs a few turns at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        _loops.append(self._loop)

    def begin(self, work: Coroutine[Any, Any, Any], turns: int = TURNS) -> "asyncio.Task[Any]":
        """Start something and leave it where it waits."""

        async def started() -> "asyncio.Task[Any]":
            task = asyncio.ensure_future(work)
            for _ in range(turns):
                await asyncio.sleep(0)
            return task

        return self._loop.run_until_complete(started())


async def never(*_: Any) -> Any:
    """Wait for ever."""
    await asyncio.Event().wait()


def uploads() -> Take:
    """Pictures whose bytes do not come."""
    settings = load(bounds={"photos_uploading_max": WHOLE}, fair={"photos_uploading_max": PARTS})
    nothing = cast(Any, None)
    loop, photos = _Loop(), Photos(settings, KEYS, nothing, nothing, nothing, nothing)

    def take(tenant: str, user: str, number: int) -> Any:
        upload = loop.begin(photos.upload(User(tenant, user), f"k{number}", Band(1, 1), never))
        if not upload.done():
            return None
        problem = upload.exception()
        assert isinstance(problem, Problem), problem
        assert problem.code == "overloaded", problem.code
        return OVERLOADED

    return take


def streams() -> Take:
    """Streams whose clients write nothing."""
    loop, replica = _Loop(), Replica()
    replica.settings = load(stream={"streams_max": WHOLE}, fair={"streams_max": PARTS})
    replica.streams = Streams(replica.settings, cast(Any, replica.service), replica.platform_key)

    def take(tenant: str, user: str, number: int) -> Any:
        token = mint(KEYS, user=user, tenant=tenant, scope="gateway", now_s=int(time.time()), ttl_s=60)

        async def call() -> int:
            caller = replica.call(token)
            for _ in range(TURNS):
                await asyncio.sleep(0)
            return caller.status

        status = loop.begin(call(), 2 * TURNS).result()
        assert status in (200, 429), status
        return OVERLOADED if status == 429 else None

    return take


class _Calm:
    """Queue delay that is measured already."""

    measuring = True


def requests() -> Take:
    """Requests under way."""
    gate = Admission(
        cast(Any, None), OverloadControl(overload_rules(load().overload)), cast(Any, _Calm()), Bound.of(WHOLE, PERCENT)
    )

    def take(tenant: str, user: str, number: int) -> Any:
        caller = Caller(tenant, user)
        if not gate.lets_in(SEND, caller):
            return OVERLOADED
        gate.enter(caller)
        return None

    return take


class _Silent:
    """Hosts that never answer."""

    async def ask_host(self, host: str, groups: Any) -> Any:
        await never()


def _queue(command: Callable[[str, str, int], Any]) -> Take:
    loop = _Loop()
    batcher = Batcher("h", _Silent(), queue_max=WHOLE, batch_max=1, fair=PERCENT)

    async def put(asked: Any, lane: Any) -> Parcel:
        parcel = Parcel("s", [asked], 1e12, None, lane)
        batcher.put(parcel)
        return parcel

    loop.begin(put(order(), "under way"))

    def take(tenant: str, user: str, number: int) -> Any:
        parcel = loop.begin(put(command(tenant, user, number), number)).result()
        return parcel.future.result()[0] if parcel.future.done() else None

    return take


def queued_sends() -> Take:
    """What waits for a wallet shard."""
    return _queue(lambda tenant, user, number: order(tenant=tenant, user=user))


def queued_grabs() -> Take:
    """What waits for a packet shard: of one user before many packets."""
    return _queue(lambda tenant, user, number: Grab(f"p{number}", tenant, user))


class Cache(NamedTuple):
    """How something of a tenant's is put in a cache, and whether it is still there."""

    put: Callable[[str, int], None]
    has: Callable[[str, int], bool]


def tokens() -> Cache:
    """Tokens that were verified: a tenant makes as many as it likes."""
    verifier, now_s = Verifier(KEYS, WHOLE, PERCENT), int(time.time())

    def token(tenant: str, number: int) -> str:
        return mint(KEYS, user=f"u{number}", tenant=tenant, scope="user", now_s=now_s, ttl_s=60)

    return Cache(
        lambda tenant, number: cast(None, verifier.verify(token(tenant, number), now_s)),
        lambda tenant, number: token(tenant, number) in verifier._verified,
    )


def _ended(packets: Bound, sizes: Bound) -> Cache:
    loop = _Loop()

    def post(stream: str, commands: list[Any]) -> "asyncio.Future[list[Any]]":
        answered: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        answered.set_result([PacketEnd("drained", array("I", [1]).tobytes())])
        return answered

    ended = EndedPacketCache(post, packets=packets, sizes=sizes)

    async def notice(tenant: str, number: int) -> None:
        ended.notice(DRAINED, "s", f"{tenant}-{number}", tenant)

    return Cache(
        lambda tenant, number: cast(None, loop.begin(notice(tenant, number))),
        lambda tenant, number: ended.find(f"{tenant}-{number}", tenant) is not None,
    )


def ended_packets() -> Cache:
    """Ended packets, by number."""
    return _ended(Bound.of(WHOLE, PERCENT), Bound.of(10**9))


def ended_bytes() -> Cache:
    """Ended packets, by what they take."""
    return _ended(Bound.of(10**9), Bound.of(WHOLE * (ENTRY_BYTES + 4), PERCENT))
