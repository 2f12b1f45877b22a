"""Oracle: can all the answers that clients got, and everything that is there at the end, be true at once?

Pure: history and final reads in, violations out. Bench, chaos, demo and load scenarios are judged by it. It knows the
HTTP contract and arithmetic, and nothing of how the platform works.

| violation | what it means |
|---|---|
| `lost` | acknowledged, and denied or missing later |
| `contradicted` | two answers that cannot both be true |
| `over_issued` | more shares or more money than the packet had, or one rank for two users |
| `double_grab` | two different shares of one packet for one user |
| `negative` | a balance below zero |
| `wrong_total` | money that does not add up, in a packet or in all books |
| `wallet` | a wallet or a statement that the packets do not explain |
| `unanswered` | asked again until the end of patience, and still unknown |

Real time is used in one direction only: what was answered before something else was asked came before it.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

from cluster.client import AuditAnswer, PacketAnswer, StatementRow, TakenShare, WalletAnswer
from loadtest.history import Attempt, BalanceAttempt, GrabAttempt, SendAttempt, ViewAttempt

Kind = Literal["lost", "contradicted", "over_issued", "double_grab", "negative", "wrong_total", "wallet", "unanswered"]
ENDS = frozenset({"drained", "expired"})
NEVER = 1 << 62
"""A time that does not come."""


class Violation(NamedTuple):
    """A promise that was broken, in one sentence."""

    kind: Kind
    sentence: str


class FinalState(msgspec.Struct, kw_only=True):
    """What is there once the faults are over, everything unknown was asked again and every packet has ended."""

    packets: dict[str, PacketAnswer | None]
    """As its sender reads it, by id; None: there is no such packet."""
    wallets: dict[str, WalletAnswer]
    statements: dict[str, list[StatementRow]]
    """Newest first; the oldest lines may be missing."""
    credited_fen: dict[str, int]
    """What each user was given at the start."""
    audit: AuditAnswer
    replayed_fen: dict[str, int] | None = None
    """Every user's balance as the journals alone have it; None: was not computed."""
    unanswered: list[str] = []
    ended: bool = True
    """Every packet has ended; else what nobody took may still be in it."""
    alone: bool = True
    """Nobody else has used the system, so its totals are the run's own."""


def check(attempts: Sequence[Attempt], final: FinalState) -> list[Violation]:
    """Return every violation."""
    sends = [attempt for attempt in attempts if isinstance(attempt, SendAttempt)]
    grabs_of: dict[str, list[GrabAttempt]] = defaultdict(list)
    views_of: dict[str, list[ViewAttempt]] = defaultdict(list)
    for attempt in attempts:
        if isinstance(attempt, GrabAttempt):
            grabs_of[attempt.packet_id].append(attempt)
        elif isinstance(attempt, ViewAttempt):
            views_of[attempt.packet_id].append(attempt)
    found = list(_check_sends(sends, final))
    open_since = _open_since(sends, grabs_of)
    for packet_id, grabs in grabs_of.items():
        found += _check_grabs(packet_id, grabs, open_since[packet_id])
        found += _check_order(packet_id, grabs)
    for packet_id, views in views_of.items():
        found += _check_views(packet_id, views, grabs_of.get(packet_id, []), open_since[packet_id])
        found += _check_sizes(views, final.packets.get(packet_id))
    for packet_id in grabs_of.keys() - final.packets.keys():
        found.append(Violation("lost", f"packet {packet_id} was asked for shares and no sender was told of it"))
    for packet_id, packet in final.packets.items():
        found += check_packet(packet_id, packet, grabs_of.get(packet_id, []), ended=final.ended)
    found += _check_balances(a for a in attempts if isinstance(a, BalanceAttempt))
    found += _check_wallets(final)
    found += _check_statements(final)
    found += _check_books(final)
    found += [Violation("unanswered", sentence) for sentence in final.unanswered]
    return found


