"""Kind of packet streams: everything that the platform must know of them."""

from actors.kernel.kind import Kind
from actors.packet import handlers, postings
from actors.packet.commands import Grab, GrabMany
from actors.packet.events import Expired, GrabbedMany, Opened, OpeningReturned, Passivated, PhraseMissed
from actors.packet.grab_metrics import count_grabs
from actors.packet.host import PacketShard
from actors.packet.machine import PacketMachine
from actors.packet.proof import ShareProver
from actors.packet.replies import OpenNow, PacketEnd, PacketView, Shares, Takings, Won
from actors.packet.rules import PacketRules
from actors.transfers.funding import PacketFunded

PACKET = Kind(
    name="packet",
    rules=PacketRules,
    machine=PacketMachine,
    host=PacketShard,
    handlers=handlers.HANDLERS,
    commands=(Grab, GrabMany),
    accepts=(PacketFunded,),
    ordered=False,
    receive=handlers.receive,
    received_ids=handlers.ids_of,
    switch_ids=handlers.ids_of_switch,
    count=count_grabs,
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
    prove=ShareProver,
)
