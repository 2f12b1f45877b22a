"""Commands of the load tests, which `hongbao` has where this package is installed: `demo` and `fairness`."""

import contextlib
import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.terminal import ANSWERED_BADLY, INTERRUPTED, AsJson, Failure, err, out, print_json, progress
from cluster.commands.tokens import operator_at

PACKETS_MIN = 20
"""Rounds. Of fewer than 11, no p could be as small as the one that is looked for."""


def demo(
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long packets are sent.")] = 30.0,
    users: Annotated[int, typer.Option(min=2, max=100_000, help="How many users take part.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Names who sends what to whom.")] = 2_016,
    connections: Annotated[int, typer.Option(min=1, max=1_024, help="How many requests at once.")] = 64,
    url: Annotated[str | None, typer.Option(help="A running system instead of one of the demo's own.")] = None,
    operator_token: Annotated[str | None, typer.Option(help="With --url.")] = None,
    gateway_token: Annotated[str | None, typer.Option(help="With --url; of tenant wechat.")] = None,
    data: Annotated[Path | None, typer.Option(help="With --url: mint both tokens from this folder's keys.")] = None,
    advance_clock: Annotated[
        bool,
        typer.Option(
            "--advance-clock-of-running-system",
            help="With --url: let a day pass there. Packets of everybody who uses that system expire.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Replay the minute 00:05 of 2016-01-01 and account for every fen; exit code 0 only if all of it is clean."""
    import msgspec

    from loadtest.demo import DemoOptions, replay
    from loadtest.display import show
    from loadtest.target import own_target, running_target

    options = DemoOptions(
        seconds=seconds, users=users, seed=seed, connections_max=connections, advance_clock=advance_clock
    )
    if url is None and (operator_token or gateway_token or data or advance_clock):
        raise Failure("--operator-token, --gateway-token, --data and --advance-clock-of-running-system go with --url")
    try:
        with contextlib.ExitStack() as ended_with_us:
            if url is None:
                target = ended_with_us.enter_context(own_target("demo"))
            else:
                target = running_target(url, operator_token, gateway_token, data)
            outcome = replay(target, options, err)
            show(outcome, err if as_json else out)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(msgspec.to_builtins(outcome.figures))
    if not outcome.clean:
        raise typer.Exit(ANSWERED_BADLY)


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
    from loadtest.fairness.run import FairnessFailed, FairnessOptions, measure
    from loadtest.target import own_target

    if (url is None) != (token is None) or (url is not None and data is not None):
        raise Failure("--url goes with --token, an operator's (hongbao token --scope operator), and without --data")
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise Failure("--plot needs matplotlib: pip install 'hongbao[bench]'")
    options = FairnessOptions(users=users, packets=packets, seed=seed, spread_ms=spread_ms)
    try:
        with contextlib.ExitStack() as ended_with_us:
            if url is None and data is None:
                target = ended_with_us.enter_context(own_target("measurement"))
                where = target.url, target.operator_token
            else:
                where = operator_at(url, token, data)
            with progress("Firing") as report:
                rounds = measure(*where, options, report)
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


COMMANDS = (demo, fairness)
