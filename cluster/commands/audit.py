"""Asking: commands that speak HTTP with a running system, or with one of their own."""

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cluster.commands.ledger import ArchiveUrl, StoreUrl, audit_offline
from cluster.commands.terminal import (
    ANSWERED_BADLY,
    INTERRUPTED,
    AsJson,
    Config,
    Data,
    Failure,
    err,
    out,
    print_json,
    progress,
    reachable,
)
from cluster.commands.tokens import RUN_TOKEN_S, operator_of, tokens_of

if TYPE_CHECKING:
    from cluster.client import AuditAnswer
    from loadtest.demo import Target


def audit(
    url: Annotated[str | None, typer.Option(help="Address of the system, with --token.")] = None,
    token: Annotated[str | None, typer.Option(help="An operator's token.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="From sealed files and journals, past the shards.")
    ] = False,
    balances: Annotated[
        Path | None, typer.Option(help="With --offline: write every balance to this Parquet file.")
    ] = None,
    store_url: StoreUrl = None,
    archive_url: ArchiveUrl = None,
    config: Config = "local",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show the conservation report of a running system, or --offline that of any; exit code 1 if it is not clean."""
    if offline:
        if url is not None or token is not None:
            raise Failure("--offline asks no running system: it goes with --data or --store-url, not with --url")
        audit_offline(data, store_url, archive_url, config, balances, as_json)
        return
    if balances is not None or store_url is not None or archive_url is not None:
        raise Failure("--balances, --store-url and --archive-url go with --offline")
    from cluster.client import ApiProblem, Client

    if url is None:
        url, token = operator_of(data)
    elif token is None:
        raise Failure("--url needs --token, an operator's (hongbao token --scope operator)")
    else:
        url = reachable(url)

    async def ask(address: str, operator_token: str) -> "AuditAnswer | ApiProblem":
        async with Client(address, operator_token, deadline_s=20.0) as api:
            return await api.audit()

    assert token is not None, "either given or minted"
    with progress("Reading every book"):
        report = asyncio.run(ask(url, token))
    if isinstance(report, ApiProblem):
        raise Failure(f"no audit: {url} {report.told}")
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(report))
    else:
        _show_audit(report)
    if not report.clean:
        raise typer.Exit(ANSWERED_BADLY)


def _show_audit(report: "AuditAnswer") -> None:
    columns = ("book_sum_fen", "funded_fen", "paid_fen", "refunded_fen", "remaining_fen")
    table = Table(title="Conservation, in fen")
    table.add_column("stream")
    for name in (*columns, "version"):
        table.add_column(name.removesuffix("_fen").replace("_", " "), justify="right")
    for shard in report.shards:
        table.add_row(shard.stream, *(f"{getattr(shard, name):,}" for name in columns), f"{shard.version:,}")
    table.add_section()
    totals = (f"{getattr(report, name):,}" for name in columns[1:])
    table.add_row("all", f"{sum(shard.book_sum_fen for shard in report.shards):,}", *totals, "")
    out.print(table)
    out.print(
        f"in flight {report.in_flight_fen:,} fen · settlement lag {report.settlement_lag_ms:,} ms · "
        f"difference {report.difference_fen:,} fen · {'clean' if report.clean else 'NOT CLEAN'}",
        style="green" if report.clean else "red",
        highlight=False,
    )


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

    from loadtest.demo import DemoFailed, Options, Target, replay
    from loadtest.display import show

    options = Options(seconds=seconds, users=users, seed=seed, connections_max=connections, advance_clock=advance_clock)
    try:
        with contextlib.ExitStack() as ended_with_us:
            if url is None:
                if operator_token or gateway_token or data or advance_clock:
                    raise Failure(
                        "--operator-token, --gateway-token, --data and --advance-clock-of-running-system go with --url"
                    )
                target = ended_with_us.enter_context(own_system("demo"))
            else:
                if data is not None:
                    operator_token, gateway_token = tokens_of(data.absolute(), RUN_TOKEN_S)
                if operator_token is None or gateway_token is None:
                    raise Failure("--url needs --operator-token and --gateway-token, or --data to mint them")
                target = Target(reachable(url), operator_token, gateway_token, fresh=False)
            outcome = replay(target, options, err)
            show(outcome, err if as_json else out)
    except DemoFailed as failure:
        raise Failure(str(failure)) from failure
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(msgspec.to_builtins(outcome.figures))
    if not outcome.clean:
        raise typer.Exit(ANSWERED_BADLY)


@contextlib.contextmanager
def own_system(whose: str) -> Iterator["Target"]:
    """Run a system in a temporary folder and leave nothing of it behind, however this ends; `whose`: a command's."""
    from cluster.local import bootstrap
    from loadtest.demo import Target

    folder = Path(tempfile.mkdtemp(prefix=f"hongbao-{whose}-"))
    try:
        with progress(f"Starting a system for the {whose}") as report:
            record = bootstrap.up(folder, owned=True, report=report)
        operator_token, gateway_token = tokens_of(folder, RUN_TOKEN_S)
        yield Target(record.url, operator_token, gateway_token, fresh=True)
    finally:
        # From here nothing interrupts: a half-ended system would stay for ever. `down` is bounded itself.
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, _unmoved)
        with progress(f"Ending the {whose}'s system") as report:
            bootstrap.down(folder, report)
        shutil.rmtree(folder, ignore_errors=True)


def _unmoved(number: int, frame: FrameType | None) -> None:
    """Note a signal and go on ending; unlike SIG_IGN it is not inherited by what `down` may run."""
