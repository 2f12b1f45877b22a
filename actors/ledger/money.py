"""Money: integer fen, checked at the edges. 1 CNY = 100 fen. No floats, no currencies, no rounding."""

from typing import NewType

Fen = NewType("Fen", int)
"""An amount in fen. Negative only where a posting or a book says so."""


def part_of(whole: int, first: int, end: int, count: int) -> int:
    """Return the part of a whole for the places `first` to `end` (from 0, the last excluded) of `count`.

    Rounded so that the parts of places one after another sum to the whole; and if every place could have lo to hi of
    it, so can every place of a part.
    """
    return whole * end // count - whole * first // count


def yuan(amount_fen: int) -> str:
    """Write fen as yuan for people, e.g. -1234 -> "-12.34"."""
    sign = "-" if amount_fen < 0 else ""
    return f"{sign}{abs(amount_fen) // 100}.{abs(amount_fen) % 100:02d}"
