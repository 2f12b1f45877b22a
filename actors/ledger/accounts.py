"""Accounts: the chart of accounts of a book, and the two accounts that every book has.

A balance is positive where the platform owes. A kind declares its own accounts (`actors.kernel.kind`); the two ends of
the transit between two books belong to the ledger. What an audit adds up, shows and calls wrong follows from here.
"""

from enum import StrEnum

import msgspec

AccountName = tuple[str, ...]
"""One account: the name of its kind of account, then whose it is, e.g. `("change", tenant, user)`."""


class Side(StrEnum):
    """Which sign the balance of an account may have."""

    LIABILITY = "liability"
    """The platform owes it: never negative."""
    ASSET = "asset"
    """Owed to the platform, or where money comes from: never positive."""


class AccountKind(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a chart of accounts."""

    name: str
    side: Side
    owner: tuple[str, ...] = ()
    """What the rest of an account's name is, e.g. `("tenant", "user")`; empty: there is one such account."""
    on_statement: bool = False
    """Whether its postings are lines on its owner's statement, which add up to the running balance there."""
    column: str = ""
    """Its column in a live audit; empty: the name and `_fen`."""

    def of(self, *owner: str) -> AccountName:
        """Name one account of this kind."""
        assert len(owner) == len(self.owner), f"an account {self.name!r} is named by {self.owner}"
        return (self.name, *owner)

    @property
    def audit_column(self) -> str:
        """Its column in a live audit."""
        return self.column or f"{self.name}_fen"

    def forbids(self, balance_fen: int) -> bool:
        """Tell whether such an account can never have that balance."""
        return balance_fen < 0 if self.side is Side.LIABILITY else balance_fen > 0


SENT = AccountKind(name="sent", side=Side.LIABILITY, owner=("stream",))
"""This book's end of the transit to another book: cumulative, never less."""
RECEIVED = AccountKind(name="received", side=Side.ASSET, owner=("stream",))
"""This book's end of the transit from another book: cumulative."""
TRANSIT = (SENT, RECEIVED)
