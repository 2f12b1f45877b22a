"""Lane fan-out: the grabs of many users of a packet in lanes. Each asks their own lane, and the next when it is empty.

A lane says "drained" only once that is durable, and for ever; a winner in it hears their share again. So users who
begin at their own lane, and go on only when told "drained", meet a share that they have before they can get another.
"""

from collections.abc import Iterator
from typing import NamedTuple

from actors.kernel.messages import Refused
from actors.packet.commands import GrabMany
from actors.packet.host import one_by_one
from actors.packet.replies import Shares, Takings, Won
from actors.refusals import Refusal
from actors.transfers.ids import LanePlace, home_lane
from cluster.gateway.packet.grab_items import Asked

DRAINED = Refused(Refusal.DRAINED)

CrowdReply = Takings | Shares | Refused
"""What became of the grabs of many users of one packet."""


class LaneGrabs(NamedTuple):
    """The grabs of one packet, or of one of its lanes."""

    lane: LanePlace
    command: GrabMany


class LaneFanout:
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
        """Tell whether everybody has their answer."""
        return not self._left or self._round == len(self._lanes)

    def parts(self) -> list[LaneGrabs]:
        """Return what is to be asked in this round."""
        by_lane: list[list[int]] = [[] for _ in self._lanes]
        for place in self._left:
            by_lane[(self._home[place] + self._round) % len(self._lanes)].append(place)
        self._asked = [places for places in by_lane if places]
        return [
            LaneGrabs(
                lane, GrabMany(lane.packet_id, self._tenant, [self._users[place] for place in places], *self._said)
            )
            for lane, places in zip(self._lanes, by_lane, strict=True)
            if places
        ]

    def take_in(self, told: Iterator[CrowdReply]) -> None:
        """Hear what became of this round's parts, in their order."""
        for places in self._asked:
            for place, reply in zip(places, one_by_one(next(told), len(places)), strict=True):
                self.replies[place] = reply
        self._left = [place for place in self._left if self.replies[place] == DRAINED]
        self._round += 1
