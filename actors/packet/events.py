"""Packet events: what happens in a packet stream, as its journal holds it for ever.

A field is only ever added at the end, with a default. Amounts in fen, instants in Unix ms, ranks from 1.
"""

import msgspec

from actors.transfers.funding import PacketFunded
from actors.transfers.payout import PayoutRun


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """The funding arrived: `transit -> escrow`, and the packet can be grabbed."""

    source: str
    funding: PacketFunded

    @property
    def stamp_ms(self) -> int:
        """When the packet was paid for: the opening itself has no stamp."""
        return self.funding.at_ms


class OpeningReturned(msgspec.Struct, frozen=True, array_like=True, tag="opening_returned"):
    """A second funding of a packet that exists: received and sent back to its sender in one entry."""

    source: str
    funding: PacketFunded
    to_wallet: int
    number: int

    @property
    def amount_fen(self) -> int:
        """The amount that goes back."""
        return self.funding.total_fen

    @property
    def stamp_ms(self) -> int:
        """When it was paid for: going back itself has no stamp."""
        return self.funding.at_ms


class GrabbedMany(msgspec.Struct, frozen=True, array_like=True, tag="grabbed_many"):
    """Users took the next shares of one packet: `escrow -> transit` to their wallets. The last one publishes the seed.

    Row i is rank `first_rank + i`, taken by `users[i]`: `amounts_fen[i]` to wallet stream `to_wallets[i]`. `numbers`
    holds, for each of these streams, the number of the first transfer to it here; the others to it follow that one.
    """

    packet_id: str
    tenant: str
    first_rank: int
    users: list[str]
    amounts_fen: list[int]
    at_ms: int
    to_wallets: list[int]
    numbers: dict[int, int]
    seed: bytes = b""

    def runs(self) -> dict[int, PayoutRun]:
        """Return the transfers, by wallet stream."""
        if len(self.users) == 1:
            [(to_wallet, number)] = self.numbers.items()
            return {to_wallet: self._run(number, self.users, self.amounts_fen)}
        rows: dict[int, tuple[list[str], list[int]]] = {to_wallet: ([], []) for to_wallet in self.numbers}
        for to_wallet, user, amount_fen in zip(self.to_wallets, self.users, self.amounts_fen, strict=True):
            users, amounts_fen = rows[to_wallet]
            users.append(user)
            amounts_fen.append(amount_fen)
        return {to_wallet: self._run(self.numbers[to_wallet], *columns) for to_wallet, columns in rows.items()}

    def _run(self, number: int, users: list[str], amounts_fen: list[int]) -> PayoutRun:
        return PayoutRun(number, "share", self.tenant, self.packet_id, users, amounts_fen, self.at_ms)


class PhraseMissed(msgspec.Struct, frozen=True, array_like=True, tag="phrase_missed"):
    """Users said a wrong phrase; who is named twice said one twice. No money moves."""

    packet_id: str
    users: list[str]
    at_ms: int


class Expired(msgspec.Struct, frozen=True, array_like=True, tag="expired"):
    """The packet's time is over: what is left goes back to the sender, and the seed is published.

    Of a burst whose rest rolls, `rolled_fen` goes into the next one first; `number` 0: nothing is left to go back.
    """

    packet_id: str
    amount_fen: int
    at_ms: int
    to_wallet: int
    number: int
    seed: bytes
    rolled_fen: int = 0
    rolled_into: str = ""


class Passivated(msgspec.Struct, frozen=True, array_like=True, tag="passivated"):
    """Packets left memory: ended and settled, each record kept beside the journal before this event."""

    packet_ids: list[str]
