"""Eligibility: who may take a packet that is not for everybody. Pure.

| kind | who may | who may not hears |
|---|---|---|
| direct | the addressee | `not_addressee` |
| group | users whom their chat gateway calls members of the group | `not_member` |
| password | who says the phrase | `wrong_passphrase` |
| star, rain | anybody but the sender | `own_packet` |

Wrong phrases are counted by user in the journal, so that no restart gives anybody more tries: `phrase_tries_max` of
them, and the user hears `rate_limited` for every phrase until `phrase_tries_ms` after the first. A packet counts at
most `phrase_missers_max` users; a user whose wrong phrase it cannot count hears `rate_limited` instead.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from actors.kernel.messages import Refused
from actors.packet.grab_replies import NOBODY, NOT_ADDRESSEE, NOT_MEMBER, OWN_PACKET, RATE_LIMITED, WRONG_PASSPHRASE
from actors.packet.state import Packet
from actors.transfers.funding import Special


class Tries(NamedTuple):
    """How often a phrase may be wrong."""

    tries_max: int
    tries_ms: int
    missers_max: int

    def so_far(self, packet: Packet, user: str, now_ms: int) -> int:
        """Return how many wrong phrases of this user count now."""
        count, since_ms = (packet.missed or {}).get(user, (0, 0))
        return count if now_ms < since_ms + self.tries_ms else 0

    def miss(self, packet: Packet, users: list[str], at_ms: int) -> None:
        """Apply: these users said a wrong phrase."""
        missed = packet.missed
        if missed is None:
            missed = packet.missed = {}
        for user in users:
            count = self.so_far(packet, user, at_ms)
            missed[user] = (count + 1, missed[user][1] if count else at_ms)


def outsiders(
    packet: Packet, special: Special, users: list[str], said: bytes, group: str, now_ms: int, tries: Tries
) -> tuple[Mapping[str, Refused], list[str]]:
    """Return who of the users may not take the packet and why, and whose wrong phrases are to be counted.

    Who is named several times says the same each time, so that the first answer is that of all.
    `said`: `actors.transfers.phrase.kept` of what they all say. Earlier winners may be among them; they are not asked.
    """
    if special.addressee:
        return {user: NOT_ADDRESSEE for user in users if user != special.addressee}, []
    if special.group and group != special.group:
        return dict.fromkeys(users, NOT_MEMBER), []
    if not special.phrase:
        if special.excluded and special.excluded in users:
            return {special.excluded: OWN_PACKET}, []
        return NOBODY, []
    known = packet.missed or {}
    room = tries.missers_max - len(known)
    refused: dict[str, Refused] = {}
    counted: list[str] = []
    times: Counter[str] = Counter()
    for user in users:
        if user in packet.rank_of:
            continue
        if tries.so_far(packet, user, now_ms) + times[user] >= tries.tries_max:
            refused.setdefault(user, RATE_LIMITED)
        elif said == special.phrase:
            continue
        elif room > 0 or user in known or times[user]:
            room -= user not in known and not times[user]
            times[user] += 1
            counted.append(user)
            refused[user] = WRONG_PASSPHRASE
        else:
            refused[user] = RATE_LIMITED
    return refused, counted
