"""Ledger commands: read journals and archive themselves, of a running system or a stopped one, past the shards."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cluster.commands.terminal import ANSWERED_BADLY, AsJson, Config, Data, Failure, err, out, print_json, progress
from cluster.commands.tokens import SANDBOX_TENANT
from cluster.instants import second_of

if TYPE_CHECKING:
    from cluster.offline.audit import OfflineAudit
    from cluster.offline.sources import Ledger
    from cluster.offline.statement import WholeStatement
    from cluster.offline.verify import Verification

LEFT_OVER_LINES = 10
"""So much of what is left over is listed; `--json` has all of it."""

StoreUrl = Annotated[str | None, typer.Option(help="Read this Redis or Valkey instead of a data folder's store.")]
ArchiveUrl = Annotated[
    str | None, typer.Option(help="Sealed files: a folder or URL; default: the config's, or DATA/archive.")
]


@contextmanager
def opened(
    what: str, data: Path | None, config: str, store_url: str | None, archive_url: str | None
) -> Iterator[tuple["Ledger", Callable[[str], None]]]:
    """Open the ledger of a system and show progress."""
    from cluster.config import data_folder
    from cluster.offline.sources import ledger_of

    if store_url and data is not None:
        raise Failure("--store-url goes without --data; the sealed files of that system are given by --archive-url")
    with progress(what) as report, ledger_of(data_folder(data), config, store_url, archive_url, report) as ledger:
        yield ledger, report


def verify(
    stream: Annotated[
        list[str] | None, typer.Option(help="Only this stream, e.g. packet-003; may be repeated.")
    ] = None,
    data: Data = None,
    store_url: StoreUrl = None,
    archive_url: ArchiveUrl = None,
    config: Config = "local",
    as_json: AsJson = False,
) -> None:
    """Walk the whole chain of every stream, sealed and live, and name the first bad entry of each; exit code 1 then."""
    import msgspec

    from cluster.config import data_folder
    from cluster.local.store_log import cuts_of, missing_from

    with opened("Verifying", data, config, store_url, archive_url) as (ledger, report):
        found = asyncio.run(_verify(ledger, stream or [], report))
        if store_url is None:
            cuts, missing = [cut.words() for cut in cuts_of(data_folder(data))], missing_from(data_folder(data))
            found = msgspec.structs.replace(found, cuts=cuts, missing=missing, whole=found.whole and not missing)
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        _show_verification(found)
    if not found.whole:
        raise typer.Exit(ANSWERED_BADLY)


async def _verify(ledger: "Ledger", streams: list[str], report: Callable[[str], None]) -> "Verification":
    from cluster.offline.sources import sources_of
    from cluster.offline.verify import verify

    async with sources_of(ledger.settings) as sources:
        catalogue = await sources.journals.streams()
        if not catalogue:
            raise Failure("the store holds no system; correct --data or --store-url")
        unknown = [name for name in streams if name not in catalogue]
        if unknown:
            raise Failure(f"there is no stream {unknown[0]}; the catalogue lists {min(catalogue)} to {max(catalogue)}")
        return await verify(sources, sorted(streams or catalogue), report)


def _show_verification(found: "Verification") -> None:
    table = Table(title="Journals")
    for name in ("stream", "last entry", "version", "sealed", "live", "snapshots", "first bad entry"):
        table.add_column(name, justify="left" if name in ("stream", "first bad entry") else "right")
    for one in found.streams:
        bad = "" if one.bad is None else f"{one.bad.entry or 'the stream'} {one.bad.found}"
        counts = (f"{one.version:,}", f"{one.sealed_elements:,}", f"{one.live_elements:,}", str(one.snapshots))
        table.add_row(one.stream, one.last, *counts, bad, style=None if one.bad is None else "red")
    out.print(table)
    left = [f"{one.stream}: {what}" for one in found.streams for what in one.left_over]
    if left:
        lines = [*left[:LEFT_OVER_LINES], *(["…"] if len(left) > LEFT_OVER_LINES else [])]
        out.print(f"left over by tasks that died, or in use by one at work; harmless ({len(left):,}):", highlight=False)
        out.print("\n".join(lines), highlight=False)
    bad_streams = sum(one.bad is not None for one in found.streams)
    for words in found.cuts:
        out.print(f"cut off the store's log: {words}", style="yellow", highlight=False, soft_wrap=True)
    if found.missing:
        out.print(found.missing, style="red", highlight=False, soft_wrap=True)
    verdict = f"NOT WHOLE: {bad_streams} of {len(found.streams)} streams" if bad_streams else "whole"
    if not bad_streams and (found.missing or found.cuts):
        verdict = "NOT WHOLE: its end is missing" if found.missing else "whole, but for what was cut off its log"
    style = ("yellow" if found.cuts else "green") if found.whole else "red"
    out.print(f"{found.elements:,} entries and fences read · {verdict}", style=style, highlight=False)


def audit_offline(
    data: Path | None,
    store_url: str | None,
    archive_url: str | None,
    config: str,
    balances: Path | None,
    as_json: bool,
) -> None:
    """Recompute every balance from sealed files and journals; see `hongbao audit --offline`."""
    import msgspec

    from cluster.offline.tasks import joined_ray

    with opened("Adding up every line", data, config, store_url, archive_url) as (ledger, report), joined_ray(ledger):
        from cluster.offline import audit

        report("reading every stream")
        found, table = asyncio.run(audit.audit(ledger.settings))
        if balances is not None:
            audit.write_balances(table, balances)
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        _show_offline_audit(found)
    if not found.clean:
        raise typer.Exit(ANSWERED_BADLY)


def _show_offline_audit(found: "OfflineAudit") -> None:
    table = Table(title="Books, added up from sealed files and journals")
    for name in ("stream", "through", "sealed parts", "lines", "accounts", "sum, fen"):
        table.add_column(name, justify="left" if name == "stream" else "right")
    for book in found.books:
        figures = (f"{book.sealed_parts:,}", f"{book.lines:,}", f"{book.accounts:,}", f"{book.sum_fen:,}")
        table.add_row(book.stream, book.through, *figures)
    out.print(table)
    totals = " · ".join(f"{account} {fen:,}" for account, fen in found.totals_fen.items())
    out.print(f"fen by kind of account: {totals}", highlight=False)
    for one in found.wrong_sides:
        out.print(f"wrong sign: {one.stream} {one.account} {one.name} {one.amount_fen:,} fen", style="red")
    for wrong in found.unproven:
        out.print(f"unproven: {wrong.stream} {wrong.record}: {wrong.found}", style="red")
    proved = [f"{count:,} {words.replace('_', ' ')}" for words, count in found.proved.items()]
    out.print(
        " · ".join([*proved, f"{found.unproven_count:,} unproven"]),
        style="red" if found.unproven_count else None,
        highlight=False,
    )
    out.print(f"balances SHA-256 {found.balances_sha256}", highlight=False)
    verdict = "clean" if found.clean else "NOT CLEAN"
    out.print(
        f"{found.accounts:,} accounts · in flight {found.in_flight_fen:,} fen · "
        f"difference {found.difference_fen:,} fen · {verdict}",
        style="green" if found.clean else "red",
        highlight=False,
    )


def statement(
    user: Annotated[str, typer.Argument(help="User id.")],
    tenant: Annotated[str, typer.Option(help="Tenant, e.g. wechat.")] = SANDBOX_TENANT,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the newest lines; default: all there ever were.")
    ] = None,
    data: Data = None,
    store_url: StoreUrl = None,
    archive_url: ArchiveUrl = None,
    config: Config = "local",
    as_json: AsJson = False,
) -> None:
    """Show every line of a user, newest first, from sealed files and the journal; exit code 1 without any account."""
    import msgspec

    from actors.kernel.names import is_tenant, may_have_lines

    if not may_have_lines(user) or not is_tenant(tenant):
        raise Failure(f"{tenant}/{user} names no user: no blanks, at most 64 characters, the tenant in lower case")
    with opened("Reading the statement", data, config, store_url, archive_url) as (ledger, _):
        found = asyncio.run(_statement(ledger, tenant, user, limit))
    if as_json:
        print_json(msgspec.to_builtins(found))
    elif found.entries:
        _show_statement(found)
    if not found.entries:
        err.print(f"nobody was ever called {user} in tenant {tenant}: there is not one line", highlight=False)
        raise typer.Exit(ANSWERED_BADLY)


async def _statement(ledger: "Ledger", tenant: str, user: str, limit: int | None) -> "WholeStatement":
    from cluster.offline.sources import sources_of
    from cluster.offline.statement import newest, statement

    async with sources_of(ledger.settings) as sources:
        catalogue = await sources.journals.streams()
        if not catalogue:
            raise Failure("the store holds no system; correct --data or --store-url")
        whole = await statement(sources, tenant, user, catalogue)
        return whole if limit is None else newest(whole, limit)


def _show_statement(found: "WholeStatement") -> None:
    table = Table(title=f"{found.tenant} {found.user}, in fen")
    for name in ("when (UTC)", "kind", "amount", "balance", "reference"):
        table.add_column(name, justify="right" if name in ("amount", "balance") else "left")
    for line in found.entries:
        table.add_row(second_of(line.at_ms), line.kind, f"{line.amount_fen:,}", f"{line.balance_fen:,}", line.reference)
    out.print(table)
    out.print(f"available {found.available_fen:,} fen · held {found.held_fen:,} fen", highlight=False)
