"""Run folder: where a running system's sockets are, short because a socket's path has at most 107 bytes.

So it lies in the temporary folder, where cleaners remove what is some days old. `Upkeep` touches it often enough, and
sees what is missing all the same: a socket without its name cannot be reached.
"""

import contextlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

TOUCH_S = 3_600.0
"""Cleaners count in days; a laptop that slept for ten meets `missing` instead."""

MISSING_S = 10.0
"""So long a part may be missing: HAProxy's sockets are, for a moment, while it is replaced."""

FOLDERS = ("work", "r", "h")
"""Where processes stand; Ray's own; HAProxy's."""


def run_root() -> Path:
    """Return this user's folder of sockets and locks.

    Raises PermissionError if somebody else has made it.
    """
    root = Path("/tmp") / f"hb-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{root} must be a folder of this user with mode 0700; remove it")
    return root


def new_run_folder() -> Path:
    """Make the run folder of a new start."""
    folder = run_root() / secrets.token_hex(3)
    folder.mkdir(mode=0o700)
    make_folders(folder)
    return folder


def make_folders(folder: Path) -> None:
    """Make what is missing of a run folder's folders."""
    if not folder.is_dir():
        run_root()
        folder.mkdir(mode=0o700)
    for name in FOLDERS:
        (folder / name).mkdir(mode=0o700, exist_ok=True)


def remove_run_folder(folder: Path) -> None:
    """Remove a run folder with its sockets; never anything outside this user's root."""
    if folder.parent == run_root():
        shutil.rmtree(folder, ignore_errors=True)


def _lasts(path: Path) -> bool:
    """Tell whether it is a socket under its lasting name; HAProxy binds each under another one for a moment."""
    return (path.suffix == ".sock" or path.parent.name == "sockets") and path.is_socket()


class Upkeep:
    """What one system has in its run folder, and since when something of it is missing. Times: monotonic seconds."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._touched_s = clock()
        self._seen: dict[Path, float | None] = {}
        """Every part that was there when money was served, and since when it is missing."""

    def note(self) -> None:
        """Remember what is there now that money is served: folders and sockets."""
        found = [self._folder / name for name in FOLDERS]
        found += [path for path in self._folder.rglob("*") if _lasts(path)]
        self._seen = dict.fromkeys(found)

    def forget(self) -> None:
        """Expect nothing: parts are being started anew."""
        self._seen = {}

    def touch(self) -> None:
        """Once in `TOUCH_S`, make everything as young as a cleaner wants it."""
        if self._clock() - self._touched_s < TOUCH_S:
            return
        self._touched_s = self._clock()
        for path in (self._folder.parent, self._folder, *self._folder.rglob("*")):
            with contextlib.suppress(OSError):
                os.utime(path, follow_symlinks=False)

    def missing(self) -> tuple[list[Path], list[Path]]:
        """Return the parts that are missing, and those of them that have been so for `MISSING_S`."""
        now_s = self._clock()
        for path, since_s in self._seen.items():
            self._seen[path] = None if path.exists() else now_s if since_s is None else since_s
        gone = {path: since_s for path, since_s in self._seen.items() if since_s is not None}
        return list(gone), [path for path, since_s in gone.items() if now_s - since_s >= MISSING_S]