def _open_since(sends: Sequence[SendAttempt], grabs_of: dict[str, list[GrabAttempt]]) -> dict[str, int]:
    """Return from when on each packet was known to exist: the first answer that says so."""
    since: dict[str, int] = defaultdict(lambda: NEVER)
    for send in sends:
        if send.outcome == "ok" and send.open:
            since[send.packet_id] = min(since[send.packet_id], send.answered_us)
    for packet_id, grabs in grabs_of.items():
        for grab in grabs:
            if grab.outcome == "ok" or grab.code in ENDS:
                since[packet_id] = min(since[packet_id], grab.answered_us)
    return since


def _check_sends(sends: Sequence[SendAttempt], final: FinalState) -> Iterator[Violation]:
    """A key means one packet, for ever; a user who has the money is not refused for lack of it."""
    by_key: dict[tuple[str, str], list[SendAttempt]] = defaultdict(list)
    key_of: dict[str, tuple[str, str]] = {}
    asked_fen: Counter[str] = Counter()
    for send in sends:
        if (send.user, send.key) not in by_key:
            asked_fen[send.user] += send.total_fen
        by_key[send.user, send.key].append(send)
    for key, tries in by_key.items():
        told = [send for send in tries if send.outcome == "ok"]
        ids = {send.packet_id for send in told}
        if len(ids) > 1:
            yield Violation("contradicted", f"the key {key} was told {len(ids)} packets: {sorted(ids)}")
        for packet_id in ids:
            if key_of.setdefault(packet_id, key) != key:
                yield Violation("contradicted", f"packet {packet_id} belongs to {key_of[packet_id]} and to {key}")
        for send in told:
            yield from _check_terms(send, final)
        first_us = min((send.answered_us for send in told), default=NEVER)
        for send in tries:
            if send.outcome == "refused" and send.asked_us > first_us:
                yield Violation("lost", f"the send {key} was acknowledged and later refused: {send.code}")
            elif send.outcome == "refused" and send.code != "insufficient_funds":
                yield Violation("contradicted", f"a lawful send of {key} was refused: {send.code}")
            elif send.outcome == "refused" and asked_fen[send.user] <= final.credited_fen.get(send.user, 0):
                yield Violation("contradicted", f"{send.user} was told {send.code} and can never have been short")


def _check_terms(send: SendAttempt, final: FinalState) -> Iterator[Violation]:
    packet_id = send.packet_id
    packet = final.packets.get(packet_id)
    if packet is None:
        yield Violation("lost", f"packet {packet_id} of {send.user} was acknowledged and is not there")
        return
    asked = send.user, send.kind, send.total_fen, send.count
    there = packet.sender, packet.kind, packet.total_fen, packet.count
    if asked != there:
        yield Violation("contradicted", f"packet {packet_id} was sent as {asked} and is {there}")


def _check_grabs(packet_id: str, grabs: Sequence[GrabAttempt], open_since_us: int) -> Iterator[Violation]:
    """A winner stays the winner, with the same share; an end is an end for everybody."""
    shares: dict[str, set[tuple[int, int]]] = defaultdict(set)
    owner: dict[int, str] = {}
    first_asked_us: dict[str, int] = {}
    ended_us, end = NEVER, ""
    for grab in grabs:
        first_asked_us[grab.user] = min(first_asked_us.get(grab.user, NEVER), grab.asked_us)
        if grab.outcome == "ok":
            shares[grab.user].add((grab.rank, grab.amount_fen))
        elif grab.code in ENDS and grab.answered_us < ended_us:
            ended_us, end = grab.answered_us, grab.code
    for user, told in shares.items():
        if len(told) > 1:
            yield Violation("double_grab", f"{user} was told {sorted(told)} of packet {packet_id}")
        for rank, _ in told:
            if owner.setdefault(rank, user) != user:
                yield Violation("over_issued", f"rank {rank} of {packet_id} was given to {owner[rank]} and {user}")
        if first_asked_us[user] > ended_us:
            yield Violation("contradicted", f"{user} won in packet {packet_id} after it was told {end}")
    told_end = ""
    for grab in grabs:
        if grab.outcome != "refused":
            continue
        if grab.code in ENDS:
            if grab.user in shares:
                yield Violation("contradicted", f"{grab.user} won in packet {packet_id} and was told {grab.code}")
            told_end = told_end or grab.code
            if grab.code != told_end:
                yield Violation("contradicted", f"packet {packet_id} was told {told_end} and {grab.code}")
        elif grab.code == "packet_not_found":
            if grab.asked_us > open_since_us:
                yield Violation("lost", f"{grab.user} was told that the open packet {packet_id} does not exist")
        else:
            yield Violation("contradicted", f"a lawful grab in packet {packet_id} was refused: {grab.code}")


