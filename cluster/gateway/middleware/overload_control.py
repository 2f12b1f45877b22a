"""Overload control: who is let in while this replica has more to do than it can; after DAGOR (Zhou et al., SoCC 2018).

- The signal is queueing time, given from outside (`cluster.gateway.middleware.queue_delay`), never CPU. Every replica
  decides alone.
- A request's rank is (kind, priority of its user): the smaller, the longer it is kept. Ranks up to `level` pass.
  A window that queued too long lowers the level so far that a fraction less would have passed, one that did not
  raises it by a smaller fraction; a histogram of what was asked, by rank, says how far that is.
- Kinds, in the order in which they are kept: sends and payments (money that a customer has already decided to give, and
  the cause of all else), batches and streams (one of them carries hundreds of people for the work of about twenty
  single requests), single grabs, reads (and what people ask of and write to each other), last audits, uploads of photos
  and documentation. Settlement and what shards tell each other never come this way; operators' levers are never
  refused, nor questions about health. Which route is which stands in `cluster.gateway.routing`.
- A user's priority follows from (tenant, user, hour), on every replica the same: nobody need try their luck each time,
  and the next hour it is somebody else's turn. Batches, whose users are many, take priorities by turns.
- A tenant is let in up to its part of what the replica can do, whatever others ask
  (`cluster.gateway.middleware.max_min_share`): one that asks for much more is shed first.
- No more than a part of the work may go into refusing: beyond that, refusing more would free nothing and serve nobody.
  A single grab costs little more than its refusal, so that about 40 % of them are let in under any load.

Pure: time and hour are arguments; a request's counting is a few integer operations, and next to none while all is calm.
"""

from bisect import bisect_left
from typing import NamedTuple
from zlib import crc32

from cluster.gateway.middleware.max_min_share import MaxMinShare

SEND, MANY, GRAB, READ, LAST = range(5)
EXEMPT = -1
"""A kind that is never refused, and of operators not even counted."""

KINDS = ("send", "grab_many", "grab", "read", "last")
"""Names of the kinds, for metrics."""

_BITS = 7
PRIORITIES = 1 << _BITS
LEVEL_MAX = len(KINDS) * PRIORITIES - 1
"""The level at which everybody passes."""

_COST = (50, 200, 16, 30, 30)
_REFUSAL_COST = 10
"""Work of an answer of each kind and of a refusal, whatever the unit: measured on the HTTP path, 2 cores."""

_REQUEST = 16
_LINE = 1
"""What a request and a line of a stream count for in the histogram: a line is a part of a long request."""

_TURN = 37
"""Step between the priorities of two batches: odd, so that 128 in a row have all of them."""

SHRINK = 8
"""Queueing that shrinks by that part of itself in a window is being worked off."""

TIMES_MAX = 4
"""A step down is `down_percent` for each time that queueing is the target, at most so often; a step up is so many times
`up_percent` where queueing is less than that part of the target."""

BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
"""Upper ends of the buckets of every histogram of times here; one more bucket holds what is longer."""


class Histogram:
    """Counts of integers in fixed buckets. `counts` has one more than `ends`: what is above; `total` is their sum."""

    __slots__ = ("counts", "ends", "total")

    def __init__(self, ends: tuple[int, ...]) -> None:
        self.ends = ends
        self.counts = [0] * (len(ends) + 1)
        self.total = 0

    def add(self, value: int) -> None:
        """Count one value."""
        self.counts[bisect_left(self.ends, value)] += 1
        self.total += value


class OverloadTally:
    """What metrics want to know of overload control. Numbers only grow, except `level` and `queueing_ms`.

    `accepted`, `shed`: requests by kind, in the order of `KINDS`; `accepted_lines`, `shed_lines`: of streams, while not
    all was calm; `shed_levels`: requests shed, by the eighth of all ranks that they are in (0: kept longest); `full`:
    refused because too many were under way; `windows`, `windows_overloaded`: judged so far; `loop_delay_ms`: how late
    the replica's event loop was, by beat; `queueing_ms`: what the last window was judged by.
    """

    __slots__ = (
        "accepted",
        "accepted_lines",
        "full",
        "level",
        "loop_delay_ms",
        "queueing_ms",
        "shed",
        "shed_levels",
        "shed_lines",
        "windows",
        "windows_overloaded",
    )

    def __init__(self) -> None:
        self.accepted = [0] * len(KINDS)
        self.shed = [0] * len(KINDS)
        self.shed_levels = [0] * 8
        self.accepted_lines = 0
        self.shed_lines = 0
        self.full = 0
        self.level = LEVEL_MAX
        self.windows = 0
        self.windows_overloaded = 0
        self.queueing_ms = 0
        self.loop_delay_ms = Histogram(BUCKETS_MS)


class OverloadRules(NamedTuple):
    """Bounds of overload control, see `[overload]` in configs/."""

    queueing_ms_target: int
    down_percent: int
    up_percent: int
    refusing_percent_max: int
    retry_after_ms_min: int
    retry_after_ms_max: int
    tenants_max: int


