"""Sends: what a send pays for. Pure: one packet, or for a crowd several that are one gift: lanes, or a rain's bursts.

Lanes share the money by their ranks, rounded so that the parts sum to the total and every one can be divided within the
same limits. Each has its own id, seed, commitment and end; all are funded in one journal entry. Amounts in fen.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from actors.kernel.bounds import OfRequest, Period, Section
from actors.kernel.names import User
from actors.kernel.rules import Services
from actors.ledger.money import part_of
from actors.transfers.funding import ALGORITHM_OF_KIND, ALGORITHMS, PacketFunded, Special
from actors.transfers.ids import (
    COMMITMENT,
    PACKET,
    PHOTO_PAYMENT,
    RAIN,
    Layout,
    burst_id,
    crowd_id_of,
    lane_id,
    lishi_id_of,
    lishi_packet_id_of,
    packet_id_of,
    packet_stream,
    parse_packet_id,
    wallet_index_of,
    whole_id,
)
from actors.transfers.phrase import kept
from actors.transfers.seeds import SeedCommitments
from actors.wallet.commands import AskLishi, CommitSeed, Send
from actors.wallet.events import Committed
from actors.wallet.replies import Lishi


class Place(NamedTuple):
    """Where one packet of a send is, and what was committed to for it."""

    packet_id: str
    packet_stream: str
    commitment: bytes


class Terms(msgspec.Struct, frozen=True):
    """What the shell adds to a send: derived from keys and limits, the same for the same (tenant, sender, key)."""

    places: list[Place]
    """One, or as many as there are lanes or bursts."""
    named_by_key: str
    """The packet id that the sender's key stands for."""
    share_fen_min: int
    share_fen_max: int
    lifetime_ms: int
    opens_ms_max: int
    """So long before it opens a packet may be sent."""
    algorithm: str
    key_id: str

    def committed(self, made: Committed) -> "Terms":
        """Return these with what was committed to: it is kept, whatever the platform's current key is now."""
        pairs = zip(self.places, made.commitments, strict=True)
        places = [place._replace(commitment=commitment) for place, commitment in pairs]
        return msgspec.structs.replace(self, places=places, key_id=made.key_id)


class SendRules(Section, frozen=True):
    """What a send gets besides what the sender says (configs/)."""

    share_fen_min: OfRequest
    share_fen_max: OfRequest
    packet_lifetime_ms: Period
    opens_ms_max: OfRequest
    crowd_count_min: Period
    """A star's packet of so many shares is in a hot stream."""
    lane_count_max: OfRequest
    """More shares than this are divided into lanes."""


class _GiftPart(msgspec.Struct, frozen=True):
    total_fen: int
    count: int
    expires_at_ms: int
    special: Special | None


def _parts(send: Send, places: list[Place], lifetime_ms: int, now_ms: int) -> list[_GiftPart]:
    special = send.special
    if send.bursts:
        assert special is not None, "a burst knows that it is one"
        return [
            _GiftPart(
                burst.total_fen,
                burst.count,
                burst.ends_at_ms,
                msgspec.structs.replace(
                    special,
                    opens_at_ms=burst.opens_at_ms,
                    burst=number,
                    bursts=len(send.bursts),
                    reference=places[0].packet_id,
                ),
            )
            for number, burst in enumerate(send.bursts)
        ]
    opens_at_ms = 0 if special is None else special.opens_at_ms
    expires_at_ms = max(now_ms, opens_at_ms) + lifetime_ms
    lanes = len(places)
    if lanes == 1:
        return [_GiftPart(send.total_fen, send.count, expires_at_ms, special)]
    assert special is not None, "a lane knows that it is one"
    parts = []
    for lane in range(lanes):
        first, end = send.count * lane // lanes, send.count * (lane + 1) // lanes
        of_lane = msgspec.structs.replace(
            special,
            lane=lane,
            lanes=lanes,
            rank_base=first,
            whole_fen=send.total_fen,
            whole_count=send.count,
            day_count_max=part_of(special.day_count_max, lane, lane + 1, lanes),
        )
        parts.append(_GiftPart(part_of(send.total_fen, first, end, send.count), end - first, expires_at_ms, of_lane))
    return parts


def fundings(send: Send, terms: Terms, now_ms: int) -> list[PacketFunded]:
    """Return what the send pays for; the machine numbers them."""
    parts = _parts(send, terms.places, terms.lifetime_ms, now_ms)
    return [
        PacketFunded(
            number=0,
            packet_stream=place.packet_stream,
            packet_id=place.packet_id,
            tenant=send.tenant,
            sender=send.user,
            key=send.key,
            kind=send.kind,
            total_fen=part.total_fen,
            count=part.count,
            share_fen_min=terms.share_fen_min,
            share_fen_max=terms.share_fen_max,
            greeting=send.greeting,
            at_ms=now_ms,
            expires_at_ms=part.expires_at_ms,
            algorithm=terms.algorithm,
            key_id=terms.key_id,
            commitment=place.commitment,
            special=part.special,
            sender_nonce=send.sender_nonce,
            named_by_key="" if place.packet_id == terms.named_by_key else terms.named_by_key,
        )
        for place, part in zip(terms.places, parts, strict=True)
    ]


def is_timely(send: Send, terms: Terms, now_ms: int) -> bool:
    """Tell whether what opens later does so soon enough, and whether every burst can still come."""
    opens_at_ms = [burst.opens_at_ms for burst in send.bursts] or [send.special.opens_at_ms if send.special else 0]
    if any(burst.ends_at_ms <= now_ms for burst in send.bursts):
        return False
    return max(opens_at_ms) <= now_ms + terms.opens_ms_max


