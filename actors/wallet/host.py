"""Wallet shard: the accounts of the streams given to one Ray actor.

What Ray runs, and nothing of Ray: the cluster wraps it. A send's terms (packet id, commitment) are derived here from
the platform key, so that the same (tenant, sender, key) always means the same packet.
"""

from typing import Any

import msgspec

from actors.kernel.host import Host, Records
from actors.kernel.messages import Done, Refused
from actors.kernel.metrics import ACCEPTED, REPLAYED
from actors.kernel.names import User
from actors.kernel.shell import Shell
from actors.kernel.switches import ReadLevers, SetLever
from actors.ledger.holds import Hold, HoldEvent, HoldTold, PostHold, VoidHold
from actors.ledger.transfer import Receive
from actors.transfers.funding import ALGORITHM_OF_KIND, ALGORITHMS, Special
from actors.transfers.ids import (
    COMMITMENT,
    PACKET,
    PHOTO_PAYMENT,
    RAIN,
    Layout,
    burst_id,
    crowd_id_of,
    lane_id,
    lishi_id_of,
    lishi_packet_id_of,
    packet_id_of,
    packet_stream,
    parse_packet_id,
    wallet_index_of,
)
from actors.transfers.phrase import kept
from actors.transfers.seeds import SeedCommitments
from actors.wallet.commands import (
    AcceptLishi,
    AskLishi,
    Commit,
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
from actors.wallet.events import Committed, LishiAsked, LishiClosed, LishiCounted, SandboxCredited
from actors.wallet.lishi import LishiCommand, decide_accept, decide_decline
from actors.wallet.machine import OVERLOADED, WalletMachine, WalletRules
from actors.wallet.quotas import Fresh
from actors.wallet.replies import AskCounted, Funded, Lishi, LishiList, LishiTold, Note, NoteList, NoteTold, WalletView
from actors.wallet.sends import Place, Terms


class WalletShard(Host[WalletMachine]):
    """A Ray actor's worth of wallet streams."""

    _rules: WalletRules

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._fairness = SeedCommitments(self._services.keys)
        self._layout = Layout.of(self._services.layout)

    def _on_time(self, shell: Shell[WalletMachine]) -> None:
        if shell.refusing:
            return
        for expired in shell.machine.holds.due(shell.now_ms(), self._rules.expire_batch_max):
            shell.stage(expired)

    def _count(self, groups: list[tuple[str, list[Any]]], replies: list[list[Any]]) -> None:
        for (_, commands), answers in zip(groups, replies, strict=True):
            for command, answer in zip(commands, answers, strict=True):
                if type(command) is Send or type(command) is AcceptLishi:
                    refused = type(answer) is Refused
                    self.tally.add("sends", answer.code if refused else REPLAYED if answer.replayed else ACCEPTED)

    def _decide(self, shell: Shell[WalletMachine], commands: list[Any], recalled: Records) -> tuple[list[Any], bool]:
        # No `await` in here: an interleaved send would be decided on the same balance.
        now_ms = shell.now_ms()
        return [self._decide_one(shell, command, now_ms) for command in commands], True

    def _decide_one(self, shell: Shell[WalletMachine], command: Any, now_ms: int) -> Any:
        machine = shell.machine
        match command:
            case ReadWallet():
                return machine.view(command.tenant, command.user)
            case ReadStatement():
                return machine.statement(command.tenant, command.user, command.limit, command.below)
            case FindFunding():
                return machine.find_funding(command.packet_id)
            case ReadNotes():
                return NoteList(machine.notes.of(command.packet_id))
            case SetLever() | ReadLevers():  # also, and most of all, while there is too much to do
                return self._decide_common(shell, command)
        if shell.refusing:
            return OVERLOADED
        tenant: str = getattr(command, "tenant", "")
        if not tenant:  # settlement and the platform itself
            return self._decide_fresh(shell, command, now_ms)
        if shell.refuses(tenant, command.user):
            return OVERLOADED
        staged = shell.staged
        answer = self._decide_fresh(shell, command, now_ms)
        shell.hold(tenant, command.user, shell.staged - staged)
        return answer

    def _decide_fresh(self, shell: Shell[WalletMachine], command: Any, now_ms: int) -> Any:
        """Answer what may change something."""
        machine = shell.machine
        match command:
            case Send():
                return self._send(shell, command, now_ms)
            case Commit():
                return self._commit(shell, command, now_ms)
            case Receive():
                received = machine.decide_payouts(command, now_ms)
                if isinstance(received, Refused):
                    return received
                if received is not None:
                    shell.stage(received)
                return self._watermark(shell, command.source)
            case CreditSandbox():
                credited = machine.decide_credit(command, now_ms)
                if isinstance(credited, SandboxCredited):
                    shell.stage(credited)
                    return WalletView(credited.amount_fen, 0)
                return credited
            case Hold():
                return self._hold(shell, *machine.decide_hold(command, now_ms))
            case PostHold() | VoidHold():
                return self._hold(shell, *machine.holds.decide_end(command, now_ms))
            case AskLishi() | ReadLishi() | ListLishi() | AcceptLishi() | DeclineLishi():
                return self._lishi(shell, command, now_ms)
            case CountLishi():
                counted = machine.asks.decide(command, self._rules.asks, now_ms)
                if isinstance(counted, LishiCounted):
                    return self._take(shell, counted, now_ms) or AskCounted(counted.at_ms)
                return counted if isinstance(counted, Refused) else AskCounted(counted.at_ms)
            case KeepPhoto():
                kept = machine.decide_photo(command, now_ms)
                if isinstance(kept, Refused):
                    return kept
                if kept is not None:
                    shell.stage(kept)
                return Done()
            case WriteNote():
                note = machine.notes.decide(command, self._rules.notes, now_ms)
                if isinstance(note, Refused):
                    return note
                if isinstance(note, Note):
                    return NoteTold(note.at_ms, replayed=True)
                return self._take(shell, note, now_ms) or NoteTold(note.at_ms, replayed=False)
        return self._decide_common(shell, command)

    def _take(self, shell: Shell[WalletMachine], event: Fresh, now_ms: int) -> Refused | None:
        """Stage what takes a place in a table, unless it has none for whoever wants it."""
        full = shell.machine.refusal(event, now_ms)
        if full is None:
            shell.stage(event)
        return full

    def _send(self, shell: Shell[WalletMachine], send: Send, now_ms: int) -> Funded | Refused:
        terms = self._terms(send)
        if send.special is not None and send.special.phrase:
            phrase = kept(self._services.first_key, terms.places[0].packet_id, send.special.phrase)
            send = msgspec.structs.replace(send, special=msgspec.structs.replace(send.special, phrase=phrase))
        funded = shell.machine.decide_send(send, terms, now_ms)
        if isinstance(funded, (Funded, Refused)):
            return funded
        for one in funded:
            shell.stage(one)
        return Funded(shell.stream, funded[0], False, funded[1:])

    def _commit(self, shell: Shell[WalletMachine], commit: Commit, now_ms: int) -> Committed | Refused:
        key, layout = self._services.first_key, self._layout
        who = User(commit.tenant, commit.user)
        packet_id = self._crowd_id(who, commit.token, COMMITMENT, commit.star_count, commit.bursts)
        packet_id = packet_id or packet_id_of(key, *who, commit.token, layout.packet, layout.wallet, COMMITMENT)
        key_id, places = self._places(packet_id, commit.bursts, commit.algorithm)
        committed = shell.machine.decide_commit(commit, places, key_id, now_ms)
        if isinstance(committed, Committed) and not shell.machine.is_committed(packet_id):
            shell.stage(committed)
        return committed

    def _lishi(self, shell: Shell[WalletMachine], command: LishiCommand, now_ms: int) -> Any:
        book = shell.machine.lishi
        for lapsed in book.due(command, now_ms):
            shell.stage(lapsed)
        if isinstance(command, AskLishi):
            return self._ask(shell, command, now_ms)
        if isinstance(command, ListLishi):
            return LishiList(book.opened(command.tenant, command.user))
        answers = not isinstance(command, ReadLishi)
        lishi = book.find(command.lishi_id, command.tenant, command.user, asked_only=answers)
        if isinstance(lishi, Refused):
            return lishi
        if isinstance(command, AcceptLishi):
            return self._accept(shell, lishi, command, now_ms)
        if isinstance(command, ReadLishi):
            return LishiTold(lishi, replayed=False)
        declined = decide_decline(lishi, now_ms)
        if isinstance(declined, LishiClosed):
            shell.stage(declined)
            return LishiTold(book.all[lishi.lishi_id], replayed=False)
        return LishiTold(declined, replayed=True) if isinstance(declined, Lishi) else declined

    def _ask(self, shell: Shell[WalletMachine], ask: AskLishi, now_ms: int) -> LishiTold | Refused:
        book, rules = shell.machine.lishi, shell.machine.lishi_rules
        wallet_index = wallet_index_of(ask.tenant, ask.asked, self._layout.wallet)
        lishi_id = lishi_id_of(self._services.first_key, ask.tenant, ask.user, ask.key, wallet_index)
        asked = book.decide_ask(ask, lishi_id, rules, now_ms)
        if isinstance(asked, LishiAsked):
            return self._take(shell, asked, now_ms) or LishiTold(book.all[lishi_id], replayed=False)
        return LishiTold(asked, replayed=True) if isinstance(asked, Lishi) else asked

    def _accept(self, shell: Shell[WalletMachine], lishi: Lishi, accept: AcceptLishi, now_ms: int) -> Funded | Refused:
        """Close the lishi and pay for its packet: two events of one entry."""
        machine, layout = shell.machine, self._layout
        streams = layout.packet, layout.wallet
        key = self._services.first_key
        packet_id = lishi_packet_id_of(key, lishi.tenant, lishi.asked, lishi.lishi_id, *streams)
        send = Send(
            lishi.tenant,
            lishi.asked,
            accept.key,
            kind="lishi",
            total_fen=accept.amount_fen,
            count=1,
            greeting=accept.greeting,
            algorithm="equal/1",
            special=Special(addressee=lishi.asker, reference=lishi.lishi_id),
        )
        paid = machine.decide_send(send, self._terms(send, packet_id), now_ms)
        accepted = decide_accept(lishi, accept, machine.find_funding(packet_id), paid)
        if isinstance(accepted, (Funded, Refused)):
            return accepted
        for event in accepted:
            shell.stage(event)
        return Funded(shell.stream, accepted[1], replayed=False)

    def _hold(self, shell: Shell[WalletMachine], event: HoldEvent | None, reply: HoldTold | Refused) -> Any:
        if event is not None:
            shell.stage(event)
        return reply

    def _terms(self, send: Send, packet_id: str = "") -> Terms:
        """Return the terms of a send. `packet_id`: empty: it follows from the send's key."""
        rules, layout = self._rules.sends, self._layout
        key = self._services.first_key
        lo, hi = send.share_fen_min or rules.share_fen_min, send.share_fen_max or rules.share_fen_max
        domain = RAIN if send.bursts else PACKET
        if send.kind == "photo":  # its price was settled when the photo was made, whatever the limits are now
            lo, hi, domain = send.total_fen, send.total_fen, PHOTO_PAYMENT
        who = User(send.tenant, send.user)
        by_key = packet_id or packet_id_of(key, *who, send.key, layout.packet, layout.wallet, domain)
        algorithm = send.algorithm or ALGORITHM_OF_KIND[send.kind]
        assert algorithm in ALGORITHMS, "nobody pays for a packet that cannot be divided"
        first_id = send.commitment_id or self._crowd_id(who, send.key, domain, send.star_count, len(send.bursts))
        key_id, places = self._places(first_id or by_key, len(send.bursts), algorithm)
        return Terms(
            places=places,
            named_by_key=by_key,
            share_fen_min=lo,
            share_fen_max=hi,
            lifetime_ms=rules.packet_lifetime_ms,
            opens_ms_max=rules.opens_ms_max,
            algorithm=algorithm,
            key_id=key_id,
        )

    def _crowd_id(self, who: User, key: str, domain: bytes, star_count: int, bursts: int) -> str:
        """Derive the packet id of a user's key that stands for a crowd's packet: in lanes, or bursts. Empty: none."""
        rules, layout = self._rules.sends, self._layout
        if not bursts and star_count < rules.crowd_count_min:
            return ""
        lanes = 1 if bursts else min(-(-star_count // rules.lane_count_max), layout.lanes_max)
        return crowd_id_of(self._services.first_key, who, f"{domain.decode()} {key}", layout, lanes)

    def _places(self, packet_id: str, bursts: int, algorithm: str) -> tuple[str, list[Place]]:
        """Return a packet's lanes, or a rain's bursts, committed to under the current key, and that key's id."""
        place = parse_packet_id(packet_id)
        assert place is not None, "our own ids can be parsed, and others have been"
        if place.lanes > 1:
            named = [(lane_id(packet_id, lane), place.packet_index + lane) for lane in range(place.lanes)]
        else:
            key = self._services.first_key
            named = [(burst_id(key, packet_id, burst), place.packet_index) for burst in range(max(bursts, 1))]
        places, key_id = [], self._services.keys.current
        for name, packet_index in named:
            key_id, commitment = self._fairness.commit(algorithm, name)
            places.append(Place(name, packet_stream(packet_index), commitment))
        return key_id, places
