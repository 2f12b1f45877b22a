"""Verdict: after the load, holds all that clients were told against the platform's own state, and the run to its pace.

Packets that have shares left stay open: what nobody took is still in them. Money in fen.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cluster.client import BROKEN_CONTRACT, RETRYABLE_ITEM_CODES, AuditAnswer
from loadtest.finale import Ending, Finale
from loadtest.history import GrabAttempt, History, wins_of
from loadtest.oracle import Violation, check
from loadtest.recorder import DEFINITE, PlannedSend, Recorder
from loadtest.result import Check, promises
from loadtest.scenarios.load_profile import Profile
from loadtest.scenarios.orders import Orders, user_name
from loadtest.scenarios.schedule import SEND, arrivals
from loadtest.scenarios.tally import BY_DESIGN, FAILED, LoadTally, Pace
from loadtest.target import Target

BALANCE_FEN = 1_000_000_000
EXPECTED = frozenset({"drained"}) | RETRYABLE_ITEM_CODES | BY_DESIGN
"""What the load gives reason for."""

FAILED_SHARE_MAX = 0.01
PATIENT_MS = 1_000
"""That a client who waits less long gives up is not a failure of the platform."""


class Verdict(NamedTuple):
    """A run as it proved to be."""

    checks: list[Check]
    violations: list[Violation]
    wins: int
    """Shares that people were told of."""
    pace: Pace
    audit: AuditAnswer
    ended_s: float
    """How long the end took: settlement, and reading everything."""

    @property
    def clean(self) -> bool:
        """Whether everything that must hold holds."""
        return all(check.holds for check in self.checks)


async def judge(
    target: Target, orders: Orders, tally: LoadTally, say: Callable[[str], None], *, allow_behind: bool
) -> Verdict:
    """Ask, read and judge everything. Raises TimeoutError: the audit is not answered."""
    began_s = time.monotonic()
    history = History(before=tally.attempts)
    tokens = {user_name(orders.run, person): token for person, token in enumerate(orders.user_tokens)}
    scopes = {"operator": target.operator_token, "gateway": target.gateway_token}
    async with Recorder(target.url, history, lambda user, scope: scopes.get(scope) or tokens[user]) as recorder:
        for arrival in arrivals(orders.profile):
            if arrival.route == SEND and arrival.packet in tally.unsure_sends:
                assert arrival.parcel is not None, "a send has something to send"
                sender, key = user_name(orders.run, arrival.people[0]), orders.key_of(arrival.packet)
                recorder.unknown_sends[sender, key] = PlannedSend(sender, key, *arrival.parcel)
        definite = {(each.packet_id, each.user) for each in grabs_in(history) if each.outcome in DEFINITE}
        unknown = {(each.packet_id, each.user) for each in grabs_in(history) if each.outcome == "unknown"}
        recorder.unknown_grabs = unknown - definite
        credited_fen = dict.fromkeys(tokens, BALANCE_FEN)
        final = await Finale(recorder, credited_fen, Ending(alone=target.fresh), say).run()
    violations = check(history.attempts, final)
    profile = orders.profile
    pace = tally.pace(arrivals(profile), profile.late_ms_max)
    behind = paced(profile, pace)
    wins = len(wins_of(history.attempts))
    checks = [*promises(violations, final, wins), *_asked_for(tally, profile)]
    checks.append(behind._replace(holds=allow_behind or behind.holds))
    return Verdict(checks, violations, wins, pace, final.audit, time.monotonic() - began_s)


def grabs_in(history: History) -> Iterator[GrabAttempt]:
    """Yield the attempts to grab."""
    return (attempt for attempt in history.attempts if isinstance(attempt, GrabAttempt))


def _asked_for(tally: LoadTally, profile: Profile) -> list[Check]:
    """Return what else must hold of the answers to a load."""
    failed = sum(row.requests for row in tally.rows() if row.outcome == FAILED)
    broken = sum(number for words, number in tally.failures.items() if words.endswith(BROKEN_CONTRACT))
    if profile.clients.timeout_ms < PATIENT_MS:
        failed -= tally.gave_up
    return [
        Check("every answer was what the contract promises", broken == 0),
        Check("nobody was refused but by drained packets, and for now", not set(tally.codes) - EXPECTED),
        Check("requests without an answer or with 5xx: below 1 %", failed <= FAILED_SHARE_MAX * tally.requests),
    ]


def paced(profile: Profile, pace: Pace) -> Check:
    """Judge whether the asked rate was achieved."""
    words = (
        f"the asked rate was achieved: {100 * pace.on_time_share:.1f} % of {pace.scheduled:,} requests began within "
        f"{profile.late_ms_max} ms of their instant"
    )
    return Check(words, pace.on_time_share >= profile.on_time_share_min)