def _check_order(packet_id: str, grabs: Iterable[GrabAttempt]) -> Iterator[Violation]:
    """A share that was told before another was first asked for has the smaller rank."""
    asked_us: dict[str, int] = {}
    told: dict[str, tuple[int, int]] = {}
    for grab in grabs:
        asked_us[grab.user] = min(asked_us.get(grab.user, NEVER), grab.asked_us)
        if grab.outcome == "ok":
            before = told.get(grab.user, (NEVER, 0))[0]
            told[grab.user] = min(before, grab.answered_us), grab.rank
    by_answer = sorted((answered_us, rank, user) for user, (answered_us, rank) in told.items())
    at, best, holder = 0, 0, ""
    for user in sorted(told, key=lambda user: asked_us[user]):
        while at < len(by_answer) and by_answer[at][0] < asked_us[user]:
            if by_answer[at][1] > best:
                best, holder = by_answer[at][1:]
            at += 1
        if told[user][1] < best:
            yield Violation(
                "contradicted", f"{user} asked after {holder} had rank {best} of {packet_id} and got {told[user][1]}"
            )


def _check_views(
    packet_id: str, views: Iterable[ViewAttempt], grabs: Sequence[GrabAttempt], open_since_us: int
) -> Iterator[Violation]:
    """A list shows at least what had been told before it was asked for, and nothing else than what is told."""
    told = {grab.user: (grab.rank, grab.amount_fen) for grab in grabs if grab.outcome == "ok"}
    answered_us: dict[str, int] = {}
    for grab in grabs:
        if grab.outcome == "ok":
            answered_us[grab.user] = min(answered_us.get(grab.user, NEVER), grab.answered_us)
    for view in views:
        if view.outcome != "ok":
            if view.code == "packet_not_found" and view.asked_us > open_since_us:
                yield Violation("lost", f"{view.user} was told that their open packet {packet_id} does not exist")
            continue
        if view.shares is None:
            continue
        listed = {user: (rank, amount_fen) for user, rank, amount_fen in view.shares}
        if len(listed) != len(view.shares):
            yield Violation("double_grab", f"a list of packet {packet_id} names a user twice")
        if sum(amount_fen for _, amount_fen in listed.values()) != view.grabbed_fen:
            yield Violation("wrong_total", f"a list of packet {packet_id} does not add up to {view.grabbed_fen}")
        for user, share in told.items():
            if user in listed and listed[user] != share:
                yield Violation("contradicted", f"{user} was told {share} of {packet_id}, a list says {listed[user]}")
            elif user not in listed and answered_us[user] < view.asked_us:
                yield Violation("contradicted", f"a list of {packet_id} misses {user}, who had been told {share}")


def _check_sizes(views: Iterable[ViewAttempt], packet: PacketAnswer | None) -> Iterator[Violation]:
    """A packet is shown with the size that it has, and never with more taken than that."""
    for view in views:
        if view.outcome != "ok" or not view.count or packet is None:
            continue
        if (view.total_fen, view.count) != (packet.total_fen, packet.count):
            yield Violation("contradicted", f"packet {view.packet_id} was shown with another size: {view}")
        elif view.grabbed_count > view.count or view.grabbed_fen + view.refunded_fen > view.total_fen:
            yield Violation("over_issued", f"packet {view.packet_id} was shown with more taken than it has: {view}")


