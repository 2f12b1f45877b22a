"""Terminal: what every command shares: how it prints, what it is given, how it ends.

Progress, errors and hints go to stderr; what a program may read goes to stdout, with `--json` as its last line.
Exit codes: 0 as asked, 1 asked and answered badly (not clean, not ready), 2 could not be carried out, 130 interrupted.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

ANSWERED_BADLY = 1
COULD_NOT = 2
INTERRUPTED = 130
TERMINATED = 143

PLAIN_WIDTH = 120

Data = Annotated[Path | None, typer.Option("--data", help="Data folder; without it your own default one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object in the last line.")]
Config = Annotated[str, typer.Option(help="Configuration: a name in configs/, or the path of a .toml file.")]
Sandbox = Annotated[
    bool | None,
    typer.Option(
        "--sandbox/--no-sandbox",
        help="Operators make money and move the clock. Default: the config's; else only `up` with its own store.",
    ),
]

out = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
err = Console(stderr=True, width=None if sys.stderr.isatty() else PLAIN_WIDTH)


class Failure(Exception):
    """The command could not be carried out; the sentence is all that its user needs."""


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done: a spinner on a terminal, plain lines elsewhere."""
    if not err.is_terminal:
        yield lambda words: err.print(f"{what}: {words}", markup=False, highlight=False, soft_wrap=True)
        return
    with err.status(f"{what} …") as spinner:
        yield lambda words: spinner.update(f"{what}: {words}")


def print_json(content: object) -> None:
    """Print what a program reads, as the last line."""
    sys.stdout.write(json.dumps(content, ensure_ascii=False) + "\n")
    sys.stdout.flush()
