"""Audit command: the conservation report of a running system, or of any from its sealed files and journals."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cluster.commands.ledger import ArchiveUrl, StoreUrl, audit_offline
from cluster.commands.terminal import (
    ANSWERED_BADLY,
    AsJson,
    Config,
    Data,
    Failure,
    out,
    print_json,
    progress,
)
from cluster.commands.tokens import operator_at

if TYPE_CHECKING:
    from cluster.client import ApiProblem, AuditAnswer

DEADLINE_S = 20.0


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

    address, operator_token = operator_at(url, token, data)

    async def ask() -> "AuditAnswer | ApiProblem":
        async with Client(address, operator_token, deadline_s=DEADLINE_S) as client:
            return await client.audit()

    with progress("Reading every book"):
        report = asyncio.run(ask())
    if isinstance(report, ApiProblem):
        raise Failure(f"no audit: {address} {report.told}")
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(report))
    else:
        _show_audit(report)
    if not report.clean:
        raise typer.Exit(ANSWERED_BADLY)


def _show_audit(report: "AuditAnswer") -> None:
    columns = list(dict.fromkeys(name for shard in report.shards for name in shard if name.endswith("_fen")))
    table = Table(title="Conservation, in fen")
    table.add_column("stream")
    for name in (*columns, "version"):
        table.add_column(name.removesuffix("_fen").replace("_", " "), justify="right")
    for shard in report.shards:
        amounts = (f"{shard.get(name, 0):,}" for name in columns)
        table.add_row(str(shard["stream"]), *amounts, f"{shard['version']:,}")
    table.add_section()
    totals = (f"{sum(int(shard.get(name, 0)) for shard in report.shards):,}" for name in columns)
    table.add_row("all", *totals, "")
    out.print(table)
    out.print(
        f"in flight {report.in_flight_fen:,} fen · settlement lag {report.settlement_lag_ms:,} ms · "
        f"difference {report.difference_fen:,} fen · {'clean' if report.clean else 'NOT CLEAN'}",
        style="green" if report.clean else "red",
        highlight=False,
    )
