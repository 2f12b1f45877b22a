"""Packet handlers: what answers the commands to a packet stream that are not grabs. Those are decided in groups."""

from collections.abc import Iterable, Mapping, Sequence

from actors.kernel.handler import Command, Handler, Reply, Step
from actors.kernel.messages import Refused
from actors.kernel.switches import SetSwitch
from actors.packet.commands import Open, ReadEnd, View
from actors.packet.events import Opened, OpeningReturned
from actors.packet.machine import PacketMachine
from actors.packet.replies import OpenNow
from actors.packet.switches import packet_of
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded


def ids_of(funding: PacketFunded) -> tuple[str, ...]:
    """Return the ids that an opening asks about: the packet's, and of a burst that of its rain's first."""
    if funding.special is not None and funding.special.burst:
        return funding.packet_id, funding.special.reference
    return (funding.packet_id,)


def ids_of_switch(command: SetSwitch) -> tuple[str, ...]:
    """Return the packet whose switch is set, if it is one packet's."""
    packet_id = packet_of(command.switch)
    return () if packet_id is None else (packet_id,)


def open_packet(step: Step[PacketMachine], source: str, funding: PacketFunded) -> OpenNow | Refused:
    """Take one funding in; an opening that comes after its own expiry opens and refunds in the same step.

    The price of a photo is taken in that step too, however late: nobody ever has paid and not been served.
    """
    machine = step.machine
    answer = machine.decide_opening(source, funding)
    if isinstance(answer, OpeningReturned):
        step.stage(answer)
        return Refused(Refusal.IDEMPOTENCY_KEY_REUSED)
    if not isinstance(answer, Opened):
        return answer
    step.stage(answer)
    if funding.kind == "photo":
        step.stage(machine.decide_payment(funding, step.now_ms))
        return OpenNow("drained")
    return OpenNow("expired" if expire(step, [funding.packet_id]) else "open")


def expire(step: Step[PacketMachine], packet_ids: Iterable[str]) -> bool:
    """End packets whose time is over, in order; tell whether that ended any."""
    ended = False
    for packet_id in packet_ids:
        expired = step.machine.decide_expiry(packet_id, step.now_ms)
        if expired is not None:
            step.stage(expired)
            ended = True
    return ended


def receive(step: Step[PacketMachine], source: str, fundings: Sequence[PacketFunded]) -> None:
    """Open what settlement delivers; what is not opened now stays in transit."""
    for funding in fundings:
        open_packet(step, source, funding)


def open_now(step: Step[PacketMachine], command: Open) -> Reply:
    """Open what a gateway delivers."""
    return open_packet(step, command.source, command.funding)


def view(step: Step[PacketMachine], command: View) -> Reply:
    """Show a packet as it is now."""
    expire(step, [command.packet_id])
    return step.machine.view(command)


def read_end(step: Step[PacketMachine], command: ReadEnd) -> Reply:
    """Tell how a packet ended."""
    return step.machine.end(command.packet_id, command.tenant)


def _id_of(command: View | ReadEnd) -> tuple[str, ...]:
    return (command.packet_id,)


def _ids_of_open(command: Open) -> tuple[str, ...]:
    return ids_of(command.funding)


HANDLERS: Mapping[type[Command], Handler] = {
    Open: Handler(open_now, records=_ids_of_open),
    View: Handler(view, records=_id_of),
    ReadEnd: Handler(read_end, records=_id_of),
}
