"""Screen: where commands write. Text is written as it is, brackets included, to a terminal or to anything else.

- Nothing that is printed is markup or an emoji's name: users, paths and URLs may hold both. Colour is an argument.
- A standard stream that is closed takes what is written and drops it; were its number left free, the next file that is
  opened would get it, and what is printed would go into that file.
- What a stream cannot encode is written as `\\uXXXX`, in JSON too, where that means the same.
- Who reads stdout may go (`| head`): the command ends with READER_GONE. Who reads stderr may go: the work goes on.
"""

import io
import os
import sys
from typing import NoReturn

from rich.console import Console

PLAIN_WIDTH = 120
"""Columns where there is no terminal."""

READER_GONE = 141
"""The exit code of a program that SIGPIPE ended, as shells tell it."""


def _open_streams() -> None:
    """Make all three standard streams usable, once, before anything else opens a file."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


_open_streams()


class Screen(Console):
    """A console of rich's for text without markup."""

    def __init__(self, *, stderr: bool = False, plain_width: int = PLAIN_WIDTH) -> None:
        """Write on stdout, or on `stderr`; `plain_width`: columns where that is not a terminal."""
        stream = sys.stderr if stderr else sys.stdout
        width = None if stream.isatty() else plain_width
        super().__init__(stderr=stderr, width=width, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """End if nobody reads the result; go on without words if nobody reads the progress."""
        if not self.stderr:
            _end_unread()
        self.quiet = True
        _drop(sys.stderr.fileno())


def write(text: str) -> None:
    """Write on stdout, at once, as it is: what a program or a shell reads."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _end_unread()


def _end_unread() -> NoReturn:
    _drop(sys.stdout.fileno())  # what is still in its buffer goes there at the end
    sys.exit(READER_GONE)


def _drop(number: int) -> None:
    """Point a stream's number at nothing from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