def priority_of(user_hash: int, hour: int) -> int:
    """Return a user's priority in an hour, 0 (kept longest) to 127.

    The finish of MurmurHash3: CRC-32 alone is linear, and would keep users who are refused together together for ever.
    """
    mixed = (user_hash ^ hour * 0x9E3779B1) & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return mixed >> 32 - _BITS


class OverloadControl:
    """Who is let in by one replica, by rank."""

    def __init__(self, rules: OverloadRules) -> None:
        self._rules = rules
        self.tally = OverloadTally()
        self.calm = True
        """Everybody passes and nothing is written down; ends with the first window that queued too long."""
        self.seen = 0
        """Requests and lines since the last window."""
        self.hour = 0
        self._queueing_us = 0
        self._level = LEVEL_MAX
        self._asked = [0] * (LEVEL_MAX + 1)
        self._shares = MaxMinShare([cost for cost in _COST for _ in range(PRIORITIES)], rules.tenants_max)
        self._turn = 0

    def accept(self, kind: int) -> None:
        """Count a request that passes because all is calm."""
        self.seen += 1
        self.tally.accepted[kind] += 1

    def admit(self, kind: int, user_hash: int, tenant: str) -> bool:
        """Decide on a request while not `calm`. `user_hash`: for `MANY` it is not looked at."""
        self.seen += 1
        if kind == MANY:
            self._turn += _TURN
            priority = self._turn & PRIORITIES - 1
        else:
            priority = priority_of(user_hash, self.hour)
        rank = kind << _BITS | priority
        self._asked[rank] += _REQUEST
        own = self._shares.count(tenant, rank, _REQUEST)
        if rank <= (self._level if own is None else own):
            self.tally.accepted[kind] += 1
            return True
        self.tally.shed[kind] += 1
        self.tally.shed_levels[rank * 8 // (LEVEL_MAX + 1)] += 1
        return False

    def admit_line(self, user_hash: int, tenant: str) -> bool:
        """Decide on one line of a stream. Ask only while not `calm`; it ranks with batches, by its own user."""
        self.seen += 1
        rank = MANY << _BITS | priority_of(user_hash, self.hour)
        self._asked[rank] += _LINE
        own = self._shares.count(tenant, rank, _LINE)
        if rank <= (self._level if own is None else own):
            self.tally.accepted_lines += 1
            return True
        self.tally.shed_lines += 1
        return False

    def close_window(self, queueing_us: int, hour: int) -> None:
        """Judge a window by the time that requests queued in it on the average, and set the level for the next."""
        tally, overloaded = self.tally, queueing_us > self._rules.queueing_ms_target * 1_000
        tally.windows += 1
        tally.queueing_ms = queueing_us // 1_000
        self.seen = 0
        self.hour = hour
        if overloaded:
            tally.windows_overloaded += 1
            # While what queues is being worked off soon, refusing still more would only leave us idle afterwards.
            if not self.calm and queueing_us * SHRINK > self._queueing_us * (SHRINK - 1):
                self._lower(min(TIMES_MAX, queueing_us // (self._rules.queueing_ms_target * 1_000)))
            self.calm = False
        elif not self.calm:
            idle = queueing_us * TIMES_MAX < self._rules.queueing_ms_target * 1_000
            self._raise(TIMES_MAX if idle else 1)
            self.calm = self._level == LEVEL_MAX
        self._queueing_us = queueing_us
        if self.calm:
            self._shares.clear()
        else:
            self._shares.divide(self._level)
            self._shares.fade()
        # What was asked fades over a few windows: one alone holds few of the big requests.
        self._asked = [0] * (LEVEL_MAX + 1) if self.calm else [count - (count >> 2) for count in self._asked]
        tally.level = self._level

    def retry_after_ms(self, request_id: str) -> int:
        """Return how long a refused caller should wait: the longer, the more are refused; spread by request."""
        rules = self._rules
        span_ms = rules.retry_after_ms_max - rules.retry_after_ms_min
        wait_ms = rules.retry_after_ms_min + span_ms * (LEVEL_MAX - self._level) // LEVEL_MAX
        return wait_ms + crc32(request_id.encode()) % (wait_ms // 2 + 1)

    def _lower(self, times: int) -> None:
        asked, level = self._asked, self._level
        admitted = sum(asked[: level + 1])
        refusing = (sum(asked) - admitted) * _REFUSAL_COST
        useful = sum(
            _COST[kind] * sum(asked[kind << _BITS : min(level + 1, kind + 1 << _BITS)]) for kind in range(len(KINDS))
        )
        wanted = admitted * (100 - times * self._rules.down_percent) // 100
        part = self._rules.refusing_percent_max
        while level > 0 and admitted > wanted:
            count = asked[level]
            useful -= count * _COST[level >> _BITS]
            refusing += count * _REFUSAL_COST
            if count and refusing * (100 - part) > useful * part:
                break
            admitted -= count
            level -= 1
        self._level = level

    def _raise(self, times: int) -> None:
        asked, level = self._asked, self._level
        admitted = sum(asked[: level + 1])
        wanted = admitted + max(1, admitted * times * self._rules.up_percent // 100)
        while level < LEVEL_MAX and admitted < wanted:
            level += 1
            admitted += asked[level]
        self._level = level
