"""Share check: do the shares of ended packets follow from the seed that was committed to? By files and journals alone.

Told by the events of a packet stream and recomputed by the page that people check proofs with, which shares no code
with the shards: the seed gives the commitment, the shares follow from it, what they are taken of is what was paid.
Where a packet has left memory, the record that answers for it has the same seed, claims and chain.

Cost: each share of a packet with up to BLOCKS_MAX blocks of 10,000 is recomputed; of a longer one BLOCKS_MAX blocks,
which its seed chooses. In memory are the claims of open packets (4 bytes each), and a line for each that has ended and
not left memory yet.
"""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from actors.kernel.ports import Event
from actors.kernel.proof import UNPROVEN_SHOWN, Proved, Unproven
from actors.packet import verify_packet as page
from actors.packet.events import Expired, GrabbedMany, Opened, Passivated
from actors.packet.state import GRAB, HEAD_BYTES, decode_record
from actors.transfers.funding import PacketFunded

BLOCKS_MAX = 8


class _Claims:
    """What was taken of one open packet."""

    def __init__(self, terms: PacketFunded) -> None:
        self.terms = terms
        self.total_fen = terms.total_fen
        self.amounts = array("I")
        self.chain: bytes | None = None
        """Its head, None before the first claim."""

    def take(self, event: GrabbedMany) -> None:
        """Take the next claims in."""
        if self.chain is None:
            self.chain = self.first_head()
        rows = b"".join(GRAB.pack(amount_fen, event.at_ms) for amount_fen in event.amounts_fen)
        users = "\n".join(event.users).encode()
        size = len(event.users).to_bytes(4, "little")
        self.chain = hashlib.sha256(self.chain + size + rows + users).digest()
        self.amounts.extend(event.amounts_fen)

    def first_head(self) -> bytes:
        """Return the head of the chain before the first claim."""
        terms = self.terms
        limits = map(str, (self.total_fen, terms.count, terms.share_fen_min, terms.share_fen_max))
        told = "\n".join((terms.algorithm, *limits, terms.sender_nonce))
        return hashlib.sha256(terms.commitment + told.encode()).digest()


class _Ended(NamedTuple):
    """What is known of a packet that has ended, until it leaves memory."""

    seed: bytes
    chain: bytes | None
    taken: int
    grabbed_fen: int
    is_proven: bool


class ShareProver:
    """Takes the events of one packet stream in, oldest first."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._open: dict[str, _Claims] = {}
        self._ended: dict[str, _Ended] = {}
        self._packets = self._taken = self._checked = 0
        self._unproven: list[Unproven] = []
        self._unproven_count = 0

    def take(self, event: Event) -> Sequence[str]:
        """Take the next event in; return the packets that left memory by it, whose records are to be shown."""
        match event:
            case Opened():
                self._open[event.funding.packet_id] = _Claims(event.funding)
            case GrabbedMany():
                self._grab(event)
            case Expired():
                if event.rolled_into:
                    self._open[event.rolled_into].total_fen += event.rolled_fen
                self._end(event.packet_id, event.seed)
            case Passivated():
                return event.packet_ids
        return ()

    def show(self, packet_id: str, record: bytes | None) -> None:
        """Hold the record of a packet that left memory against its journal."""
        told = self._ended.pop(packet_id)
        if not told.is_proven:
            return
        if record is None:
            self._find(packet_id, "its record is missing: nobody can be answered any more")
            return
        kept = decode_record(record)
        if (kept.seed, len(kept.rank_of), kept.grabbed_fen) != (told.seed, told.taken, told.grabbed_fen):
            self._find(packet_id, "its record tells another seed or other claims than the journal")
        elif told.chain is not None and kept.chain[:HEAD_BYTES] != told.chain:
            self._find(packet_id, "the claim chain in its record is not that of the journal")

    def result(self) -> Proved:
        """Return what was found."""
        counts = {"packets_ended": self._packets, "shares_taken": self._taken, "shares_checked": self._checked}
        return Proved(counts, self._unproven, self._unproven_count)

    def _grab(self, event: GrabbedMany) -> None:
        claims = self._open[event.packet_id]
        claims.take(event)
        if len(claims.amounts) == claims.terms.count:
            self._end(event.packet_id, event.seed)

    def _end(self, packet_id: str, seed: bytes) -> None:
        claims = self._open.pop(packet_id)
        taken = len(claims.amounts)
        self._packets += 1
        self._taken += taken
        found = self._wrong_in(claims, seed)
        if found:
            self._find(packet_id, found)
        self._ended[packet_id] = _Ended(seed, claims.chain, taken, sum(claims.amounts), not found)

    def _wrong_in(self, claims: _Claims, seed: bytes) -> str:
        """Say what is wrong with the shares of an ended packet; empty: nothing was found."""
        terms = claims.terms
        named = b"\0".join((terms.algorithm.encode(), terms.packet_id.encode(), seed))
        if hashlib.sha256(named).digest() != terms.commitment:
            return "the seed that was published is not the one that was committed to"
        if not terms.share_fen_min * terms.count <= claims.total_fen <= terms.share_fen_max * terms.count:
            return f"{claims.total_fen} fen cannot be its {terms.count} shares"
        for place, shares in _recomputed(claims, seed):
            told = claims.amounts[place : place + len(shares)].tolist()
            self._checked += len(told)
            for rank, (amount_fen, share_fen) in enumerate(zip(told, shares, strict=False), place + 1):
                if amount_fen != share_fen:
                    return f"share {rank} is {amount_fen} fen, the seed gives {share_fen}"
        return ""

    def _find(self, packet_id: str, found: str) -> None:
        self._unproven_count += 1
        if len(self._unproven) < UNPROVEN_SHOWN:
            self._unproven.append(Unproven(self._stream, packet_id, found))


def _recomputed(claims: _Claims, seed: bytes) -> Iterator[tuple[int, list[int]]]:
    """Yield (place of the first, shares) of the blocks that are checked, of those that somebody has taken of."""
    terms, total = claims.terms, claims.total_fen
    count, limits = terms.count, (terms.share_fen_min, terms.share_fen_max)
    key = page.mac(seed, b"nonce\0" + terms.sender_nonce.encode()) if terms.sender_nonce else seed
    if count <= page.BLOCK or terms.algorithm == "equal/1":
        if claims.amounts:
            yield 0, page.split(terms.algorithm, key, total, count, *limits)
        return
    blocks = range(-(-len(claims.amounts) // page.BLOCK))
    if len(blocks) > BLOCKS_MAX:  # nobody could know which before the seed was published
        chosen = sorted(blocks, key=lambda block: page.mac(seed, b"audit\0" + block.to_bytes(8, "big")))[:BLOCKS_MAX]
    else:
        chosen = list(blocks)
    for block in chosen:
        start, end = block * page.BLOCK, min((block + 1) * page.BLOCK, count)
        part = total * end // count - total * start // count
        own = page.mac(key, b"block\0" + block.to_bytes(8, "big"))
        yield start, page.split(terms.algorithm, own, part, end - start, *limits)
