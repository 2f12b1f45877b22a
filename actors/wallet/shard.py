"""Wallet shard: the accounts of the streams given to one Ray actor.

What Ray runs, and nothing of Ray: the cluster wraps it. A send's terms (packet id, commitment) are derived here from
the platform key, so that the same (tenant, sender, key) always means the same packet.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.host import Host, HostRules, Records
from actors.ids import PACKET, PHOTO_PAYMENT, packet_id_of, packet_stream, parse_packet_id
from actors.ledger.levers import ReadLevers, SetLever
from actors.ledger.transfer import Acknowledge, AdoptSnapshot, Done, Receive, Refused
from actors.phrase import kept
from actors.ports import Clock, Fairness, Journals, KeyRing
from actors.shell import Shell
from actors.tally import ACCEPTED, REPLAYED, Tally
from actors.wallet.machine import OVERLOADED, OpenHold, Terms, WalletMachine, WalletRules
from actors.wallet.messages import (
    CreditSandbox,
    FindFunding,
    Funded,
    Hold,
    PostHold,
    ReadStatement,
    ReadWallet,
    SandboxCredited,
    Send,
    VoidHold,
    WalletView,
)

WalletCommand = (
    Send
    | CreditSandbox
    | ReadWallet
    | ReadStatement
    | FindFunding
    | Hold
    | PostHold
    | VoidHold
    | Receive
    | Acknowledge
    | AdoptSnapshot
    | SetLever
    | ReadLevers
)


class SendRules(msgspec.Struct, frozen=True):
    """What a send gets besides what the sender says (configs/)."""

    packet_streams: int
    wallet_streams: int
    share_fen_min: int
    share_fen_max: int
    packet_lifetime_ms: int


class WalletShard(Host[WalletMachine]):
    """A Ray actor's worth of wallet streams."""

    def __init__(
        self,
        name: str,
        streams: Sequence[str],
        journals: Journals,
        clock: Clock,
        keys: KeyRing,
        fairness: Fairness,
        rules: HostRules,
        wallet_rules: WalletRules,
        send_rules: SendRules,
        tally: Tally | None = None,
    ) -> None:
        super().__init__(name, streams, journals, clock, rules, WalletCommand, tally)
        self._keys = keys
        self._fairness = fairness
        self._wallet_rules = wallet_rules
        self._send_rules = send_rules

    def _machine(self, stream: str) -> WalletMachine:
        return WalletMachine(stream, self._wallet_rules)

    def _count(self, groups: list[tuple[str, list[Any]]], replies: list[list[Any]]) -> None:
        for (_, commands), answers in zip(groups, replies, strict=True):
            for command, answer in zip(commands, answers, strict=True):
                if type(command) is Send:
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
            case SetLever() | ReadLevers():  # also, and most of all, while there is too much to do
                return self._decide_common(shell, command)
        if shell.refusing:
            return OVERLOADED
        match command:
            case Send():
                return self._send(shell, command, now_ms)
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
                return self._hold(shell, machine.decide_hold(command, now_ms))
            case PostHold() | VoidHold():
                post = isinstance(command, PostHold)
                return self._hold(shell, machine.decide_release(command.hold_id, post=post, now_ms=now_ms))
        return self._decide_common(shell, command)

    def _send(self, shell: Shell[WalletMachine], send: Send, now_ms: int) -> Funded | Refused:
        terms = self._terms(send)
        if send.special is not None and send.special.phrase:
            phrase = kept(self._keys.key(self._keys.first), terms.packet_id, send.special.phrase)
            send = msgspec.structs.replace(send, special=msgspec.structs.replace(send.special, phrase=phrase))
        funded = shell.machine.decide_send(send, terms, now_ms)
        if isinstance(funded, (Funded, Refused)):
            return funded
        shell.stage(funded)
        return Funded(shell.stream, funded, replayed=False)

    def _hold(self, shell: Shell[WalletMachine], decision: Any) -> Done | Refused:
        if isinstance(decision, Refused):
            return decision
        if not isinstance(decision, OpenHold):
            shell.stage(decision)
        return Done()

    def _terms(self, send: Send) -> Terms:
        rules = self._send_rules
        key = self._keys.key(self._keys.first)
        places = rules.packet_streams, rules.wallet_streams
        share_fen_min, share_fen_max, domain = rules.share_fen_min, rules.share_fen_max, PACKET
        if send.kind == "photo":  # its price was settled when the photo was made, whatever the limits are now
            share_fen_min, share_fen_max, domain = send.total_fen, send.total_fen, PHOTO_PAYMENT
        packet_id = packet_id_of(key, send.tenant, send.user, send.key, *places, domain)
        place = parse_packet_id(packet_id)
        assert place is not None, "our own ids can be parsed"
        algorithm, key_id, commitment = self._fairness.commit(send.shares or send.kind, packet_id)
        return Terms(
            packet_id=packet_id,
            packet_stream=packet_stream(place.packet_index),
            share_fen_min=share_fen_min,
            share_fen_max=share_fen_max,
            lifetime_ms=rules.packet_lifetime_ms,
            algorithm=algorithm,
            key_id=key_id,
            commitment=commitment,
        )
