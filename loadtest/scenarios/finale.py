"""Finale: after the load, holds everything that clients were told against the platform's own state. Over HTTP only.

In order: sends whose outcome is unknown are asked again with their key; settlement drains; every packet is read by its
sender; every wallet by its owner; the audit. A packet that is still open is judged as if it ended now: what nobody took
has left its sender's wallet and is still in it. Money in fen.
"""

import asyncio
import time
from typing import NamedTuple

import msgspec

from cluster.client import (
    BROKEN_CONTRACT,
    RETRYABLE_ITEM_CODES,
    ApiProblem,
    AuditAnswer,
    Client,
    PacketAnswer,
    PacketOrder,
)
from loadtest.gather import gather
from loadtest.record import PacketRecord
from loadtest.result import Check
from loadtest.scenarios.load_profile import Profile
from loadtest.scenarios.orders import Orders, user_name
from loadtest.scenarios.schedule import SEND, arrivals
from loadtest.scenarios.tally import BY_DESIGN, FAILED, Pace, Tally

BALANCE_FEN = 1_000_000_000
AT_ONCE = 32
DRAIN_S = 60.0
POLL_S = 0.2
EXPECTED = frozenset({"drained"}) | RETRYABLE_ITEM_CODES | BY_DESIGN
"""What the load gives reason for."""

FAILED_SHARE_MAX = 0.01
PATIENT_MS = 1_000
"""That a client who waits less long gives up is no failure of the platform."""


class AuditSilent(Exception):
    """The audit does not answer, so nothing can be said about the run."""


class Verdict(NamedTuple):
    """A run as it proved to be."""

    checks: list[Check]
    pace: Pace
    audit: AuditAnswer
    settled_s: float

    @property
    def clean(self) -> bool:
        """Whether everything that must hold holds."""
        return all(check.holds for check in self.checks)


