"""Result: what a run found, and whether it may be called clean. Amounts in fen."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from cluster.client import AuditAnswer
from loadtest.oracle import FinalState, Kind, Violation

SENTENCES_MAX = 20


class DemoFigures(msgspec.Struct, frozen=True):
    """The result as `--json` prints it, these keys and no others."""

    packets: int
    grabs_ok: int
    grabs_refused: int
    funded_fen: int
    paid_fen: int
    refunded_fen: int
    remaining_fen: int
    in_flight_fen: int
    difference_fen: int
    double_grabs: int
    over_issued: int
    seconds: float
    grabs_per_second: float
    """Successful grabs for each second of load; refused taps are not in it."""


class Check(NamedTuple):
    """One thing that must be true at the end."""

    sentence: str
    holds: bool


class Outcome(NamedTuple):
    """A finished run of the demo."""

    figures: DemoFigures
    audit: AuditAnswer
    violations: list[Violation]
    checks: list[Check]
    facts: list[tuple[str, str]]

    @property
    def clean(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)


def promises(violations: Iterable[Violation], final: FinalState, wins: int) -> list[Check]:
    """Return the promises of the platform, each held or broken."""
    broken = {violation.kind for violation in violations}
    audit = final.audit

    def kept(*kinds: Kind) -> bool:
        return broken.isdisjoint(kinds)

    return [
        Check("every book sums to 0 and every pair of books agrees", audit.clean and audit.difference_fen == 0),
        Check(
            "funded = paid + refunded + remaining",
            audit.funded_fen == audit.paid_fen + audit.refunded_fen + audit.remaining_fen,
        ),
        Check("nothing in flight", audit.in_flight_fen == 0),
        Check("nothing left in an ended packet", audit.remaining_fen == 0 or not final.ended),
        Check("nobody grabbed twice", kept("double_grab")),
        Check("no packet gave more than it had", kept("over_issued")),
        Check(f"all {len(final.wallets):,} wallets hold what their owners were told", kept("wallet", "negative")),
        Check("no two answers contradict each other", kept("contradicted", "lost")),
        Check("all money adds up, in packets and in the platform's totals", kept("wrong_total")),
        Check("everything was answered in the end", kept("unanswered")),
        Check("people did get shares", wins > 0),
    ]
