"""Traffic: what the recovery bench asks of a running system's shards, through their actors as a gateway does.

Sends, openings and grabs are real commands, so that the journals are real ones and the audit holds. Only the accounts
and packets of the stall measurements are put on one stream each, where a gateway would spread them.
"""

import asyncio
import itertools
import os
from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import RayError

from actors.kernel.messages import Refused
from actors.packet.commands import Grab, GrabMany, Open, View
from actors.packet.replies import OpenNow, PacketView, Shares, Takings, Won
from actors.packet.rules import PacketRules
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded
from actors.transfers.ids import Layout, wallet_index_of, wallet_stream
from actors.wallet.commands import CreditSandbox, ReadWallet, Send
from actors.wallet.replies import Funded, WalletView
from cluster.config import Keys, Settings
from cluster.runtime.directory import Directory
from cluster.runtime.live_audit import audit
from cluster.runtime.maintenance import start_maintenance
from cluster.runtime.placement import NAMESPACE, host_of_streams, hosts
from cluster.runtime.shards import CALLS_MAX

TENANT = "wechat"
SENDERS = 50
BALANCE_FEN = 10**12
SHARES = 1_000
PROBE_SHARES = 10_000
GRABS_A_CALL = 200
COMMANDS_A_CALL = 1_000
CALLS_AT_ONCE = 8
SETTLE_S_MAX = 300.0
POLL_S = 0.2
ACCOUNTS_STREAM = "wallet-000"
UNAVAILABLE = Refused(Refusal.SHARD_UNAVAILABLE)


class BareActor:
    """A Ray actor that does nothing, with the options of a shard: what any restart costs."""

    def __init__(self) -> None:
        class Nothing:
            async def handle(self, payload: bytes) -> bytes:
                return payload

            async def pid(self) -> int:
                return os.getpid()

        self._handle: Any = (
            ray.remote(Nothing)
            .options(max_restarts=-1, max_task_retries=0, max_concurrency=CALLS_MAX, num_cpus=0.1)
            .remote()
        )

    async def pid(self) -> int:
        """Return its process."""
        return int(await self._handle.pid.remote())

    async def ask(self) -> bool:
        """Tell whether it answers."""
        try:
            return bool(await self._handle.handle.remote(b"?"))
        except RayError:
            return False

    def end(self) -> None:
        """End it for good."""
        ray.kill(self._handle, no_restart=True)


