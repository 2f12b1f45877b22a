"""Views: what people, wallets and auditors get to see of packets. Pure; changes nothing."""

from array import array
from collections.abc import Iterable, Mapping
from itertools import islice

import msgspec

from actors.kernel.names import user_hash
from actors.packet.commands import View
from actors.packet.replies import GrabLine, Luckiest, PacketView
from actors.packet.state import GRAB, HEAD_BYTES, Packet, PacketStreamState


def view_of(packet: Packet, asked: View) -> PacketView:
    """Return a packet with one page of its list in order of rank."""
    count, base = len(packet.rank_of), packet.rank_base
    first = min(max(asked.after_rank - base, 0), count)
    shown = 0 if asked.proof and packet.ended == "open" else asked.lines_max
    end = min(first + shown, count)
    rows = GRAB.iter_unpack(memoryview(packet.grabs)[first * GRAB.size : end * GRAB.size])
    users = islice(packet.rank_of, first, end)
    lines = [GrabLine(user, amount_fen, at_ms) for user, (amount_fen, at_ms) in zip(users, rows, strict=True)]
    terms = packet.terms
    own = packet.rank_of.get(asked.reader, 0)
    return PacketView(
        terms,
        packet.ended,
        packet.grabbed_fen,
        packet.refunded_fen,
        packet.seed,
        lines,
        first_rank=base + first + 1,
        grabbed_count=count,
        reader_rank=own and base + own,
        luckiest=_luckiest(packet) if packet.ended == "drained" else None,
        last_grab_ms=GRAB.unpack_from(packet.grabs, (count - 1) * GRAB.size)[1] if count else 0,
        chain=packet.chain[:HEAD_BYTES] or packet.chain_start(terms),
        links=packet.links if asked.proof and shown and not first else b"",
        rolled_in_fen=packet.rolled_in_fen,
        rolled_out_fen=packet.rolled_out_fen,
    )


def _luckiest(packet: Packet) -> Luckiest:
    user, rank, amount_fen = packet.luckiest()
    return Luckiest(user, packet.rank_base + rank, amount_fen)


def winners_of(tenant: str, users: Iterable[str]) -> bytes:
    """Return `PacketEnd.winners`; touches no state, so that any thread may do it."""
    return array("I", sorted(user_hash(tenant, user) for user in users)).tobytes()


def totals_of(state: PacketStreamState) -> dict[str, int]:
    """Return what its packets were paid and have paid, in fen, read from every packet: O(packets)."""
    packets, passed = state.packets.values(), state.passed
    return {
        "funded_fen": passed.funded_fen + sum(p.total_fen - p.rolled_in_fen for p in packets),
        "paid_fen": passed.paid_fen + sum(p.grabbed_fen for p in packets),
        "refunded_fen": passed.refunded_fen + sum(p.refunded_fen for p in packets),
    }


def records_of(quiet: Iterable[str], packets: Mapping[str, Packet], before_ms: int) -> dict[str, bytes]:
    """Return the records of the quiet packets, in order, up to the first that has not ended by then."""
    records: dict[str, bytes] = {}
    for packet_id in quiet:
        packet = packets.get(packet_id)
        if packet is None:
            continue  # it left before those in front of it
        if packet.ended_ms > before_ms:
            break
        records[packet_id] = msgspec.msgpack.encode(packet)
    return records
