"""Kind of packet streams: everything that the platform must know of them."""

from actors.kernel.kind import Kind
from actors.packet import postings
from actors.packet.commands import Grab, GrabMany, Open, ReadEnd, View
from actors.packet.events import Expired, GrabbedMany, Opened, OpeningReturned, Passivated, PhraseMissed
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
    events=(Opened, OpeningReturned, GrabbedMany, PhraseMissed, Expired, Passivated),
    accounts=(postings.ESCROW,),
    postings={
        Opened: postings.opened,
        OpeningReturned: postings.opening_returned,
        GrabbedMany: postings.grabbed_many,
        PhraseMissed: None,
        Expired: postings.expired,
        Passivated: None,
    },
    statement={"grabbed_many": "grabbed"},
    totals=("funded_fen", "paid_fen", "refunded_fen"),
    pools=("", "hot"),
)
