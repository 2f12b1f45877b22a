"""Summary: shows a load run on one screen, and as JSON. Decides nothing."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.display import counts, judged, show_violations
from loadtest.population import ATTEMPTS_PER_OPEN, OPENS_PER_SEND
from loadtest.result import SENTENCES_MAX
from loadtest.scenarios.load_profile import Profile
from loadtest.scenarios.tally import LoadTally
from loadtest.scenarios.verdict import Verdict


def as_json(name: str, profile: Profile, tally: LoadTally, verdict: Verdict, folder: Path) -> dict[str, Any]:
    """Return the run as one object."""
    pace = verdict.pace
    return {
        "scenario": name,
        "seed": profile.seed,
        "clean": verdict.clean,
        "scheduled": pace.scheduled,
        "asked_per_second": round(pace.asked_per_second, 1),
        "achieved_per_second": round(pace.achieved_per_second, 1),
        "peak_scheduled": pace.peak,
        "peak_asked": pace.peak_asked,
        "on_time_share": round(pace.on_time_share, 4),
        "late": pace.late,
        "late_for_a_connection": pace.waiting,
        "without_packet": pace.without_packet,
        "never": pace.never,
        "late_ms_p99": round(pace.late_ms_p99, 1),
        "requests": tally.requests,
        "repeats": tally.repeats,
        "sent": len(tally.opened),
        "opened": verdict.wins,
        "attempts": tally.taps,
        "refusals": dict(sorted(tally.codes.items())),
        "failures": dict(sorted(tally.failures.items())),
        "routes": [row._asdict() for row in tally.rows()],
        "ended_s": round(verdict.ended_s, 2),
        "violations": [violation._asdict() for violation in verdict.violations[:SENTENCES_MAX]],
        "checks": [check._asdict() for check in verdict.checks],
        "folder": str(folder),
    }


def show(name: str, profile: Profile, tally: LoadTally, verdict: Verdict, folder: Path, console: Console) -> None:
    """Print the run and its verdict."""
    console.print(_facts(profile, tally, verdict))
    console.print(_latencies(tally))
    for check in verdict.checks:
        console.print(judged(check.holds, check.sentence))
    show_violations(verdict.violations, console)
    if verdict.pace.on_time_share < profile.on_time_share_min:
        console.print(_behind(verdict), style="yellow", highlight=False)
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    if not verdict.clean:
        console.print(f"{name}: NOT CLEAN", style="red", highlight=False)
    elif verdict.pace.on_time_share < profile.on_time_share_min:
        behind = ("behind the asked rate, as --allow-behind permits.", "yellow")
        console.print(Text.assemble((f"{name}: clean, ", "green"), behind))
    else:
        console.print(f"{name}: clean, and at the asked rate.", style="green", highlight=False)


def _facts(profile: Profile, tally: LoadTally, verdict: Verdict) -> Table:
    pace, sent, wins = verdict.pace, len(tally.opened), verdict.wins
    table = Table(title=profile.title, show_header=False)
    rows = [
        ("asked, open loop", f"{pace.scheduled:,} requests in {pace.lasted_s:.0f} s: {pace.asked_per_second:,.0f}/s"),
        ("achieved at their instant", f"{pace.achieved_per_second:,.0f}/s  ({100 * pace.on_time_share:.1f} %)"),
        ("  in the busiest second", f"{pace.peak:,} asked for, {pace.peak_asked:,} begun"),
        ("  late / no packet / never", f"{pace.late:,} / {pace.without_packet:,} / {pace.never:,}"),
        ("  lateness p99", f"{pace.late_ms_p99:,.1f} ms"),
        ("requests, repeats among them", f"{tally.requests:,}, {tally.repeats:,}"),
        ("packets sent", f"{sent:,}"),
        ("shares opened", f"{wins:,}  ({wins / max(sent, 1):.2f} a packet; that minute: {OPENS_PER_SEND})"),
        (
            "grabs tried",
            f"{tally.taps:,}  ({tally.taps / max(wins, 1):.2f} a share; then: {ATTEMPTS_PER_OPEN})",
        ),
        ("refused", counts(tally.codes)),
        ("failures", counts(tally.failures)),
        ("settled and read after", f"{verdict.ended_s:.2f} s"),
        ("seed, people, connections", f"{profile.seed}, {profile.users:,}, {profile.connections:,}"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    return table


def _latencies(tally: LoadTally) -> Table:
    table = Table(title="Latency in ms, from the instant at which it was to be asked")
    table.add_column("route")
    for column in ("requests", "p50", "p95", "p99", "max"):
        table.add_column(column, justify="right")
    for row in tally.rows():
        name = row.route if row.outcome == "answered" else f"{row.route}, {row.outcome}"
        values = (row.p50_ms, row.p95_ms, row.p99_ms, row.max_ms)
        table.add_row(name, f"{row.requests:,}", *(f"{value:,.1f}" for value in values))
    return table


def _behind(verdict: Verdict) -> str:
    pace = verdict.pace
    return (
        f"BEHIND: asked {pace.asked_per_second:,.0f}/s, achieved {pace.achieved_per_second:,.0f}/s. {pace.late:,} "
        f"requests began late ({pace.waiting:,} because all connections were waiting for answers), "
        f"{pace.without_packet:,} had no packet to open, {pace.never:,} were never asked. "
        "The latencies are those of less load than asked for; try --workers 2, more --connections, or a smaller --rate."
    )
