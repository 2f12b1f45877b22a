"""Naming: what the files of sealed parts are called. A name follows from what is in the file, and from nothing else."""

import re

from actors.kernel.ports import Position
from cluster.journal.codec import position_of

NAME_HEX = 8
_DAY = re.compile(r"-?[0-9]+-[0-9]{2}-[0-9]{2}")


def folder_of(stream: str, day: str) -> str:
    """Return the folder of a stream's parts of one day, below the archive's root."""
    return f"journal/day={day}/stream={stream}"


def path_of(stream: str, day: str, first: Position, last: Position, sha256: bytes) -> str:
    """Return the one path of a part that holds the elements from `first` to `last`; empty if its day is not a date."""
    if _DAY.fullmatch(day) is None:
        return ""
    return f"{folder_of(stream, day)}/{first}_{last}.{sha256.hex()[:NAME_HEX]}.parquet"


def first_of(path: str) -> Position | None:
    """Return the first position that a file's name tells, None if it is not of ours."""
    try:
        return position_of(path.rpartition("/")[2].lstrip(".").partition("_")[0])
    except ValueError:
        return None


def last_of(path: str) -> Position | None:
    """Return the last position that a file's name tells, None if it is not of ours."""
    try:
        return position_of(path.rpartition("/")[2].partition("_")[2].partition(".")[0])
    except ValueError:
        return None


def last_in(paths: list[str]) -> dict[str, Position]:
    """Return the greatest position of each stream that the names of files tell."""
    found: dict[str, Position] = {}
    for path in paths:
        stream = path.rpartition("/stream=")[2].partition("/")[0]
        position = last_of(path)
        if position is not None and "/stream=" in path:
            found[stream] = max(position, found.get(stream, position))
    return found
