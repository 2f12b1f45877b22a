"""Money: integer fen, checked at the edges. 1 CNY = 100 fen. No floats, no currencies, no rounding."""

from typing import NewType

Fen = NewType("Fen", int)
"""An amount in fen. Negative only where a posting or a book says so."""

FEN_MAX = 2**53 - 1
"""The greatest amount that JSON carries exactly in every client."""


def yuan(amount_fen: int) -> str:
    """Write fen as yuan for people, e.g. -1234 -> "-12.34"."""
    sign = "-" if amount_fen < 0 else ""
    return f"{sign}{abs(amount_fen) // 100}.{abs(amount_fen) % 100:02d}"
