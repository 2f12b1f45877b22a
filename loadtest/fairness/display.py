"""Display: prints a fairness report as tables and a verdict. Decides nothing."""

from rich.console import Console
from rich.table import Table

from loadtest.display import judged
from loadtest.fairness.report import P_MIN, FairnessReport


def show(report: FairnessReport, console: Console) -> None:
    """Print a report."""
    chances = report.chances
    table = Table(title=f"{report.packets} packets of {report.users // 2} shares, {report.users} equal clients each")
    for name in ("replica", "requests", "wins", "due", "median wait, ms"):
        table.add_column(name, justify="left" if name == "replica" else "right")
    for one in chances.replicas:
        figures = (f"{one.requests:,}", f"{one.wins:,}", f"{one.due:,.1f}", f"{one.wait_ms_p50:,.1f}")
        table.add_row(one.replica, *figures)
    console.print(table)
    facts = Table(show_header=False)
    for name, words in _facts(report):
        facts.add_row(name, words)
    console.print(facts)
    for sentence, holds in (
        (f"no replica is favoured (p = {chances.p:.3g}, to be above {P_MIN:g})", chances.p > P_MIN),
        ("nobody grabbed twice", not report.double_grabs),
        ("every rank of a packet is there once", not report.rank_faults),
        ("a repeat after a lost answer keeps rank and share", not report.repeats.lost_place),
        ("what was told is what the packets list", not report.contradictions),
    ):
        console.print(judged(holds, sentence))
    for sentence in report.sentences:
        console.print(f"  {sentence}", style="red", highlight=False)
    console.print("Fair." if report.fair else "NOT FAIR", style="green" if report.fair else "red")


def _facts(report: FairnessReport) -> list[tuple[str, str]]:
    chances, order, waits, repeats = report.chances, report.order, report.waits, report.repeats
    return [
        ("seed", str(report.seed)),
        ("Jain's index of the replicas' chances", f"{chances.jain:.4f}"),
        ("p, a round being one draw", f"{chances.p:.3g}"),
        ("p, as if every grab drew alone", f"{chances.p_single:.3g}  (small wherever grabs come in batches)"),
        ("of a packet, to the replica that got most", f"{chances.one_replica_part:.0%} of the shares on the average"),
        ("a round's requests were sent within", f"{order.span_ms_p50:.1f} ms (median)"),
        (
            "pairs in the wrong order",
            f"{order.inverted:,} of {order.pairs:,} = {order.inverted_part:.1%} (no order at all: 50 %)",
        ),
        ("  of those answered by one replica", f"{order.within_part:.1%}"),
        (
            "  sent earlier, ranked later, by",
            f"{order.gap_ms_p50:.1f} ms median, {order.gap_ms_p99:.1f} ms p99, {order.gap_ms_max:.1f} ms at most",
        ),
        ("wait", f"{waits.p50_ms:.1f} ms median, {waits.p99_ms:.1f} ms p99, {waits.worst_ms:.1f} ms worst"),
        ("worst wait over median", f"{waits.worst_over_median:.2f}"),
        ("connections cut after sending", f"{repeats.cut:,}, of which {repeats.cut_won:,} had won"),
        ("answers thrown away", f"{repeats.unread:,}, of which {repeats.unread_won:,} had won"),
        ("repeats told the same share", f"{repeats.kept:,}; another or none: {repeats.lost_place:,}"),
        ("tries refused for now", f"{report.refused_for_now:,}"),
    ]
