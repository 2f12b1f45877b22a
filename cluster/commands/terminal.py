"""Terminal: what commands share: how they print, which options they take, how they end.

Progress, errors and hints go to stderr; what a program may read goes to stdout, with `--json` as its last line.
Exit codes: 0 as asked, 1 asked and answered badly (not clean, not ready), 2 could not be carried out, 130 interrupted,
141 the reader of the output went away.
"""

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.text import Text

from cluster.screen import Screen, write

ANSWERED_BADLY = 1
COULD_NOT = 2
INTERRUPTED = 130
TERMINATED = 143

REACH_S = 5.0

Data = Annotated[Path | None, typer.Option("--data", help="Data folder; default: HONGBAO_DATA, or your own.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object in the last line.")]
Config = Annotated[str, typer.Option(help="Configuration: a name in configs/, or the path of a .toml file.")]
Sandbox = Annotated[
    bool | None,
    typer.Option(
        "--sandbox/--no-sandbox",
        help="Operators make money and move the clock. Default: the config's; else only `up` with its own store.",
    ),
]

out = Screen()
err = Screen(stderr=True)


class Failure(Exception):
    """The command could not be carried out; the sentence is all that its user needs."""


def reachable(url: str) -> str:
    """Return an address that was given, if somebody listens there. Raises Failure at once, not after many attempts."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), REACH_S).close()
    except (OSError, ValueError) as failure:
        raise Failure(f"{url} does not answer: {failure}") from failure
    return url


def print_json(content: object) -> None:
    """Print what a program reads, as the last line."""
    write(json.dumps(content, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done: a spinner on a terminal, plain lines elsewhere."""
    if not err.is_terminal:
        yield lambda words: err.print(f"{what}: {words}", highlight=False, soft_wrap=True)
        return
    with err.status(Text(f"{what} …")) as spinner:
        yield lambda words: spinner.update(Text(f"{what}: {words}"))
