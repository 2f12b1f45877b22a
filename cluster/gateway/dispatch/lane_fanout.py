"""Divided: the grabs of many users of a packet in lanes: each asks his own lane, and the next when one is empty.

A lane says "drained" only once that is durable, and for ever; who has won in it hears his share again. So whoever goes
from his own lane on, and goes on only when told "drained", meets a share that he has before he can get another.
"""

from collections.abc import Iterator
from typing import NamedTuple

from actors.kernel.messages import Refused
from actors.packet.commands import GrabMany
from actors.packet.host import one_by_one
from actors.packet.replies import Shares, Takings, Won
from actors.refusals import Refusal
from actors.transfers.ids import LanePlace, home_lane
from cluster.gateway.packet.grab_bodies import Asked

DRAINED = Refused(Refusal.DRAINED)

Crowd = Takings | Shares | Refused
"""What became of the grabs of many users of one packet."""


class Part(NamedTuple):
    """The grabs of one packet, or of one of its lanes."""

    lane: LanePlace
    command: GrabMany


class Divided:
    """The grabs of one packet in lanes: round after round, until nobody may find a share in another lane."""

    def __init__(self, what: Asked, users: list[str], lanes: list[LanePlace], tenant: str) -> None:
        self.what = what
        self.replies: list[Won | Refused] = [DRAINED] * len(users)
        self._users = users
        self._lanes = lanes
        self._tenant = tenant
        self._said = (b"", "") if isinstance(what, str) else (what.phrase, what.group)
        self._home = [home_lane(tenant, user, len(lanes)) for user in users]
        self._left = list(range(len(users)))
        self._round = 0
        self._asked: list[list[int]] = []

    @property
    def settled(self) -> bool:
        """Tell whether everybody has his answer."""
        return not self._left or self._round == len(self._lanes)

    def parts(self) -> list[Part]:
        """Return what is to be asked in this round."""
        by_lane: list[list[int]] = [[] for _ in self._lanes]
        for place in self._left:
            by_lane[(self._home[place] + self._round) % len(self._lanes)].append(place)
        self._asked = [places for places in by_lane if places]
        return [
            Part(lane, GrabMany(lane.packet_id, self._tenant, [self._users[place] for place in places], *self._said))
            for lane, places in zip(self._lanes, by_lane, strict=True)
            if places
        ]

    def take_in(self, told: Iterator[Crowd]) -> None:
        """Hear what became of this round's parts, in their order."""
        for places in self._asked:
            for place, reply in zip(places, one_by_one(next(told), len(places)), strict=True):
                self.replies[place] = reply
        self._left = [place for place in self._left if self.replies[place] == DRAINED]
        self._round += 1
