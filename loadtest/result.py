"""Result: what a run of the demo found, and whether it may be called clean. Amounts in fen."""

from typing import NamedTuple

import msgspec

from cluster.client import AuditAnswer
from loadtest.record import Record


class Figures(msgspec.Struct, frozen=True):
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
    """A finished run."""

    figures: Figures
    record: Record
    audit: AuditAnswer
    checks: list[Check]
    facts: list[tuple[str, str]]

    @property
    def clean(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)
