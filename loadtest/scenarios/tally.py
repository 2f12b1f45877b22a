"""Tally: adds up what the clients of a load run were told: latencies, refusals, the record of shares, and the pacing.

- The pacing check holds the schedule against what was asked: the asked rate was achieved if `on_time_share_min` of all
  arrivals were asked within `late_ms_max` of their instant. Repeats are load, but no arrivals.
- Latencies count from an arrival's instant, so that a late start cannot hide a slow system.
- What users were told becomes attempts, which `loadtest.oracle` judges.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from cluster.client import BROKEN_CONTRACT, RETRYABLE_ITEM_CODES, PacketAnswer
from loadtest.fairness.statistic import percentile
from loadtest.history import Attempt, GrabAttempt, Outcome, SendAttempt, ViewAttempt, wins_of
from loadtest.scenarios.answers import GAVE_UP, GRABS, HALF_SENT, LEFT, SHED
from loadtest.scenarios.orders import TimedAnswer, key_of, user_name
from loadtest.scenarios.schedule import SEND, VIEW, Arrival

ANSWERED, REFUSED_429, FAILED = "answered", "429", "failed"
BY_DESIGN = frozenset({HALF_SENT, LEFT})


class Pace(NamedTuple):
    """What was asked for, and what was asked."""

    scheduled: int
    on_time: int
    late: int
    """Started after the bound: too few connections, or too slow a process, or a packet that opened late."""
    without_packet: int
    """Never asked, because their packet never opened."""
    never: int
    """Never asked for any other reason."""
    waiting: int
    """Of the late ones, those that waited most of that time for a free connection."""
    late_ms_p99: float
    lasted_s: float
    """From the first instant of the schedule to its last."""
    peak: int
    """Arrivals in the busiest second of the schedule."""
    peak_asked: int
    """Requests begun in the busiest second of the run, repeats not counted."""

    @property
    def asked_per_second(self) -> float:
        """The rate that was to be achieved."""
        return self.scheduled / max(self.lasted_s, 1.0)

    @property
    def achieved_per_second(self) -> float:
        """The rate at which requests were asked at their instant."""
        return self.on_time / max(self.lasted_s, 1.0)

    @property
    def on_time_share(self) -> float:
        """The part of all arrivals that were asked at their instant."""
        return self.on_time / max(self.scheduled, 1)


class LatencyRow(NamedTuple):
    """The latencies of one route, in milliseconds."""

    route: str
    outcome: str
    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class LoadTally:
    """Everything that was told in one run."""

    def __init__(self, run: str) -> None:
        """Start with nothing told."""
        self._run = run
        self.attempts: list[Attempt] = []
        """Of users: one per item of a batch."""
        self.requests = 0
        self.repeats = 0
        self.codes: Counter[str] = Counter()
        """Refusals by code, a batch's items each."""
        self.failures: Counter[str] = Counter()
        self.taps = 0
        """Grabs asked for by people: a repeat of the same is none, nor is half a request."""
        self.gave_up = 0
        """Requests whose client did not wait longer."""
        self.unsure_sends: dict[int, TimedAnswer] = {}
        self.opened: set[int] = set()
        self._took: dict[tuple[str, str], list[float]] = {}
        self._started: dict[int, int] = {}
        self._waited: set[int] = set()
        self._begun: Counter[int] = Counter()

    def told(self, told: TimedAnswer) -> None:
        """Enter one line of the answers."""
        self.requests += 1
        self.repeats += told.attempt > 0
        outcome = _outcome(told)
        self._took.setdefault((told.route, outcome), []).append((told.late_us + told.took_us) / 1_000)
        if not told.attempt:
            self._started[told.number] = told.late_us
            if 2 * told.waited_us > told.late_us:
                self._waited.add(told.number)
            self._begun[(told.due_ms + told.late_us // 1_000) // 1_000] += 1
        if told.code == BROKEN_CONTRACT or outcome == FAILED:
            self.failures[f"{told.route}: {told.status or ''} {told.code}".replace(":  ", ": ")] += 1
            self.gave_up += told.code == GAVE_UP
        elif told.code and not told.items:
            self.codes[told.code] += 1
        if told.route == SEND:
            self._sent(told)
        elif told.route in GRABS:
            self._grabbed(told)
        elif told.route == VIEW and told.seen is not None:
            self._viewed(told, told.seen)

    def _sent(self, told: TimedAnswer) -> None:
        packet = told.seen
        if packet is None:
            if told.unknown:
                self.unsure_sends[told.packet] = told
            return
        self.opened.add(told.packet)
        self.unsure_sends.pop(told.packet, None)
        self.attempts.append(
            SendAttempt(
                user=packet.sender,
                key=key_of(self._run, told.packet),
                kind=packet.kind,
                total_fen=packet.total_fen,
                count=packet.count,
                packet_id=packet.packet_id,
                open=True,
                outcome="ok",
                **_times(told),
            )
        )

    def _grabbed(self, told: TimedAnswer) -> None:
        """Enter what everybody was told."""
        if not told.attempt:
            self.taps += len(told.items)
        for item in told.items:
            later = item.code in RETRYABLE_ITEM_CODES
            outcome: Outcome = "unknown" if item.unknown else "later" if later else "refused" if item.code else "ok"
            if outcome in ("later", "refused"):
                self.codes[item.code] += 1
            self.attempts.append(
                GrabAttempt(
                    user=user_name(self._run, item.person),
                    packet_id=told.packet_id,
                    outcome=outcome,
                    code=item.code,
                    rank=item.rank,
                    amount_fen=item.amount_fen,
                    **_times(told),
                )
            )

    def _viewed(self, told: TimedAnswer, seen: PacketAnswer) -> None:
        self.attempts.append(
            ViewAttempt(
                user=seen.sender,
                packet_id=told.packet_id,
                outcome="ok",
                state=seen.state,
                total_fen=seen.total_fen,
                count=seen.count,
                grabbed_count=seen.grabbed_count,
                grabbed_fen=seen.grabbed_fen,
                refunded_fen=seen.refunded_fen,
                shares=None,
                **_times(told),
            )
        )

    # The results

    @property
    def wins(self) -> int:
        """Shares that people were told of."""
        return len(wins_of(self.attempts))

    @property
    def shed(self) -> int:
        """Requests and items that were answered 429."""
        return sum(self.codes[code] for code in SHED)

    def rows(self) -> list[LatencyRow]:
        """Return latencies by route and outcome."""
        rows = []
        for (route, outcome), took in sorted(self._took.items()):
            took.sort()
            shares = [percentile(took, share) for share in (0.5, 0.95, 0.99, 1.0)]
            rows.append(LatencyRow(route, outcome, len(took), *shares))
        return rows

    def pace(self, scheduled: Iterable[Arrival], late_ms_max: int) -> Pace:
        """Hold the schedule against what was asked."""
        total = on_time = late = without_packet = never = waiting = last_ms = 0
        due: Counter[int] = Counter()
        for arrival in scheduled:
            total += 1
            last_ms = arrival.due_ms
            due[last_ms // 1_000] += 1
            late_us = self._started.get(arrival.number)
            if late_us is not None:
                on_time += late_us <= 1_000 * late_ms_max
                late += late_us > 1_000 * late_ms_max
                waiting += late_us > 1_000 * late_ms_max and arrival.number in self._waited
            elif arrival.route != SEND and arrival.packet not in self.opened:
                without_packet += 1
            else:
                never += 1
        late_ms_p99 = percentile(sorted(self._started.values()), 0.99) / 1_000
        peaks = (max(due.values(), default=0), max(self._begun.values(), default=0))
        return Pace(total, on_time, late, without_packet, never, waiting, late_ms_p99, last_ms / 1_000, *peaks)


def _outcome(told: TimedAnswer) -> str:
    codes = {item.code for item in told.items} if told.items else {told.code}
    if codes & SHED and codes <= SHED | {""} and (told.status == 429 or len(told.items) == 1):
        return REFUSED_429
    if told.code in BY_DESIGN:
        return ANSWERED
    return FAILED if told.code and (told.status == 0 or told.status >= 500 or told.status < 300) else ANSWERED


def _times(told: TimedAnswer) -> dict[str, Any]:
    asked_us = 1_000 * told.due_ms + told.late_us
    return {"asked_us": asked_us, "answered_us": asked_us + told.took_us, "status": told.status}
