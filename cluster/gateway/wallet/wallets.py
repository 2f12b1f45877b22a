"""Wallets: wallet streams asked by one gateway replica: sends, balances, commitments, requests for packets, notes."""

from typing import Any

import msgspec

from actors.kernel.messages import Refused
from actors.kernel.names import User
from actors.refusals import Refusal
from actors.transfers.ids import Layout, parse_packet_id, wallet_index_of, wallet_stream
from actors.wallet.commands import AcceptLishi, AskLishi, CommitSeed, CountLishi, ReadNotes, Send
from actors.wallet.events import Committed
from actors.wallet.replies import AskCounted, Funded, LishiTold, Note, NoteList
from cluster.config import Settings
from cluster.gateway.dispatch.batcher import Batching
from cluster.gateway.packet.packets import Packets
from cluster.gateway.problems import expect, refused, told
from cluster.runtime.directory import Reply

_ASKED_TOO_LATE = "This request is older than what is remembered of its like; ask again with another key."
_ASKED_TOO_OFTEN = "Such a request is open, was not granted lately, or too many wait for that person; ask again later."


class Wallets:
    """The wallet streams of one system, for one gateway replica."""

    def __init__(self, settings: Settings, batching: Batching, packets: Packets) -> None:
        self._stream_count = Layout.of(settings.layout).wallet
        self._batching = batching
        self._packets = packets

    def stream_of(self, user: User) -> str:
        """Name the stream that holds the user's money."""
        return wallet_stream(wallet_index_of(user.tenant, user.user, self._stream_count))

    def payer_of(self, packet_id: str) -> str:
        """Name the wallet stream whose book paid for a packet that exists."""
        place = parse_packet_id(packet_id)
        assert place is not None, "a packet that exists has an id"
        return wallet_stream(place.wallet_index)

    async def ask(self, command: Any) -> Reply:
        """Ask the wallet of the user whom a command names. Raises Problem."""
        return await self.ask_stream(self.stream_of(User(command.tenant, command.user)), command)

    async def ask_stream(self, stream: str, command: Any) -> Reply:
        """Ask the wallet stream of that name. Raises Problem."""
        reply = await self._batching.ask(stream, command)
        if isinstance(reply, Refused):
            raise refused(reply.code, reply.part)
        return reply

    async def send(self, send: Send) -> Funded:
        """Debit the sender, then open what was sent: the answer means open. Raises Problem."""
        return await self.fund(self.stream_of(User(send.tenant, send.user)), send)

    async def fund(self, stream: str, command: Send | AcceptLishi) -> Funded:
        """Let a wallet stream pay for a packet, or all of a crowd's, then open it. Raises Problem.

        Dying between the two loses nothing: the same key opens it later, or settlement does.
        """
        funded = expect(await self._batching.ask(stream, command), Funded)
        await self._packets.open(funded)
        return funded

    async def commit(self, commit: CommitSeed) -> Committed:
        """Commit to the seed of a packet that is not sent yet. Raises Problem."""
        return expect(await self.ask(commit), Committed)

    async def ask_lishi(self, ask: AskLishi) -> LishiTold:
        """Count an ask in the asker's stream, then ask. Raises Problem."""
        count = CountLishi(ask.tenant, ask.user, ask.asked, ask.key)
        with told(Refusal.RATE_LIMITED, "You have asked as often as one may in a day; ask again later."):
            counted = expect(await self.ask(count), AskCounted)
        ask = msgspec.structs.replace(ask, counted_ms=counted.at_ms)
        with told(Refusal.RATE_LIMITED, _ASKED_TOO_OFTEN), told(Refusal.LISHI_LAPSED, _ASKED_TOO_LATE):
            return expect(await self.ask_stream(self.stream_of(User(ask.tenant, ask.asked)), ask), LishiTold)

    async def notes(self, packet_id: str) -> list[Note]:
        """Read the notes of a packet that exists. Raises Problem."""
        return expect(await self.ask_stream(self.payer_of(packet_id), ReadNotes(packet_id)), NoteList).notes
