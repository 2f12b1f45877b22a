"""Report: what the rounds say: chances by replica, order, waits, repeats, and promises that were broken. Pure.

A replica's grabs reach a shard in batches, so that its clients win or lose together: the grabs of a round are not
independent, the rounds are. `p` therefore takes a round as one draw: of a replica's wins beyond what is due to it in
each round (its part of the requests times the shares), the squared sum over the sum of squares is chi-square with one
degree of freedom if nobody is favoured. `p_single` is the textbook's, as if every grab drew alone: it is small
wherever requests come in batches. Durations in ms.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import msgspec

from loadtest.fairness.client import CUT, UNREAD, DefiniteAnswer, Fired
from loadtest.fairness.run import FairnessOptions, Round
from loadtest.fairness.statistic import chi_square, chi_square_p, jain, percentile

P_MIN = 0.001
SENTENCES_MAX = 20


class ReplicaWins(msgspec.Struct, frozen=True):
    """What one gateway replica answered first. `due`: the wins that equal chances give its requests."""

    replica: str
    requests: int
    wins: int
    due: float
    wait_ms_p50: float


class Chances(msgspec.Struct, frozen=True):
    """Wins against equal chances. `one_replica_part`: of a packet's shares, on the average, to whom most went."""

    replicas: list[ReplicaWins]
    p: float
    p_single: float
    jain: float
    one_replica_part: float


class RankOrder(msgspec.Struct, frozen=True):
    """Pairs of clients of whom one at least won; inverted: who sent earlier got the later rank, or none.

    0.5 is random order. `within_part` is of pairs answered by the same replica.
    """

    pairs: int
    inverted: int
    inverted_part: float
    within_part: float
    gap_ms_p50: float
    gap_ms_p99: float
    gap_ms_max: float
    span_ms_p50: float
    """From the first to the last request of a round."""


class Waits(msgspec.Struct, frozen=True):
    """From a request to its answer."""

    p50_ms: float
    p99_ms: float
    worst_ms: float
    worst_over_median: float


class Repeats(msgspec.Struct, frozen=True):
    """Requests whose answer was lost, and then repeated. `kept`: won before the repeat, and told the same by it."""

    cut: int
    cut_won: int
    unread: int
    unread_won: int
    kept: int
    lost_place: int


class FairnessReport(msgspec.Struct, frozen=True):
    """The result as `--json` prints it."""

    seed: int
    spread_ms: int
    users: int
    packets: int
    grabs: int
    refused_for_now: int
    chances: Chances
    order: RankOrder
    waits: Waits
    repeats: Repeats
    double_grabs: int
    rank_faults: int
    contradictions: int
    sentences: list[str]
    fair: bool


def report_of(rounds: Sequence[Round], options: FairnessOptions) -> FairnessReport:
    """Judge the rounds."""
    broken: Counter[str] = Counter()
    sentences: list[str] = []

    def fault(kind: str, sentence: str) -> None:
        broken[kind] += 1
        if len(sentences) < SENTENCES_MAX:
            sentences.append(sentence)

    kept = 0
    for number, found in enumerate(rounds, 1):
        for kind, words in faults_of(found):
            fault(kind, f"round {number}: {words}")
        listed = _places(found)
        kept += sum(user in listed and listed[user] == told.place for user, told in found.repeated.items())
    chances = chances_of(rounds)
    return FairnessReport(
        seed=options.seed,
        spread_ms=options.spread_ms,
        users=options.users,
        packets=len(rounds),
        grabs=sum(len(found.fired) for found in rounds),
        refused_for_now=sum(shot.tries - 1 for found in rounds for shot in found.fired),
        chances=chances,
        order=order_of(rounds),
        waits=waits_of(rounds),
        repeats=_repeats(rounds, kept, broken["lost_place"]),
        double_grabs=broken["double_grab"],
        rank_faults=broken["rank"],
        contradictions=broken["contradiction"],
        sentences=sentences,
        fair=chances.p > P_MIN and not broken,
    )


def faults_of(found: Round) -> list[tuple[str, str]]:
    """Return the promises that a round broke, each as (kind, sentence)."""
    faults = []
    takers = Counter(share.user for share in found.after)
    faults += [("double_grab", f"{user} grabbed {times} times") for user, times in takers.items() if times > 1]
    ranks = sorted(share.rank for share in found.after)
    if ranks != list(range(1, found.shares + 1)):
        faults.append(("rank", f"the ranks of a packet of {found.shares} shares are {ranks}"))
    paid_fen = sum(share.amount_fen for share in found.after)
    if paid_fen != found.total_fen:
        faults.append(("contradiction", f"a packet of {found.total_fen} fen paid {paid_fen}"))
    listed = _places(found)
    told_before = {shot.user: shot.told for shot in found.fired if shot.told is not None}
    for user, told in told_before.items():
        if told.place != listed.get(user, (0, 0)):
            faults.append(("contradiction", f"{user} was told {_words(told)} and is listed with {listed.get(user)}"))
    before = {share.user: (share.rank, share.amount_fen) for share in found.before}
    for user, told in found.repeated.items():
        first = told_before[user].place if user in told_before else before.get(user, (0, 0))
        # No repeat may win either: the packet is drained, so the user would have lost their place and taken another.
        if not told.place == first == listed.get(user, (0, 0)) or told.replayed != bool(first[0]):
            faults.append(("lost_place", f"{user} had (rank, fen) {first}, and their repeat was told {_words(told)}"))
    return faults