def is_same(send: Send, paid: Sequence[PacketFunded], terms: Terms) -> bool:
    """Tell whether a send that was paid for is asked again.

    Limits, keys and streams may have changed since: what is compared is what the sender said.
    """
    if send.kind != paid[0].kind or (send.bursts and len(send.bursts) != len(paid)):
        return False
    if send.commitment_id and send.commitment_id != whole_id(paid[0].packet_id):
        return False
    places = [Place(one.packet_id, one.packet_stream, one.commitment) for one in paid]
    wanted = fundings(send, msgspec.structs.replace(terms, places=places), paid[0].at_ms)
    named = ["total_fen", "count", "greeting", "algorithm", "special", "sender_nonce"]
    named += ["expires_at_ms"] if send.bursts else []
    named += ["share_fen_min", "share_fen_max"] if send.share_fen_max else []
    pairs = list(zip(paid, wanted, strict=True))
    return all(getattr(one, name) == getattr(now, name) for name in named for one, now in pairs)


class TermsMaker:
    """Derives what a send gets from the platform's keys: the same (tenant, sender, key) always is the same packet."""

    def __init__(self, rules: SendRules, services: Services) -> None:
        self._rules = rules
        self._keys = services.keys
        self._first_key = services.first_key
        self._fairness = SeedCommitments(services.keys)
        self.layout = Layout.of(services.layout)

    def terms(self, send: Send, packet_id: str = "") -> Terms:
        """Return the terms of a send. `packet_id`: empty: it follows from the send's key."""
        rules, layout, key = self._rules, self.layout, self._first_key
        lo, hi = send.share_fen_min or rules.share_fen_min, send.share_fen_max or rules.share_fen_max
        domain = RAIN if send.bursts else PACKET
        if send.kind == "photo":  # its price was settled when the photo was made, whatever the limits are now
            lo, hi, domain = send.total_fen, send.total_fen, PHOTO_PAYMENT
        who = User(send.tenant, send.user)
        by_key = packet_id or packet_id_of(key, *who, send.key, layout.packet, layout.wallet, domain)
        algorithm = send.algorithm or ALGORITHM_OF_KIND[send.kind]
        assert algorithm in ALGORITHMS, "nobody pays for a packet that cannot be divided"
        first_id = send.commitment_id or self._crowd_id(who, send.key, domain, send.star_count, len(send.bursts))
        key_id, places = self._places(first_id or by_key, len(send.bursts), algorithm)
        return Terms(
            places=places,
            named_by_key=by_key,
            share_fen_min=lo,
            share_fen_max=hi,
            lifetime_ms=rules.packet_lifetime_ms,
            opens_ms_max=rules.opens_ms_max,
            algorithm=algorithm,
            key_id=key_id,
        )

    def committed_to(self, commit: CommitSeed) -> tuple[str, str, list[Place]]:
        """Return the packet id that a commitment is for, the id of its key, and the places."""
        layout = self.layout
        who = User(commit.tenant, commit.user)
        packet_id = self._crowd_id(who, commit.token, COMMITMENT, commit.star_count, commit.bursts)
        packet_id = packet_id or packet_id_of(
            self._first_key, *who, commit.token, layout.packet, layout.wallet, COMMITMENT
        )
        return packet_id, *self._places(packet_id, commit.bursts, commit.algorithm)

    def lishi_id(self, ask: AskLishi) -> str:
        """Derive the id of a lishi."""
        wallet_index = wallet_index_of(ask.tenant, ask.asked, self.layout.wallet)
        return lishi_id_of(self._first_key, ask.tenant, ask.user, ask.key, wallet_index)

    def lishi_packet_id(self, lishi: Lishi) -> str:
        """Derive the packet id of a lishi's acceptance."""
        streams = self.layout.packet, self.layout.wallet
        return lishi_packet_id_of(self._first_key, lishi.tenant, lishi.asked, lishi.lishi_id, *streams)

    def kept_phrase(self, send: Send, terms: Terms) -> Send:
        """Return the send with its phrase bound to the packet, if it has one."""
        if send.special is None or not send.special.phrase:
            return send
        phrase = kept(self._first_key, terms.places[0].packet_id, send.special.phrase)
        return msgspec.structs.replace(send, special=msgspec.structs.replace(send.special, phrase=phrase))

    def _crowd_id(self, who: User, key: str, domain: bytes, star_count: int, bursts: int) -> str:
        """Derive the packet id of a user's key that stands for a crowd's packet: in lanes, or bursts. Empty: none."""
        rules, layout = self._rules, self.layout
        if not bursts and star_count < rules.crowd_count_min:
            return ""
        lanes = 1 if bursts else min(-(-star_count // rules.lane_count_max), layout.lanes_max)
        return crowd_id_of(self._first_key, who, f"{domain.decode()} {key}", layout, lanes)

    def _places(self, packet_id: str, bursts: int, algorithm: str) -> tuple[str, list[Place]]:
        """Return a packet's lanes, or a rain's bursts, committed to under the current key, and that key's id."""
        place = parse_packet_id(packet_id)
        assert place is not None, "our own ids can be parsed, and others have been"
        if place.lanes > 1:
            named = [(lane_id(packet_id, lane), place.packet_index + lane) for lane in range(place.lanes)]
        else:
            key = self._first_key
            named = [(burst_id(key, packet_id, burst), place.packet_index) for burst in range(max(bursts, 1))]
        places, key_id = [], self._keys.current
        for name, packet_index in named:
            key_id, commitment = self._fairness.commit(algorithm, name)
            places.append(Place(name, packet_stream(packet_index), commitment))
        return key_id, places
