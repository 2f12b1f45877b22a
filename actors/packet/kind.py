"""Kind of packet streams: everything that the platform must know of them."""

from actors.kernel.kind import AccountKind, Kind, Side
from actors.packet.commands import Grab, GrabMany, Open, ReadEnd, View
from actors.packet.events import Expired, Grabbed, GrabbedMany, Opened, OpeningReturned, Passivated, PhraseMissed
from actors.packet.host import PacketShard
from actors.packet.machine import PacketMachine
from actors.packet.replies import OpenNow, PacketEnd, PacketView, Shares, Takings, Won
from actors.packet.rules import PacketRules

PACKET = Kind(
    name="packet",
    rules=PacketRules,
    machine=PacketMachine,
    host=PacketShard,
    commands=(Grab, GrabMany, Open, View, ReadEnd),
    replies=(Won, Takings, Shares, PacketEnd, OpenNow, PacketView),
    events=(Opened, OpeningReturned, GrabbedMany, Grabbed, PhraseMissed, Expired, Passivated),
    accounts=(AccountKind(name="escrow", side=Side.LIABILITY, owner=("packet",)),),
    pools=("", "hot"),
)
