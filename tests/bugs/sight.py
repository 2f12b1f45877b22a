"""Bugs in what the system tells about itself: a figure that lies, a secret that gets out."""

from tests.bugs import Mutant

FIGURES, METRICS, LOGS = (
    "cluster/observability/metrics_snapshot.py",
    "cluster/observability/prometheus.py",
    "cluster/observability/logs.py",
)
COUNTING, GLANCE, GATEWAY_SIGHT = (
    "actors/packet/grab_metrics.py",
    "cluster/observability/summary.py",
    "cluster/gateway/middleware/request_metrics.py",
)
FIGURES_TESTS, LOGS_TESTS, SIGHT_TESTS = (
    "tests/unit/test_figures.py",
    "tests/unit/test_logs.py",
    "tests/unit/test_sight.py",
)
TALLY_TESTS, TOP_TESTS, QUERIES_TESTS = (
    "tests/unit/test_tally.py",
    "tests/unit/test_top.py",
    "tests/unit/test_queries.py",
)

SIGHT = [
    Mutant(
        "a process that began anew is not subtracted from",
        FIGURES,
        "elif last is None or last.born_ms != read.born_ms:",
        "elif last is None:",
        (FIGURES_TESTS,),
    ),
    Mutant(
        "a new supervisor counts nothing twice",
        FIGURES,
        "read.born_ms < self._counted_before_ms:",
        "False:",
        (FIGURES_TESTS,),
    ),
    Mutant(
        "a series is there before it first grows",
        METRICS,
        "            if not known:\n",
        "            if False:\n",
        (FIGURES_TESTS,),
    ),
    Mutant(
        "an exported histogram is cumulative",
        METRICS,
        "                below += count\n",
        "                below = count\n",
        (FIGURES_TESTS,),
    ),
    Mutant(
        "a group of winners counts as many as it has",
        COUNTING,
        "+= len(command.users)",
        "+= 1",
        (TALLY_TESTS,),
    ),
    Mutant(
        "a secret deep in a field is refused",
        LOGS,
        "{str(name): REFUSED if _is_secret(name) else _clean(inner) for",
        "{str(name): _clean(inner) for",
        (LOGS_TESTS,),
    ),
    Mutant(
        "a secret within text is cut out",
        LOGS,
        "            value = pattern.sub(instead, value)\n",
        "            pass\n",
        (LOGS_TESTS,),
    ),
    Mutant(
        "a request that is over has no more lines",
        GATEWAY_SIGHT,
        '            scope["hongbao.over"] = True\n',
        "",
        (SIGHT_TESTS,),
    ),
    Mutant(
        "a query that nobody exports is found out",
        METRICS,
        '("settlement_lag_seconds", shard.lag_ms * MS)',
        '("settlement_lag_ms", shard.lag_ms)',
        (QUERIES_TESTS,),
    ),
    Mutant(
        "a book that does not sum to 0 is an alarm in top",
        "cluster/commands/top.py",
        "(seen.audit.difference_fen or seen.audit.book_sum_fen)",
        "seen.audit.difference_fen",
        (TOP_TESTS,),
    ),
]
