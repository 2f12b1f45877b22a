"""Top: a live view of one system in a terminal: rates, latencies, money, store, shards.

It reads `GET /v1/figures`, not Prometheus' page: that is as old as Ray's report interval, this at most a second.
Every line fits 80 columns and the whole 24 rows; a wide terminal shows the shards' columns in full.
"""

import asyncio
import contextlib
import http
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from actors.ledger.money import yuan
from cluster.commands.terminal import AsJson, Data, Failure, out, print_json
from cluster.commands.tokens import operator_at

if TYPE_CHECKING:
    from cluster.observability.metrics_snapshot import Figures, ShardFigures
    from cluster.observability.summary import Spread, Summary

TIMEOUT_S = 3.0
WINDOW_S = 5.0
"""Rates and latencies are those of the last seconds."""

WIDE = 110
NOTHING = "–"
OVERDUE_MS = 60_000
LAG_MS_MAX = 1_000
ROWS_ABOVE_SHARDS = 17


class Unanswered(Exception):
    """The system did not answer; the sentence says how."""


def top(
    url: Annotated[str | None, typer.Option(help="Address of the system, with --token.")] = None,
    token: Annotated[str | None, typer.Option(help="An operator's token.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Show one interval and end; exit code 1 if unwell.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 1.0,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show what a running system is doing, live."""
    given = url is not None
    address, operator_token = operator_at(url, token, data)

    def look() -> "Figures":
        nonlocal address, operator_token
        try:
            return read_figures(address, operator_token)
        except Unanswered:
            with contextlib.suppress(Failure):  # it may have been started again, elsewhere
                address, operator_token = (address, operator_token) if given else operator_at(None, None, data)
            raise

    if once or as_json:
        _show_once(look, address, interval, as_json)
        return
    if not out.is_terminal:
        raise Failure("a live view needs a terminal; --once prints one, --once --json is for programs")
    try:
        _show_live(look, address, interval)
    except KeyboardInterrupt:
        return


def read_figures(url: str, token: str) -> "Figures":
    """Ask for the figures once. Raises Unanswered; Failure if the token is not an operator's."""
    import msgspec

    from cluster.client import Client, RawAnswer
    from cluster.observability.metrics_snapshot import Figures

    async def ask() -> RawAnswer:
        async with Client(url, token, attempt_s=TIMEOUT_S, deadline_s=0.0) as client:
            return await client.exchange("GET", "/v1/figures")

    answer = asyncio.run(ask())
    if answer.status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
        raise Failure(f"{url} refuses the token: it takes an operator's, of this system (hongbao token)")
    if answer.problem is not None:
        raise Unanswered(f"{url} {answer.problem.told}")
    return msgspec.json.decode(answer.content, type=Figures)


def _show_once(look: "Callable[[], Figures]", url: str, interval: float, as_json: bool) -> None:
    import msgspec

    from cluster.observability.summary import summarize

    try:
        before = look()
        time.sleep(interval)
        seen = summarize(look(), before)
    except Unanswered as failure:
        raise Failure(f"{failure}; `hongbao status` says what is the matter") from failure
    if as_json:
        print_json(msgspec.to_builtins(seen))
    else:
        out.print(view(seen, url, out.width, 10_000))
    if troubles(seen):
        raise typer.Exit(1)


def _show_live(look: "Callable[[], Figures]", url: str, interval: float) -> None:
    from cluster.observability.summary import summarize

    readings: deque[Figures] = deque(maxlen=1 + max(1, round(WINDOW_S / interval)))
    shown: RenderableType = Text("…")
    with Live(shown, console=out, screen=True, auto_refresh=False) as live:
        while True:
            try:
                readings.append(look())
                if len(readings) > 1:
                    shown = view(summarize(readings[-1], readings[0]), url, out.width, out.height)
                else:
                    shown = Text(f"hongbao top · {url} · first look …")
                live.update(shown, refresh=True)
            except Unanswered as failure:
                readings.clear()
                down = Text.assemble((" DOWN ", "reverse red"), f" {failure}; looking again. ", ("Ctrl-C ends", "dim"))
                live.update(Group(down, shown), refresh=True)
            time.sleep(interval)


# What is shown.


def troubles(seen: "Summary") -> list[str]:
    """Say what is not as it should be, worst first."""
    found = []
    if seen.audit is not None and (seen.audit.difference_fen or seen.audit.book_sum_fen):
        found.append(f"THE BOOKS DIFFER BY {seen.audit.difference_fen:,} FEN")
    if seen.store is not None and not seen.store.ready:
        found.append("the store takes no writes")
    idle = [shard.host for shard in seen.shards if not shard.streams]
    if idle:
        found.append(f"no report from {', '.join(idle)}")
    if seen.lag_ms > LAG_MS_MAX:
        found.append(f"settlement is {seen.lag_ms / 1000:.1f} s behind")
    if any(shard.overdue_ms > OVERDUE_MS for shard in seen.shards):
        found.append("a snapshot is overdue")
    if seen.rates["failed"]:
        found.append(f"{seen.rates['failed']:.1f} requests/s fail (5xx)")
    return found


def view(seen: "Summary", url: str, width: int, height: int) -> Group:
    """Lay out one summary for a terminal of that size."""
    found = troubles(seen)
    at = time.strftime("%H:%M:%S", time.localtime(seen.at_ms / 1000))
    head = Text.assemble(
        ("hongbao top", "bold"),
        f" · {url} · {at} · last {seen.over_ms / 1000:.1f} s · ",
        f"{seen.gateways} gateway{'' if seen.gateways == 1 else 's'}",
    )
    state = Text("! " + "; ".join(found), style="bold red") if found else Text("all well", style="green")
    for line in (head, state):
        line.truncate(width, overflow="ellipsis")
    columns = Table.grid(padding=(0, 3), expand=False)
    columns.add_row(_minute(seen), _latencies(seen))
    lower = Table.grid(padding=(0, 3), expand=False)
    lower.add_row(_money(seen), _store(seen))
    return Group(head, state, columns, lower, _shards(seen, width, max(1, height - ROWS_ABOVE_SHARDS)))


def _table(title: str, *names: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold cyan")
    table.add_column(title, no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _minute(seen: "Summary") -> Table:
    table = _table("THE MINUTE", "a second")
    for name, words in (
        ("accepted", "grabs accepted"),
        ("replayed", "grabs replayed"),
        ("refused", "grabs refused"),
        ("sent", "packets sent"),
        ("requests", "requests"),
        ("shed", "shed"),
    ):
        table.add_row(words, _rate(seen.rates[name]))
    reasons = ", ".join(f"{code} {_rate(rate)}" for code, rate in list(seen.refused.items())[:2])
    table.add_row(Text(f"  {reasons}"[:36], style="dim"), "")
    return table


def _latencies(seen: "Summary") -> Table:
    table = _table("HOW LONG, HOW MUCH", "p50", "p99")
    for name, words in (
        ("request", "request, ms"),
        ("queueing", "queueing, ms"),
        ("commit packet-shard", "commit packets, ms"),
        ("commit wallet-shard", "commit wallets, ms"),
        ("batch_size", "grabs a call"),
        ("commit_size packet-shard", "events a commit"),
    ):
        spread = seen.spreads.get(name)
        table.add_row(words, _quantity(spread, "p50"), _quantity(spread, "p99"))
    table.add_row("fsync an entry, ms", NOTHING if seen.fsync_ms_mean is None else f"{seen.fsync_ms_mean:.2f}", "mean")
    return table


def _money(seen: "Summary") -> Table:
    table = _table("THE MONEY", "")
    table.add_row("in flight", f"¥ {yuan(seen.in_flight_fen)}")
    table.add_row("unsettled", f"{seen.unsettled:,}")
    table.add_row("settlement lag", _alarming(f"{seen.lag_ms:,} ms", seen.lag_ms > LAG_MS_MAX))
    audit = seen.audit
    if audit is None:
        table.add_row("difference", "no audit yet")
    else:
        age_s = (seen.at_ms - audit.at_ms) // 1_000
        words = f"{audit.difference_fen:,} fen, {age_s} s ago"
        table.add_row("difference", _alarming(words, bool(audit.difference_fen or audit.book_sum_fen)))
    return table


def _store(seen: "Summary") -> Table:
    table = _table("THE STORE", "")
    store = seen.store
    if store is None:
        table.add_row("state", "not asked yet")
        return table
    table.add_row("state", _alarming("ready" if store.ready else "REFUSES", not store.ready))
    table.add_row("log and fsync", NOTHING if seen.fsync_share is None else f"{100 * seen.fsync_share:.0f} % busy")
    memory = NOTHING if store.memory_bytes is None else f"{store.memory_bytes / 2**20:,.0f} MB"
    table.add_row("memory", memory + (f" of {store.memory_bytes_max / 2**20:,.0f}" if store.memory_bytes_max else ""))
    table.add_row("activations, restarts", f"{seen.totals['activations']:,}, {seen.totals['restarts']:,}")
    return table


def _shards(seen: "Summary", width: int, rows_max: int) -> Table:
    wide = width >= WIDE
    names = ["streams", "epoch", "in memory", "unsettled", "lag ms"]
    table = _table(
        "THE SHARDS", *names, *(["in flight ¥", "events since snapshot", "overdue s"] if wide else ["since snap"])
    )

    def row(shard: "ShardFigures") -> list[str | Text]:
        cells: list[str | Text] = [
            shard.host,
            _alarming(str(shard.streams), not shard.streams),
            f"{shard.epoch_max:,}",
            f"{shard.members:,}",
            f"{shard.unsettled:,}",
            _alarming(f"{shard.lag_ms:,}", shard.lag_ms > LAG_MS_MAX),
        ]
        since = f"{shard.unsnapshotted_events:,}"
        if not wide:
            return [*cells, _alarming(since, shard.overdue_ms > OVERDUE_MS)]
        overdue = _alarming(f"{shard.overdue_ms / 1000:,.0f}", shard.overdue_ms > OVERDUE_MS)
        return [*cells, yuan(shard.in_flight_fen), since, overdue]

    # The worst first: on a small terminal the rest does not fit.
    ordered = sorted(seen.shards, key=lambda shard: (bool(shard.streams), -shard.overdue_ms, -shard.lag_ms, shard.host))
    for shard in ordered[:rows_max]:
        table.add_row(*row(shard))
    if len(ordered) > rows_max:
        table.add_row(Text(f"… {len(ordered) - rows_max} more", style="dim"))
    return table


def _alarming(words: str, alarming: bool) -> Text:
    return Text(words, style="bold red" if alarming else "")


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"


def _quantity(spread: "Spread | None", name: str) -> str:
    value: float | None = None if spread is None else getattr(spread, name)
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
