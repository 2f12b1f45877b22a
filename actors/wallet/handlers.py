"""Wallet handlers: what answers the commands to a wallet stream."""

from collections.abc import Mapping, Sequence

from actors.kernel.handler import Command, Handler, Reply, Step, user_of
from actors.kernel.messages import Done, Refused
from actors.kernel.metrics import ACCEPTED, REPLAYED, Tally
from actors.ledger.holds import Hold, HoldEvent, HoldTold, PostHold, VoidHold
from actors.transfers.funding import Special
from actors.transfers.payout import PayoutRun
from actors.wallet.commands import (
    AcceptLishi,
    AskLishi,
    CommitSeed,
    CountLishi,
    CreditSandbox,
    DeclineLishi,
    FindFunding,
    KeepPhoto,
    ListLishi,
    ReadLishi,
    ReadNotes,
    ReadStatement,
    ReadWallet,
    Send,
    WriteNote,
)
from actors.wallet.events import Committed, LishiAsked, LishiClosed, LishiCounted, RunsReceived, SandboxCredited
from actors.wallet.lishi import LishiCommand, decide_accept, decide_decline
from actors.wallet.machine import WalletMachine
from actors.wallet.quotas import Fresh
from actors.wallet.replies import AskCounted, Funded, Lishi, LishiList, LishiTold, Note, NoteList, NoteTold, WalletView

WalletStep = Step[WalletMachine]


def receive(step: WalletStep, source: str, runs: Sequence[PayoutRun]) -> None:
    """Take the next payouts; none is ever refused."""
    step.stage(RunsReceived(source, list(runs), step.now_ms))


def count(tally: Tally, groups: Sequence[tuple[str, Sequence[Command]]], replies: Sequence[Sequence[Reply]]) -> None:
    """Count every send by its outcome."""
    for (_, commands), answers in zip(groups, replies, strict=True):
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(command, Send | AcceptLishi):
                if isinstance(answer, Refused):
                    tally.add("sends", answer.code)
                elif isinstance(answer, Funded):
                    tally.add("sends", REPLAYED if answer.replayed else ACCEPTED)


# Reads.


def read_wallet(step: WalletStep, command: ReadWallet) -> Reply:
    """Tell a balance."""
    return step.machine.view(command.tenant, command.user)


def read_statement(step: WalletStep, command: ReadStatement) -> Reply:
    """Tell lines of a statement."""
    return step.machine.statement(command.tenant, command.user, command.limit, command.below)


def find_funding(step: WalletStep, command: FindFunding) -> Reply:
    """Tell what was paid for a packet."""
    return step.machine.find_funding(command.packet_id)


def read_notes(step: WalletStep, command: ReadNotes) -> Reply:
    """Tell the notes of a packet."""
    return NoteList(step.machine.notes.of(command.packet_id))


# What may change something.


def _take(step: WalletStep, event: Fresh) -> Refused | None:
    """Stage what takes a place in a table, unless there is none for its owner."""
    full = step.machine.refusal(event, step.now_ms)
    if full is None:
        step.stage(event)
    return full


def send(step: WalletStep, command: Send) -> Reply:
    """Pay for a packet, or for all that a crowd's is."""
    machine, maker = step.machine, step.machine.maker
    terms = maker.terms(command)
    funded = machine.decide_send(maker.kept_phrase(command, terms), terms, step.now_ms)
    if isinstance(funded, Funded | Refused):
        return funded
    step.stage(*funded)
    return Funded(machine.stream, funded[0], False, funded[1:])


def commit(step: WalletStep, command: CommitSeed) -> Reply:
    """Commit to the seed of a packet that is not sent yet."""
    machine = step.machine
    packet_id, key_id, places = machine.maker.committed_to(command)
    committed = machine.decide_commit(command, places, key_id, step.now_ms)
    if isinstance(committed, Committed) and not machine.is_committed(packet_id):
        step.stage(committed)
    return committed


def credit_sandbox(step: WalletStep, command: CreditSandbox) -> Reply:
    """Make a sandbox user."""
    credited = step.machine.decide_credit(command, step.now_ms)
    if isinstance(credited, SandboxCredited):
        step.stage(credited)
        return WalletView(credited.amount_fen, 0)
    return credited


def hold(step: WalletStep, command: Hold) -> Reply:
    """Reserve money."""
    return _held(step, *step.machine.decide_hold(command, step.now_ms))


def end_hold(step: WalletStep, command: PostHold | VoidHold) -> Reply:
    """Take held money, or release it."""
    return _held(step, *step.machine.holds.decide_end(command, step.now_ms))


