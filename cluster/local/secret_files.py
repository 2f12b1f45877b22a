"""Secret files: files of one owner with mode 0600, written whole and on disk before they are used."""

import os
import stat
import tempfile
from pathlib import Path

OTHERS = stat.S_IRWXG | stat.S_IRWXO
CHUNK_BYTES = 65_536


def read_private(path: Path) -> bytes:
    """Return the content of a file that only this user can read. A link is followed; what it leads to is judged.

    Raises FileNotFoundError, PermissionError: somebody else may read, write or replace it; the message says what to do.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of that name must not hold anybody up
    try:
        _judge(path, os.fstat(descriptor))
        content = b""
        while chunk := os.read(descriptor, CHUNK_BYTES):
            content += chunk
        return content
    finally:
        os.close(descriptor)


def _judge(path: Path, found: os.stat_result) -> None:
    """Raise PermissionError if what was opened is not this user's alone."""
    if not stat.S_ISREG(found.st_mode):
        raise PermissionError(f"{path} holds a secret and must be a plain file; remove what is there")
    if found.st_uid != os.geteuid():
        raise PermissionError(
            f"{path} holds a secret and belongs to another user (uid {found.st_uid}); "
            f"copy it to a file of your own and chmod 600 that"
        )
    if found.st_mode & OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        raise PermissionError(f"{path} holds a secret and other users may use it (mode {mode:04o}); chmod 600 {path}")


def make_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, whole and durable on return.

    Raises FileExistsError: one is there already, and stays as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.link(draft, path)  # unlike a rename it never replaces what another start has just written
    finally:
        os.unlink(draft)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