def _places(found: Round) -> dict[str, tuple[int, int]]:
    return {share.user: (share.rank, share.amount_fen) for share in found.after}


def _words(told: DefiniteAnswer) -> str:
    return f"{told.place}, replayed={told.replayed}" if told.rank else f"`{told.code}`"


def _answered(found: Round) -> list[tuple[Fired, DefiniteAnswer]]:
    """Return the shots that were answered at once, with the answers."""
    return [(shot, shot.told) for shot in found.fired if shot.told is not None]


def chances_of(rounds: Sequence[Round]) -> Chances:
    """Compare wins by replica with equal chances for every request."""
    requests: Counter[str] = Counter()
    wins: Counter[str] = Counter()
    due: Counter[str] = Counter()  # of floats
    squares: Counter[str] = Counter()
    waits: dict[str, list[float]] = {}
    parts = []
    for found in rounds:
        answered = _answered(found)
        asked = Counter(told.served_by for _, told in answered)
        won = Counter(told.served_by for _, told in answered if told.rank)
        for shot, told in answered:
            waits.setdefault(told.served_by, []).append(_wait_ms(shot))
        for replica, count in asked.items():
            fair = count * won.total() / asked.total()
            requests[replica] += count
            wins[replica] += won[replica]
            due[replica] += fair  # type: ignore[assignment]
            squares[replica] += (won[replica] - fair) ** 2  # type: ignore[assignment]
        parts.append(max(won.values(), default=0) / max(won.total(), 1))
    names = sorted(requests)
    lost = [requests[name] - wins[name] for name in names]
    lost_due = [requests[name] - due[name] for name in names]
    single = chi_square([wins[name] for name in names], [due[name] for name in names]) + chi_square(lost, lost_due)
    by_round = [(wins[name] - due[name]) ** 2 / squares[name] for name in names if squares[name]]
    tests = 1 if len(names) == 2 else len(names)  # of two, what one has too much the other has too little
    replicas = [
        ReplicaWins(name, requests[name], wins[name], due[name], percentile(sorted(waits[name]), 0.5)) for name in names
    ]
    return Chances(
        replicas,
        p=min(1.0, tests * chi_square_p(max(by_round, default=0.0), 1)),
        p_single=chi_square_p(single, len(names) - 1),
        jain=jain([wins[name] / requests[name] for name in names]),
        one_replica_part=sum(parts) / max(len(parts), 1),
    )


def order_of(rounds: Sequence[Round]) -> RankOrder:
    """Count the pairs whose ranks are not in the order of their requests. Losers come after all ranks."""
    gaps_ms = array("d")
    spans_ms = []
    pairs = within = within_inverted = 0
    for found in rounds:
        shots = sorted((shot.sent_s, told.rank or found.shares + 1, told.served_by) for shot, told in _answered(found))
        spans_ms.append(1_000 * (shots[-1][0] - shots[0][0]))
        for (sent_s, rank, replica), (later_s, later_rank, later_replica) in combinations(shots, 2):
            if rank == later_rank:
                continue  # neither won
            pairs += 1
            within += replica == later_replica
            if later_rank < rank:
                gaps_ms.append(1_000 * (later_s - sent_s))
                within_inverted += replica == later_replica
    ordered = sorted(gaps_ms)
    return RankOrder(
        pairs,
        len(ordered),
        inverted_part=len(ordered) / max(pairs, 1),
        within_part=within_inverted / max(within, 1),
        gap_ms_p50=percentile(ordered, 0.5),
        gap_ms_p99=percentile(ordered, 0.99),
        gap_ms_max=percentile(ordered, 1.0),
        span_ms_p50=percentile(sorted(spans_ms), 0.5),
    )


def waits_of(rounds: Sequence[Round]) -> Waits:
    """Compare the worst wait with the median."""
    waits = sorted(_wait_ms(shot) for found in rounds for shot, _ in _answered(found))
    median_ms, worst_ms = percentile(waits, 0.5), percentile(waits, 1.0)
    return Waits(median_ms, percentile(waits, 0.99), worst_ms, worst_ms / median_ms if median_ms else 1.0)


def _wait_ms(shot: Fired) -> float:
    return 1_000 * (shot.answered_s - shot.sent_s)


def _repeats(rounds: Sequence[Round], kept: int, lost_place: int) -> Repeats:
    asked: Counter[str] = Counter()
    won: Counter[str] = Counter()
    for found in rounds:
        listed = _places(found)
        for shot in found.fired:
            if shot.loss:
                asked[shot.loss] += 1
                won[shot.loss] += shot.user in listed
    return Repeats(asked[CUT], won[CUT], asked[UNREAD], won[UNREAD], kept, lost_place)
