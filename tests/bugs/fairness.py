"""Bugs of fairness: of the shares' statistics, and of what measures the order of grabs."""

from tests.bugs import Mutant

SPLIT, DRAW = "actors/packet/split.py", "actors/packet/fairness.py"
REPORT, STATISTIC, RUN = (f"loadtest/fairness/{name}.py" for name in ("report", "statistic", "run"))
SHARES, MEASURED = "tests/unit/test_share_statistics.py", "tests/unit/test_fairness.py"
FAIRNESS = [
    Mutant(
        "shares by rejection, not by modulo alone", DRAW, "limit = _WORDS - _WORDS % n", "limit = _WORDS", (SHARES,)
    ),
    Mutant(
        "shares from the whole width around the centre",
        SPLIT,
        "draw.below(2 * half + 1)",
        "draw.below(2 * half or 1)",
        (SHARES,),
    ),
    Mutant(
        "shares whose half-width leaves the later ones below their cap",
        SPLIT,
        "hi * (left - 1) - (rest - centre)",
        "hi * (left - 1) - (rest - centre) + 1",
        (SHARES,),
    ),
    Mutant(
        "shares whose half-width leaves the later ones above their floor",
        SPLIT,
        "(rest - centre) - lo * (left - 1))",
        "(rest - centre) - lo * (left - 1) + 1)",
        (SHARES,),
    ),
    Mutant(
        "shares whose centre is rounded as often up as it must be",
        SPLIT,
        "draw.below(left) < over",
        "draw.below(left) <= over",
        (SHARES,),
    ),
    Mutant("shares that are shuffled", SPLIT, "        _shuffle(draw, shares)\n", "        pass\n", (SHARES,)),
    Mutant(
        "shares whose shuffle may leave one in its place",
        SPLIT,
        "other = draw.below(last + 1)",
        "other = draw.below(last)",
        (SHARES,),
    ),
    Mutant(
        "shares whose shuffle draws from those not yet placed",
        SPLIT,
        "other = draw.below(last + 1)",
        "other = draw.below(len(shares))",
        (SHARES,),
    ),
    Mutant(
        "the tail of chi-square at odd degrees of freedom",
        STATISTIC,
        "math.erfc(math.sqrt(x))",
        "math.erfc(x)",
        (MEASURED,),
    ),
    Mutant(
        "fairness takes a round as one draw",
        REPORT,
        "chi_square_p(max(by_round, default=0.0), 1)",
        "chi_square_p(single, len(names) - 1)",
        (MEASURED,),
    ),
    Mutant(
        "fairness gives a replica the wins due to its requests",
        REPORT,
        "fair = count * won.total() / asked.total()",
        "fair = won.total() / len(asked)",
        (MEASURED,),
    ),
    Mutant(
        "fairness ranks who won nothing after all who won",
        REPORT,
        "told.rank or found.shares + 1",
        "told.rank",
        (MEASURED,),
    ),
    Mutant(
        "fairness holds a repeat against the first answer",
        REPORT,
        "if not told.place == first == listed.get(user, (0, 0)) or",
        "if not told.place == listed.get(user, (0, 0)) or",
        (MEASURED,),
    ),
    Mutant(
        "fairness sees a repeat that took a fresh share",
        REPORT,
        " or told.replayed != bool(first[0])",
        "",
        (MEASURED,),
    ),
    Mutant(
        "fairness is a matter of promises too",
        REPORT,
        "fair=chances.p > P_MIN and not broken",
        "fair=chances.p > P_MIN",
        (MEASURED,),
    ),
    Mutant(
        "fairness spreads the start if asked",
        RUN,
        'loss_of.get(client.user, ""), place * step_s)',
        'loss_of.get(client.user, ""))',
        (MEASURED,),
    ),
    Mutant(
        "fairness shuffles the start from its seed",
        RUN,
        "order = self._random.sample(self._clients, len(self._clients))",
        "order = list(self._clients)",
        (MEASURED,),
    ),
    Mutant(
        "every answer names its replica",
        "cluster/gateway/middleware/request_metrics.py",
        '                message["headers"] = [*message["headers"], self._served_by]\n',
        "",
        (MEASURED,),
    ),
]
