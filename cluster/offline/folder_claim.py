"""Folder claim: takes a folder for what is about to be written, if it is new or empty, and touches no other.

A backup holds keys, and a restore makes a system: neither goes where something is, where a live system keeps its own,
or where other users could put something of theirs in between. The mode of a folder that is there is not changed.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from actors.kernel.errors import OperatingFailure


class NotYours(OperatingFailure):
    """The folder cannot be taken. The message says why, and what to do."""


def claim(folder: Path, mark: str, apart_from: Iterable[Path]) -> bool:
    """Make a folder (mode 0700), or take one that is there and empty; tell whether it was made.

    The subfolder `mark` is made in it: of two who take one folder at once, one is refused.
    Raises NotYours, OSError; nothing was changed then.
    """
    real = folder.resolve()
    for place in apart_from:
        there = place.resolve()
        if real == there or there in real.parents or real in there.parents:
            raise NotYours(f"{folder} and {place} would lie in one another; give a folder apart from it")
    try:
        folder.mkdir(parents=True, mode=0o700)
        made = True
    except FileExistsError:
        _judge(folder)
        made = False
    try:
        (folder / mark).mkdir(mode=0o700)
    except FileExistsError:
        raise _not_empty(folder) from None
    return made


def _judge(folder: Path) -> None:
    """Raise NotYours unless a folder that is there is empty, this user's, and closed to what others would write."""
    if not folder.is_dir():
        raise NotYours(f"{folder} is there and is not a folder; give a new one")
    found = folder.stat()
    if any(os.scandir(folder)):
        raise _not_empty(folder)
    if found.st_uid != os.geteuid():
        raise NotYours(f"{folder} belongs to another user (uid {found.st_uid}); give a new folder")
    if found.st_mode & stat.S_IWOTH:
        raise NotYours(f"every user may write in {folder}; chmod 700 {folder}, or give a new folder")


def _not_empty(folder: Path) -> NotYours:
    return NotYours(f"{folder} is not empty, and what is there stays as it is; give a new folder")


@contextlib.contextmanager
def claimed(folder: Path, mark: str, apart_from: Iterable[Path]) -> Iterator[None]:
    """Take a folder, see `claim`; if what follows fails, take away what was put there, and nothing else."""
    made = claim(folder, mark, apart_from)
    try:
        yield
    except BaseException:
        for entry in list(os.scandir(folder)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
        if made:
            folder.rmdir()
        raise
