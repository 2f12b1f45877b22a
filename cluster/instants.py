"""Instants: how Unix milliseconds are written for people and into names of folders, UTC, in every year there may be.

`datetime` ends with the year 9999, and a clock that was moved or is wrong does not: reading a journal must not fail
because of a stamp in it. The Gregorian calendar repeats itself every 400 years, to the day.
"""

from datetime import date, timedelta

DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)
_CYCLE_YEARS = 400
_CYCLE_DAYS = 146_097


def day_of(at_ms: int) -> str:
    """Return the day of an instant, e.g. 2016-01-01; a year has four digits or, where it must, more."""
    cycles, days = divmod(at_ms // DAY_MS, _CYCLE_DAYS)
    day = _EPOCH + timedelta(days)
    return f"{day.year + _CYCLE_YEARS * cycles:04}-{day.month:02}-{day.day:02}"


def second_of(at_ms: int) -> str:
    """Return an instant to the second, e.g. 2016-01-01 00:05:00."""
    seconds = at_ms % DAY_MS // 1_000
    return f"{day_of(at_ms)} {seconds // 3_600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
