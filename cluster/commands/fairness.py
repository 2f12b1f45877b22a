"""Fairness command: measures on a running system, or on one of its own, whether equal clients have equal chances."""

import contextlib
import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.audit import own_system
from cluster.commands.terminal import (
    ANSWERED_BADLY,
    INTERRUPTED,
    AsJson,
    Failure,
    err,
    out,
    print_json,
    progress,
    reachable,
)
from cluster.commands.tokens import operator_of

PACKETS_MIN = 20
"""Rounds. Of fewer than 11, no p could be as small as the one that is looked for."""


def fairness(
    users: Annotated[int, typer.Option(min=10, max=500, help="Equal clients; half of them win.")] = 200,
    packets: Annotated[int, typer.Option(min=PACKETS_MIN, max=200, help="Rounds, of one crowd packet each.")] = 100,
    seed: Annotated[int, typer.Option(help="Names the order of the start and whose answers are lost.")] = 2_016,
    spread_ms: Annotated[
        int, typer.Option(min=0, max=10_000, help="Send a round's requests over so long, not at one instant.")
    ] = 0,
    plot: Annotated[Path | None, typer.Option(help="Write a picture (.png) there; needs matplotlib.")] = None,
    url: Annotated[str | None, typer.Option(help="A running system instead of one of its own; with --token.")] = None,
    token: Annotated[str | None, typer.Option(help="With --url: an operator's token.")] = None,
    data: Annotated[Path | None, typer.Option(help="The running system of this data folder, instead of --url.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let equal clients fire through all gateway replicas, at one instant unless told; exit code 1 if one is favoured.

    Or if a promise is broken: somebody grabbed twice, a rank is there twice, a repeat lost its place.
    """
    import msgspec

    from loadtest.fairness.display import show
    from loadtest.fairness.report import report_of
    from loadtest.fairness.run import FairnessFailed, Options, measure

    if (url is None) != (token is None) or (url is not None and data is not None):
        raise Failure("--url goes with --token, an operator's (hongbao token --scope operator), and without --data")
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise Failure("--plot needs matplotlib: pip install 'hongbao[bench]'")
    options = Options(users=users, packets=packets, seed=seed, spread_ms=spread_ms)
    try:
        with contextlib.ExitStack() as ended_with_us:
            if data is not None:
                url, token = operator_of(data.absolute())
            elif url is None:
                target = ended_with_us.enter_context(own_system("measurement"))
                url, token = target.url, target.operator_token
            else:
                url = reachable(url)
            assert token is not None, "given, or minted with the address"
            with progress("Firing") as report:
                rounds = measure(url, token, options, report)
    except FairnessFailed as failure:
        raise Failure(str(failure)) from failure
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    found = report_of(rounds, options)
    show(found, err if as_json else out)
    if plot is not None:
        from loadtest.fairness.plot import draw

        plot.parent.mkdir(parents=True, exist_ok=True)
        draw(rounds, plot)
        err.print(f"plot: {plot}", highlight=False, soft_wrap=True)
    if as_json:
        print_json(msgspec.to_builtins(found))
    if not found.fair:
        raise typer.Exit(ANSWERED_BADLY)