def _held(step: WalletStep, event: HoldEvent | None, reply: HoldTold | Refused) -> Reply:
    if event is not None:
        step.stage(event)
    return reply


def keep_photo(step: WalletStep, command: KeepPhoto) -> Reply:
    """Count what a photo takes."""
    kept = step.machine.decide_photo(command, step.now_ms)
    if isinstance(kept, Refused):
        return kept
    if kept is not None:
        step.stage(kept)
    return Done()


def write_note(step: WalletStep, command: WriteNote) -> Reply:
    """Keep a note."""
    note = step.machine.notes.decide(command, step.machine.rules.notes, step.now_ms)
    if isinstance(note, Refused):
        return note
    if isinstance(note, Note):
        return NoteTold(note.at_ms, replayed=True)
    return _take(step, note) or NoteTold(note.at_ms, replayed=False)


# Lishi.


def count_lishi(step: WalletStep, command: CountLishi) -> Reply:
    """Count an ask in its asker's stream."""
    counted = step.machine.asks.decide(command, step.machine.rules.asks, step.now_ms)
    if isinstance(counted, LishiCounted):
        return _take(step, counted) or AskCounted(counted.at_ms)
    return counted if isinstance(counted, Refused) else AskCounted(counted.at_ms)


def lishi(step: WalletStep, command: LishiCommand) -> Reply:
    """Answer about a lishi, once every lapse of the person it concerns is journaled."""
    book, now_ms = step.machine.lishi, step.now_ms
    step.stage(*book.due(command, now_ms))
    if isinstance(command, AskLishi):
        return _ask(step, command)
    if isinstance(command, ListLishi):
        return LishiList(book.opened(command.tenant, command.user))
    answers = not isinstance(command, ReadLishi)
    found = book.find(command.lishi_id, command.tenant, command.user, asked_only=answers)
    if isinstance(found, Refused):
        return found
    if isinstance(command, AcceptLishi):
        return _accept(step, found, command)
    if isinstance(command, ReadLishi):
        return LishiTold(found, replayed=False)
    declined = decide_decline(found, now_ms)
    if isinstance(declined, LishiClosed):
        step.stage(declined)
        return LishiTold(book.all[found.lishi_id], replayed=False)
    return LishiTold(declined, replayed=True) if isinstance(declined, Lishi) else declined


def _ask(step: WalletStep, ask: AskLishi) -> Reply:
    machine = step.machine
    book, lishi_id = machine.lishi, machine.maker.lishi_id(ask)
    asked = book.decide_ask(ask, lishi_id, machine.lishi_rules, step.now_ms)
    if isinstance(asked, LishiAsked):
        return _take(step, asked) or LishiTold(book.all[lishi_id], replayed=False)
    return LishiTold(asked, replayed=True) if isinstance(asked, Lishi) else asked


def _accept(step: WalletStep, asked: Lishi, accept: AcceptLishi) -> Reply:
    """Close the lishi and pay for its packet: two events of one entry."""
    machine = step.machine
    packet_id = machine.maker.lishi_packet_id(asked)
    gift = Send(
        asked.tenant,
        asked.asked,
        accept.key,
        kind="lishi",
        total_fen=accept.amount_fen,
        count=1,
        greeting=accept.greeting,
        algorithm="equal/1",
        special=Special(addressee=asked.asker, reference=asked.lishi_id),
    )
    paid = machine.decide_send(gift, machine.maker.terms(gift, packet_id), step.now_ms)
    accepted = decide_accept(asked, accept, machine.find_funding(packet_id), paid)
    if isinstance(accepted, Funded | Refused):
        return accepted
    step.stage(*accepted)
    return Funded(machine.stream, accepted[1], replayed=False)


_LISHI = Handler(lishi, owner=user_of)

HANDLERS: Mapping[type[Command], Handler] = {
    ReadWallet: Handler(read_wallet, always=True),
    ReadStatement: Handler(read_statement, always=True),
    FindFunding: Handler(find_funding, always=True),
    ReadNotes: Handler(read_notes, always=True),
    Send: Handler(send, owner=user_of),
    CommitSeed: Handler(commit, owner=user_of),
    CreditSandbox: Handler(credit_sandbox, owner=user_of),
    Hold: Handler(hold, owner=user_of),
    PostHold: Handler(end_hold),
    VoidHold: Handler(end_hold),
    KeepPhoto: Handler(keep_photo, owner=user_of),
    WriteNote: Handler(write_note, owner=user_of),
    CountLishi: Handler(count_lishi, owner=user_of),
    AskLishi: _LISHI,
    ReadLishi: _LISHI,
    ListLishi: _LISHI,
    AcceptLishi: _LISHI,
    DeclineLishi: _LISHI,
}
