"""Payout: the transfers from a packet stream to a wallet stream, run by run. Amounts in fen."""

from typing import Literal

import msgspec


class PayoutRun(msgspec.Struct, frozen=True, array_like=True, tag="payout_run"):
    """Transfers of one packet from its book to one wallet stream, numbered one after another from `number` on.

    `share`: takers' shares; `refund`: what is left goes back to the sender; `returned`: so does a second funding, which
    is not part of the packet. Row i is transfer `number + i`, of `amounts_fen[i]` to `users[i]`.
    """

    number: int
    kind: Literal["share", "refund", "returned"]
    tenant: str
    packet_id: str
    users: list[str]
    amounts_fen: list[int]
    at_ms: int

    @property
    def transfers(self) -> int:
        """How many transfers these are."""
        return len(self.users)

    @property
    def amount_fen(self) -> int:
        """What they move together."""
        return sum(self.amounts_fen)