def check_packet(
    packet_id: str, packet: PacketAnswer | None, grabs: Sequence[GrabAttempt], *, ended: bool = True
) -> Iterator[Violation]:
    """Yield what is wrong with a packet as its sender reads it: it pays its total, to those who were told so."""
    told = {grab.user: (grab.rank, grab.amount_fen) for grab in grabs if grab.outcome == "ok"}
    if packet is None:
        for user in told:
            yield Violation("lost", f"{user} has a share of packet {packet_id}, which is not there")
        return
    if packet.grabs is None:
        yield Violation("lost", f"the list of packet {packet_id} is not there for its sender")
        return
    listed = {share.user: (share.rank, share.amount_fen) for share in packet.grabs}
    yield from _check_list(packet, packet.grabs)
    for user, share in told.items():
        if user not in listed:
            yield Violation("lost", f"{user} was told {share} of packet {packet_id} and is not in its list")
        elif listed[user] != share:
            yield Violation("contradicted", f"{user} was told {share} of {packet_id}, its list says {listed[user]}")
    answers: dict[str, set[str]] = defaultdict(set)
    for grab in grabs:
        answers[grab.user].add(grab.outcome)
    for user in listed.keys() - told.keys():
        if "unknown" not in answers[user]:
            had = "was refused every time" if answers[user] else "never asked"
            yield Violation("contradicted", f"packet {packet_id} lists {user}, who {had}")
    yield from _check_end(packet, packet.grabs, {grab.code for grab in grabs if grab.code in ENDS}, ended=ended)


def check_payout(packet_id: str, total_fen: int, count: int, shares: Sequence[TakenShare]) -> list[Violation]:
    """Return what is wrong with the shares of a drained packet, as its takers were told them."""
    packet = PacketAnswer(packet_id, "lucky", "drained", total_fen, count, "", 0, NEVER, "")
    packet = msgspec.structs.replace(packet, grabbed_count=count, grabbed_fen=total_fen)
    return [*_check_list(packet, shares), *_check_end(packet, shares, set(), ended=True)]


def _check_list(packet: PacketAnswer, grabs: Sequence[TakenShare]) -> Iterator[Violation]:
    """A list has every rank once, every user once, and no more than the packet has."""
    name, paid_fen = f"packet {packet.packet_id}", sum(share.amount_fen for share in grabs)
    if len({share.user for share in grabs}) != len(grabs):
        yield Violation("double_grab", f"{name} lists a user twice")
    if {share.rank for share in grabs} != set(range(1, len({share.user for share in grabs}) + 1)):
        yield Violation("over_issued", f"the ranks of {name} are not 1 to {len(grabs)}")
    if len(grabs) > packet.count or paid_fen > packet.total_fen:
        yield Violation("over_issued", f"{name} of {packet.count} gave {len(grabs)}, {paid_fen} fen")
    if any(share.at_ms >= packet.expires_at_ms for share in grabs):
        yield Violation("contradicted", f"{name} gave a share after its expiry")
    if any(share.amount_fen < 1 for share in grabs):
        yield Violation("wrong_total", f"{name} paid a share of nothing")
    if packet.kind == "equal" and any(share.amount_fen * packet.count != packet.total_fen for share in grabs):
        yield Violation("wrong_total", f"{name} is equal and paid unequal shares")


def _check_end(
    packet: PacketAnswer, grabs: Sequence[TakenShare], ends: set[str], *, ended: bool
) -> Iterator[Violation]:
    name, paid_fen = f"packet {packet.packet_id}", sum(share.amount_fen for share in grabs)
    lawful = {"drained"} if len(grabs) == packet.count else {"expired"} if ended else {"expired", "open"}
    if packet.state not in lawful:
        yield Violation("contradicted", f"{name} is {packet.state}, {len(grabs)} of {packet.count} are taken")
    for end in ends - {packet.state}:
        yield Violation("contradicted", f"{name} was told {end} and is {packet.state}")
    back_fen = 0 if packet.state == "open" else packet.total_fen - paid_fen
    if (packet.grabbed_count, packet.grabbed_fen, packet.refunded_fen) != (len(grabs), paid_fen, back_fen):
        sums = f"{packet.grabbed_count} grabs, {packet.grabbed_fen} grabbed, {packet.refunded_fen} refunded"
        yield Violation("wrong_total", f"{name} of {packet.total_fen} fen: {paid_fen} in its list, {sums}")