class Finale:
    """The end of one run."""

    def __init__(self, operator: Client, orders: Orders, tally: Tally, *, fresh: bool) -> None:
        """`fresh`: nobody else has used the system, so its totals are this run's own."""
        self._operator = operator
        self._orders = orders
        self._tally = tally
        self._fresh = fresh
        self._rest_fen: dict[str, int] = {}
        self._people = {
            user_name(orders.run, person): operator.acting(token) for person, token in enumerate(orders.user_tokens)
        }
        self._unknown_left = 0
        self._wallets_wrong = 0
        self._settled_s = 0.0

    async def run(self, *, allow_behind: bool) -> Verdict:
        """Ask, read and judge everything. Raises AuditSilent."""
        await self._ask_sends_again()
        await self._drain()
        await gather(self._compare_packet, list(self._tally.record.packets.values()), AT_ONCE)
        await self._compare_wallets()
        audit = await self._audit()
        profile = self._orders.profile
        pace = self._tally.pace(arrivals(profile), profile.late_ms_max)
        checks = self._checks(profile, audit)
        checks += [Check(words, allow_behind or holds) for words, holds in [paced(profile, pace)]]
        return Verdict(checks, pace, audit, self._settled_s)

    async def _ask_sends_again(self) -> None:
        """A send whose answer never came is repeated with its own key: it is told now, or proves never to have been."""
        unsure = self._tally.unsure_sends
        again = [one for one in arrivals(self._orders.profile) if one.route == SEND and one.packet in unsure]
        for arrival in again:
            assert arrival.parcel is not None, "a send has something to send"
            kind, total_fen, shares = arrival.parcel
            sender = self._people[user_name(self._orders.run, arrival.people[0])]
            sent = await sender.send(PacketOrder(kind, total_fen, shares), key=self._orders.key_of(arrival.packet))
            if isinstance(sent, PacketAnswer):
                self._tally.record.told_packet(sent)
            else:
                self._unknown_left += sent.unknown

    async def _drain(self) -> None:
        """Wait until nothing is between two books; if that does not come, go on: the checks will tell."""
        began_s = time.monotonic()
        report = await self._audit()
        while report.in_flight_fen and time.monotonic() < began_s + DRAIN_S:
            await asyncio.sleep(POLL_S)
            report = await self._audit()
        self._settled_s = time.monotonic() - began_s

    async def _compare_packet(self, packet: PacketRecord) -> None:
        seen = await self._people[packet.sender].packet(packet.packet_id)
        if isinstance(seen, ApiProblem):
            self._tally.record.contradict(f"packet {packet.packet_id} cannot be read: {seen.status} {seen.code}")
            return
        if seen.state == "open" and not seen.refunded_fen:
            rest_fen = seen.total_fen - seen.grabbed_fen
            self._rest_fen[packet.sender] = self._rest_fen.get(packet.sender, 0) + rest_fen
            seen = msgspec.structs.replace(seen, state="expired", refunded_fen=rest_fen)
        self._tally.record.compare(packet, seen)

    async def _compare_wallets(self) -> None:
        changes = self._tally.record.wallet_changes()

        async def compare(user: str) -> None:
            wallet = await self._people[user].wallet()
            expected_fen = BALANCE_FEN + changes.get(user, 0) - self._rest_fen.get(user, 0)
            if isinstance(wallet, ApiProblem) or (wallet.available_fen, wallet.held_fen) != (expected_fen, 0):
                self._wallets_wrong += 1
                self._tally.record.contradict(f"the wallet of {user}: {wallet}; the answers add up to {expected_fen}")

        await gather(compare, list(self._people), AT_ONCE)

    async def _audit(self) -> AuditAnswer:
        report = await self._operator.audit()
        if isinstance(report, ApiProblem):
            raise AuditSilent(f"the audit does not answer: {report.status} {report.code}")
        return report

    def _checks(self, profile: Profile, audit: AuditAnswer) -> list[Check]:
        tally, record = self._tally, self._tally.record
        paid_out_fen = audit.paid_fen + audit.refunded_fen + audit.remaining_fen
        failed = sum(row.requests for row in tally.rows() if row.outcome == FAILED)
        broken = sum(number for words, number in tally.failures.items() if words.endswith(BROKEN_CONTRACT))
        checks = [
            Check("audit: every book sums to 0, every pair agrees", audit.clean and not audit.difference_fen),
            Check("audit: funded = paid + refunded + remaining", audit.funded_fen == paid_out_fen),
            Check("audit: nothing in flight any more", audit.in_flight_fen == 0),
            Check("nobody was told two different shares of a packet", record.double_grabs == 0),
            Check("no packet gave more than it has", record.over_issued == 0),
            Check(f"all {len(self._people):,} wallets hold what their owners were told", self._wallets_wrong == 0),
            Check("no two answers contradict each other, none was told 'drained' early", not record.contradictions),
            Check("every answer was what the contract promises", broken == 0),
            Check("nobody was refused but by drained packets, and for now", not set(tally.codes) - EXPECTED),
            Check("no send of unknown outcome is left", self._unknown_left == 0),
            Check("people did get shares", record.wins > 0),
        ]
        if profile.clients.timeout_ms < PATIENT_MS:
            failed -= tally.gave_up
        checks.append(
            Check("requests without an answer or with 5xx: below 1 %", failed <= FAILED_SHARE_MAX * tally.requests)
        )
        if self._fresh:
            packets = record.packets.values()
            won_fen = sum(win.amount_fen for one in packets for win in one.wins.values())
            told_fen = (sum(one.total_fen for one in packets), won_fen)
            checks.append(
                Check(
                    "the platform's totals are the sums of what its users were told",
                    told_fen == (audit.funded_fen, audit.paid_fen),
                )
            )
        return checks


def paced(profile: Profile, pace: Pace) -> Check:
    """Judge whether the asked rate was achieved."""
    words = (
        f"the asked rate was achieved: {100 * pace.on_time_share:.1f} % of {pace.scheduled:,} requests began within "
        f"{profile.late_ms_max} ms of their instant"
    )
    return Check(words, pace.on_time_share >= profile.on_time_share_min)
