"""Command line: every command by name, and how a failure ends one.

Only `up`, `down` and `status` know how a system is started; what asks a running one speaks HTTP.
Heavy imports (Ray, aiohttp, pydantic) stay inside the commands: `hongbao --help` answers at once.
"""

import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from types import FrameType
from typing import Annotated, NoReturn

import typer

from cluster.commands import (
    audit,
    backup,
    deploy,
    keys,
    ledger,
    repair,
    scrape_config,
    switches,
    system,
    tokens,
    top,
    verify_packet,
)
from cluster.commands.terminal import COULD_NOT, TERMINATED, Failure, err
from cluster.screen import write

OWN = (
    system.up,
    system.status,
    system.down,
    top.top,
    switches.pause,
    switches.resume,
    audit.audit,
    ledger.verify,
    ledger.statement,
    verify_packet.verify_packet,
    tokens.token,
    keys.keys,
    backup.backup,
    backup.restore,
    repair.repair,
    deploy.serve_config,
    scrape_config.prometheus_config,
)
"""Without those of plugins."""

PLUGINS = ("loadtest.commands",)
"""Modules that add `COMMANDS` where they are installed. They are loaded by name: this package imports none of them."""


def _added(plugin: str) -> tuple[Callable[..., None], ...]:
    installed = importlib.util.find_spec(plugin.partition(".")[0]) is not None
    return tuple(importlib.import_module(plugin).COMMANDS) if installed else ()


COMMANDS: tuple[Callable[..., None], ...] = sum(map(_added, PLUGINS), OWN)
"""In the order of `hongbao --help`."""

app = typer.Typer(
    name="hongbao",
    help="Red packets on Ray: exact, durable, fair under a hot key.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    app.command()(command)


def _show_version(asked: bool) -> None:
    if asked:
        write(f"hongbao {version('hongbao')}\n")
        raise typer.Exit


@app.callback()
def _root(
    shows_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version.")
    ] = False,
) -> None:
    """Take what goes before a command."""


def main() -> None:
    """Run the command line; the entry point `hongbao`."""
    if not __debug__:
        sys.exit("hongbao: refuses to run without assertions; start it without python -O and PYTHONOPTIMIZE")
    if sys.getfilesystemencoding() != "utf-8":
        _begin_again_in_utf8()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # nohup: who closes the terminal ends nothing
            signal.signal(ending, _terminate)
    run()


def run(arguments: list[str] | None = None) -> NoReturn:
    """Carry out one command, by default the process's; always ends with SystemExit."""
    from actors.kernel.errors import OperatingFailure

    try:
        app(arguments)
    except (Failure, OperatingFailure, OSError, ValueError) as failure:
        _fail(failure)
    except RuntimeError as failure:
        if type(failure) is RuntimeError:
            raise  # a bug, not an operating failure
        _fail(failure)
    raise AssertionError("typer ends every command")


def _begin_again_in_utf8() -> NoReturn:
    """Start again in UTF-8: in another encoding some paths have no text, and a record cannot name them.

    The processes of a system inherit it.
    """
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, "-X", "utf8=1", *sys.orig_argv[1:]])


def _fail(failure: BaseException) -> NoReturn:
    """Print a failure as one line and exit."""
    sentence = " ".join(str(failure).split()) or type(failure).__name__
    err.print(f"hongbao: {sentence}", style="red", highlight=False, soft_wrap=True)
    sys.exit(COULD_NOT)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """End as on Ctrl-C, so that what was started is ended."""
    sys.exit(TERMINATED)


if __name__ == "__main__":
    main()