def _check_balances(balances: Iterable[BalanceAttempt]) -> Iterator[Violation]:
    for balance in balances:
        if balance.outcome == "ok" and (balance.available_fen < 0 or balance.held_fen < 0):
            yield Violation("negative", f"{balance.user} was shown {balance.available_fen} fen")


def _check_wallets(final: FinalState) -> Iterator[Violation]:
    """A wallet holds what its owner was given, less what they sent, plus what came back and what they took."""
    expected: Counter[str] = Counter(final.credited_fen)
    for packet in final.packets.values():
        if packet is not None:
            expected[packet.sender] -= packet.total_fen - packet.refunded_fen
            for share in packet.grabs or []:
                expected[share.user] += share.amount_fen
    for user, wallet in final.wallets.items():
        if wallet.available_fen < 0 or wallet.held_fen < 0:
            yield Violation("negative", f"{user} has {wallet.available_fen} fen")
        if wallet.available_fen + wallet.held_fen != expected[user]:
            yield Violation("wallet", f"{user} has {wallet.available_fen}, the packets say {expected[user]} fen")
        if final.replayed_fen is not None and final.replayed_fen.get(user, 0) != wallet.available_fen:
            replayed_fen = final.replayed_fen.get(user, 0)
            yield Violation("wallet", f"{user} has {wallet.available_fen}, the journals say {replayed_fen} fen")
    for user in expected.keys() - final.wallets.keys():
        yield Violation("lost", f"the wallet of {user} cannot be read")


def _check_statements(final: FinalState) -> Iterator[Violation]:
    """Each line follows from the one below it, none is there twice, and the newest is the balance."""
    for user, lines in final.statements.items():
        wallet = final.wallets.get(user)
        if lines and wallet is not None and lines[0].balance_fen != wallet.available_fen:
            yield Violation(
                "wallet", f"{user} has {wallet.available_fen}, their statement says {lines[0].balance_fen} fen"
            )
        if any(line.balance_fen < 0 for line in lines):
            yield Violation("negative", f"the statement of {user} goes below zero")
        for line, older in itertools.pairwise(lines):
            if line.balance_fen - line.amount_fen != older.balance_fen:
                yield Violation("wallet", f"the statement of {user} breaks at {line.kind} {line.reference}")
        for (kind, reference), times in Counter((line.kind, line.reference) for line in lines).items():
            if times > 1:
                yield Violation("wallet", f"{user} has {kind} {reference} {times} times in their statement")


def _check_books(final: FinalState) -> Iterator[Violation]:
    """No fen is between two books; and all that was ever funded is known to somebody, where nobody else is."""
    audit = final.audit
    packets = [packet for packet in final.packets.values() if packet is not None]
    left_fen = sum(packet.total_fen - packet.grabbed_fen for packet in packets if packet.state == "open")
    sums = [
        ("differs by", audit.difference_fen, 0),
        ("has in flight", audit.in_flight_fen, 0),
        ("has funded", audit.funded_fen, audit.paid_fen + audit.refunded_fen + audit.remaining_fen),
    ]
    if final.alone:
        sums += [
            ("has remaining", audit.remaining_fen, left_fen),
            ("has funded", audit.funded_fen, sum(packet.total_fen for packet in packets)),
            ("has paid", audit.paid_fen, sum(packet.grabbed_fen for packet in packets)),
            ("has refunded", audit.refunded_fen, sum(packet.refunded_fen for packet in packets)),
        ]
    for what, there, wanted in sums:
        if there != wanted:
            yield Violation("wrong_total", f"the audit {what} {there} fen, the packets say {wanted}")
    if not audit.clean:
        yield Violation("wrong_total", "the audit says that a book does not sum to 0, or that two books differ")
