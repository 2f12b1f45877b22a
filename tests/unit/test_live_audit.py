"""Live audit: every pair of books that one of the two names is compared, and planted faults are found."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.kernel.names import User
from actors.kinds import KINDS
from actors.ledger.holds import Hold, PostHold, VoidHold
from actors.ledger.transfer import Settled
from actors.transfers.payout import PayoutRun
from actors.wallet.events import RunsReceived, SandboxCredited
from actors.wallet.machine import WalletMachine
from cluster.offline.audit import audit_of, sum_stream
from cluster.offline.stream_reader import Sources
from cluster.runtime.live_audit import COLUMNS, AuditReport, ShardAudit
from tests.simulation.loop import simulated
from tests.simulation.system import TENANT, System
from tests.unit.samples import funding
from tests.unit.test_backup import Bench

FIRST, SECOND, PACKETS = "wallet-000", "wallet-001", "packet-000"
PAID_FEN = 500


async def stage(system: System, stream: str, *events: Any) -> None:
    """Let these happen in a stream, whatever its machine would have decided."""
    shell = await system.members[system.directory.host_of(stream)].shell(stream)
    for event in events:
        shell.stage(event)


async def trading(taken_fen: int | None = PAID_FEN, source: str = FIRST) -> System:
    """Return a system in which one wallet stream has paid another."""
    system = await System.start()
    now_ms = system.clock.ms
    paid = funding("p1", 1, packet_stream=SECOND, total_fen=PAID_FEN, at_ms=now_ms)
    await stage(system, FIRST, SandboxCredited(TENANT, "sender", 1_000, now_ms), paid)
    if taken_fen is not None:
        run = PayoutRun(1, "share", TENANT, "p1", ["taker"], [taken_fen], now_ms)
        await stage(system, SECOND, RunsReceived(source, [run], now_ms))
    return system


@simulated
async def test_two_books_of_one_kind_that_trade_are_compared() -> None:
    report = await (await trading()).audit()
    assert (report.difference_fen, report.in_flight_fen, report.clean) == (0, 0, True)
    report = await (await trading(None)).audit()
    assert (report.difference_fen, report.in_flight_fen, report.clean) == (0, PAID_FEN, True)


@simulated
@pytest.mark.parametrize("taken_fen", [PAID_FEN - 1, PAID_FEN + 1])
async def test_a_wrong_amount_between_two_books_of_one_kind_is_a_difference(taken_fen: int) -> None:
    report = await (await trading(taken_fen)).audit()
    assert (report.difference_fen, report.in_flight_fen, report.clean) == (1, PAID_FEN - taken_fen, False)


@simulated
async def test_a_wrong_amount_stays_a_difference_once_it_is_acknowledged() -> None:
    system = await trading(PAID_FEN - 1)
    await stage(system, FIRST, Settled(SECOND, 1))
    assert (await system.audit()).difference_fen == 1


@simulated
@pytest.mark.parametrize("source", [PACKETS, "wallet-009", SECOND])
async def test_money_that_nobody_sent_is_a_difference(source: str) -> None:
    report = await (await trading(source=source)).audit()
    assert (report.difference_fen, report.clean) == (PAID_FEN, False)


@simulated
async def test_a_book_that_does_not_sum_to_nothing_is_a_difference_and_a_wrong_side_is_named() -> None:
    system = await trading()
    machine: Any = (await system.members["wallet-shard-0"].shell(SECOND)).machine
    assert isinstance(machine, WalletMachine)
    machine._state.bank_fen = -7
    report = await system.audit()
    assert (report.difference_fen, report.wrong_sides, report.clean) == (7, [f"{SECOND} bank"], False)
    machine._state.faucet_fen = 7
    report = await system.audit()
    assert (report.difference_fen, report.wrong_sides) == (0, [f"{SECOND} bank", f"{SECOND} faucet"])
    assert not report.clean, "sums alone are not enough"


def test_the_report_has_the_columns_that_the_kinds_declare() -> None:
    wanted = {name for kind in KINDS.values() for name in (*kind.totals, *(one.audit_column for one in kind.accounts))}
    for shape in (ShardAudit, AuditReport):
        assert wanted < {field.name for field in msgspec.structs.fields(shape)}
    assert COLUMNS["packet"] == ("funded_fen", "paid_fen", "refunded_fen", "remaining_fen")
    assert COLUMNS["wallet"] == ("change_fen", "held_fen", "bank_fen", "faucet_fen")


@simulated
async def test_the_audit_of_files_and_journals_finds_the_same_money_as_the_live_one(tmp_path: Path) -> None:
    """Money is in wallets, packets, holds and on its way; part of the journals is sealed."""
    bench = await Bench.start(tmp_path)
    system = bench.system
    await bench.send("on its way", 3)
    stream = system.service.wallets.stream_of(User(TENANT, "alice"))
    holds = [Hold(f"h{number}", TENANT, "alice", 10 + number, 60_000) for number in range(3)]
    await system.directory.ask([(stream, [*holds, PostHold("h0"), VoidHold("h1")])])
    await bench.grab()
    live = await system.audit()
    journals = system.journals
    cut = await journals.cut(0)
    sources = Sources(journals, journals.codec, bench.archive)
    offline, _ = audit_of([await sum_stream(sources, name, stood) for name, stood in sorted(cut.streams.items())])
    assert live.clean
    assert offline.clean
    assert live.in_flight_fen == offline.in_flight_fen > 0
    for kind in KINDS.values():
        for account in kind.accounts:
            assert live.fen(account.audit_column) == offline.totals_fen.get(account.name, 0)
    assert min(live.fen(f"{name}_fen") for name in ("change", "held", "bank", "remaining")) > 0
    assert [book.stream for book in offline.books] == [shard.stream for shard in live.shards]
