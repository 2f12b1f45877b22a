"""System: the whole platform in one process, without Ray: real machines, shells, hosts, settlement and gateway service.

Only the store (its in-memory twin), the clock and the way between processes are other adapters of the same ports.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from actors.kernel.host import Host
from actors.kinds import build_host, kind_of
from actors.ledger.transfer import Outgoing
from actors.settlement.task import settle
from cluster.config import Keys, Settings, load
from cluster.gateway.service import Service
from cluster.journal.codec import platform_codec
from cluster.runtime.directory import REPLIES, Reply
from cluster.runtime.live_audit import Conservation, audit
from cluster.runtime.placement import host_of_streams, hosts
from cluster.runtime.shards import services_of
from tests.simulation.memory_journal import MemoryJournals

KEYS = Keys(first="k1", current="k1", platform={"k1": "ab" * 32}, tokens={})
TENANT = "wechat"


def joined(base: Any, override: Any) -> Any:
    """Return nested tables with what another says put into them."""
    if not isinstance(base, dict) or not isinstance(override, dict):
        return override
    both = {name: joined(base[name], override[name]) for name in base.keys() & override.keys()}
    return base | override | both


def ruled(kind: str, **rules: Any) -> dict[str, Any]:
    """Return what `System.start` is told to change some rules of a kind."""
    return {kind: {"rules": rules}}


class StepClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.ms = 1_451_577_900_000  # 2016-01-01 00:05 in China

    def now_ms(self) -> int:
        """Return Unix milliseconds."""
        return self.ms


class LocalDirectory:
    """The directory's contract over hosts in this process; messages are encoded as between processes."""

    def __init__(self, settings: Settings, members: dict[str, Host]) -> None:
        self._settings = settings
        self._members = members

    def host_of(self, stream: str) -> str:
        """Name the host of a stream."""
        return host_of_streams(self._settings)[stream]

    async def call(self, host: str, method: str, *arguments: Any) -> Any:
        """Call what `ShardActor` would call."""
        member = self._members[host]
        if method == "report":
            return msgspec.msgpack.encode(await member.report(audit=arguments[0]))
        if method == "totals_at":
            asked = msgspec.msgpack.decode(arguments[0], type=list[tuple[str, str, int, list[int]]])
            return msgspec.msgpack.encode(await member.totals_at(asked))
        return await getattr(member, method)(*arguments)

    async def ask_host(self, host: str, groups: Sequence[tuple[str, Sequence[Any]]]) -> list[list[Reply]]:
        """Ask streams of one host."""
        return REPLIES.decode(await self._members[host].handle(msgspec.msgpack.encode(groups)))

    async def ask(self, groups: Sequence[tuple[str, Sequence[Any]]]) -> list[list[Reply]]:
        """Ask streams wherever they are."""
        return [(await self.ask_host(self.host_of(stream), [(stream, commands)]))[0] for stream, commands in groups]

    async def outgoing(self, host: str) -> list[Outgoing]:
        """Return what the host has to deliver."""
        return await self._members[host].outgoing()


class System:
    """One system. `await System.start()`; hosts may be replaced as a restarted actor would be."""

    def __init__(self, settings: Settings, journals: MemoryJournals) -> None:
        self.settings = settings
        self.journals = journals
        self.clock = StepClock()
        self.keys = KEYS
        """Those of the hosts that are made from now on."""
        self.members: dict[str, Host] = {}
        directory: Any = LocalDirectory(settings, self.members)
        self.directory = directory
        self.service = Service(settings, directory)

    @classmethod
    async def start(cls, **override: Any) -> "System":
        """Create and start a small system; `override` replaces parts of configs/local.toml."""
        settings = load(**joined({"packet": {"streams": 2}, "wallet": {"streams": 2}}, override))
        journals = MemoryJournals(platform_codec())
        await journals.create_system(settings.layout)
        system = cls(settings, journals)
        for host in hosts(settings):
            system.replace(host)
        return system

    def make_host(self, name: str, streams: list[str]) -> Host:
        """Make a host as `cluster.runtime.shards.ShardActor` does."""
        kind, services = kind_of(streams[0]), services_of(self.settings, self.keys)
        rules = self.settings.kinds[kind.name].rules
        return build_host(name, kind, streams, self.journals, self.clock, services, rules)

    def replace(self, name: str) -> Host:
        """Put a fresh host in the place of the one of that name (which lives on as a zombie) and return the old one."""
        old = self.members.get(name)
        self.members[name] = self.make_host(name, hosts(self.settings)[name])
        return old if old is not None else self.members[name]

    async def settle(self) -> None:
        """Run settlement of every host until nothing is left."""
        for _ in range(4):
            await settle(self.directory, list(self.members), rounds_max=20, idle_rounds_max=1, pause_ms=0)

    async def tick(self) -> None:
        """Let every host look at the clock."""
        await asyncio.gather(*(member.tick() for member in self.members.values()))

    async def audit(self) -> Conservation:
        """Read all books."""
        return await audit(self.directory, self.settings)

    async def stop(self) -> None:
        """End every activation."""
        for member in self.members.values():
            await member.stop()