class Traffic:
    """Load on one running system, whose driver this process is."""

    def __init__(self, settings: Settings, keys: Keys) -> None:
        self._settings = settings
        self._keys = keys
        self._directory = Directory(settings)
        self.host = host_of_streams(settings)["packet-000"]
        self._serial = itertools.count()
        self._events = 0
        self._probe: PacketFunded

    async def begin(self) -> None:
        """Give the senders money and open the packet that `grab` asks."""
        for sender in range(SENDERS):
            name = f"sender-{sender}"
            await self._ask(self._wallet_of(name), [CreditSandbox(TENANT, name, BALANCE_FEN)])
        [self._probe] = await self._send(1, PROBE_SHARES)

    async def grab(self) -> bool:
        """Take one more share of the same packet; tell whether it was answered."""
        grab = Grab(self._probe.packet_id, TENANT, self._name())
        return isinstance(await self._reply(self._probe.packet_stream, grab), Won)

    async def look(self) -> bool:
        """Look at the packet that `grab` asks; tell whether it was answered."""
        view = View(self._probe.packet_id, TENANT)
        return isinstance(await self._reply(self._probe.packet_stream, view), PacketView)

    async def read(self) -> bool:
        """Read one of `accounts`; tell whether it was answered."""
        return isinstance(await self._reply(ACCOUNTS_STREAM, ReadWallet(TENANT, "account00000001")), WalletView)

    async def journal(self, events: int) -> None:
        """Let packets be sent and drained until so many grabs are journaled; wait until they are settled and gone."""
        while self._events < events:
            packets = -(-min(events - self._events, CALLS_AT_ONCE * SHARES) // SHARES)
            await asyncio.gather(*(self._drain(SHARES) for _ in range(packets)))
            self._events += packets * SHARES
        await self._settled()

    async def snapshot(self) -> None:
        """Maintain every packet stream: a snapshot, and what lies behind the one before it sealed and trimmed."""
        await self._send(SENDERS, 1)
        for stream in hosts(self._settings)[self.host]:
            assert not await start_maintenance([stream], self._settings, self._keys), "a snapshot was taken"

    async def pid(self) -> int:
        """Return the process of the packets' host."""
        return await self._pid_of(self.host)

    async def pid_of_accounts(self) -> int:
        """Return the process that hosts `accounts`."""
        return await self._pid_of(host_of_streams(self._settings)[ACCOUNTS_STREAM])

    async def _pid_of(self, host: str) -> int:
        handle: Any = await asyncio.to_thread(ray.get_actor, host, namespace=NAMESPACE)
        return int(await handle.__ray_call__.remote(lambda actor: os.getpid()))

    def bare_actor(self) -> BareActor:
        """Create a bare actor."""
        return BareActor()

    async def check(self) -> None:
        """Make sure that every fen has one place."""
        await self._settled()
        report = await audit(self._directory, self._settings)
        assert report.clean, f"the audit is not clean: {report}"
        assert report.in_flight_fen == 0, "everything is settled"

    # One big stream.

    async def accounts(self, count: int) -> None:
        """Open that many accounts in the first wallet stream."""
        commands = (CreditSandbox(TENANT, f"account{n:08d}", 1_000 + n * 7_919 % 99_991) for n in range(count))
        await self._all(ACCOUNTS_STREAM, commands)

    async def snapshot_of_accounts(self) -> None:
        """Maintain the stream of `accounts`, with something new in it."""
        await self._ask(ACCOUNTS_STREAM, [CreditSandbox(TENANT, self._name(), 1)])
        assert not await start_maintenance([ACCOUNTS_STREAM], self._settings, self._keys), "a snapshot was taken"

    async def live_packets(self, count: int, shares: int, taken: int) -> None:
        """Open that many packets and take some shares of each."""
        users = [f"taker-{n}" for n in range(taken)]
        for _ in range(0, count, SENDERS * COMMANDS_A_CALL // 10):
            opened = await asyncio.gather(*(self._send(COMMANDS_A_CALL // 10, shares) for _ in range(SENDERS)))
            grabs: dict[str, list[Any]] = {}
            for funding in itertools.chain(*opened):
                grabs.setdefault(funding.packet_stream, []).append(GrabMany(funding.packet_id, TENANT, users))
            await asyncio.gather(*(self._ask(stream, commands) for stream, commands in grabs.items()))
        await self._settled()

    async def audit_once(self) -> None:
        """Read all books."""
        await audit(self._directory, self._settings)

    # Below: real commands, many a call.

    async def _drain(self, shares: int) -> None:
        [funding] = await self._send(1, shares)
        users = [self._name() for _ in range(shares)]
        for at in range(0, shares, GRABS_A_CALL):
            command = GrabMany(funding.packet_id, TENANT, users[at : at + GRABS_A_CALL])
            [takings] = await self._ask(funding.packet_stream, [command])
            assert isinstance(takings, Takings | Shares), f"an open packet is taken: {takings}"

    async def _send(self, count: int, shares: int) -> list[PacketFunded]:
        """Send packets and open them, as a gateway does."""
        sender = f"sender-{next(self._serial) % SENDERS}"
        sends = [Send(TENANT, sender, self._name(), "lucky", shares * 100, shares, "") for _ in range(count)]
        funded = await self._ask(self._wallet_of(sender), sends)
        opens: dict[str, list[Any]] = {}
        for reply in funded:
            assert isinstance(reply, Funded), f"a sender with money can send: {reply}"
            opens.setdefault(reply.funding.packet_stream, []).append(Open(reply.source, reply.funding))
        opened = await asyncio.gather(*(self._ask(stream, commands) for stream, commands in opens.items()))
        replies = list(itertools.chain(*opened))
        assert all(isinstance(reply, OpenNow) for reply in replies), f"what is paid for opens: {replies[:1]}"
        return [command.funding for commands in opens.values() for command in commands]

    async def _all(self, stream: str, commands: Iterator[Any]) -> None:
        """Ask one stream everything, some calls at a time."""

        async def one() -> None:
            while chunk := list(itertools.islice(commands, COMMANDS_A_CALL)):
                await self._ask(stream, chunk)

        await asyncio.gather(*(one() for _ in range(CALLS_AT_ONCE)))

    async def _reply(self, stream: str, command: Any) -> Any:
        """Ask one thing once; a refusal if nobody answers."""
        [[reply]] = await self._directory.ask([(stream, [command])])
        return reply

    async def _ask(self, stream: str, commands: list[Any]) -> list[Any]:
        [replies] = await self._directory.ask([(stream, commands)])
        assert replies != [UNAVAILABLE] * len(commands), f"{stream} does not answer"
        return replies

    async def _settled(self) -> None:
        """Wait until nothing is between two books, and ended packets have left memory."""
        deadline_s = asyncio.get_running_loop().time() + SETTLE_S_MAX
        while any([await self._directory.outgoing(host) for host in hosts(self._settings)]):
            assert asyncio.get_running_loop().time() < deadline_s, "settlement does not end"
            await asyncio.sleep(POLL_S)
        await asyncio.sleep(3 * self._settings.rules(PacketRules).passivate_after_ms / 1000)

    def _wallet_of(self, user: str) -> str:
        return wallet_stream(wallet_index_of(TENANT, user, Layout.of(self._settings.layout).wallet))

    def _name(self) -> str:
        return f"user{next(self._serial):09d}"
