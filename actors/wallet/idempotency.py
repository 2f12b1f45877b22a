"""Idempotency: what a wallet stream remembers of sends, and how long. Pure: a part of what its machine applies.

A packet id stands for (tenant, sender, key). Here it is remembered for its time, and at least until all that was paid
for under the key has arrived; in its packet's stream it is remembered for ever. So, whatever the clocks say, a key that
pays again meets all its first packets there, and what it pays goes back. What is forgotten follows from the stamps and
acknowledgements of events, so that a replay forgets the same. Stamps and periods are Unix milliseconds.
"""

from typing import TYPE_CHECKING

from actors.transfers.funding import PacketFunded

if TYPE_CHECKING:
    from actors.wallet.machine import WalletState


def remember(state: "WalletState", event: PacketFunded, keep_ms: int) -> None:
    """Take a funding in, and forget what is past its time and has arrived."""
    fundings = state.fundings
    known = fundings.pop(event.packet_id, None)  # older systems forgot what had not arrived, and paid again
    fundings[event.packet_id] = event.compact()
    if event.named_by_key:
        named = state.named.setdefault(event.named_by_key, [])
        named += [event.packet_id] if known is None else []
    while event.at_ms - (oldest := next(iter(fundings.values()))).at_ms >= keep_ms:
        del fundings[oldest.packet_id]
        if _has_arrived(state, oldest):
            state.named.pop(oldest.named_by_key, None)
        else:
            fundings[oldest.packet_id] = oldest  # it is looked at again when those behind it are past


def _has_arrived(state: "WalletState", funding: PacketFunded) -> bool:
    """Tell whether all that the same key paid for is known to have arrived at its packets' streams."""
    names = state.named.get(funding.named_by_key, [])
    parts = [funding, *(state.fundings[name] for name in names if name in state.fundings)]
    return all(one.number <= state.book.sent[one.packet_stream].settled_number for one in parts)
