"""Kind of wallet streams: everything that the platform must know of them."""

from actors.kernel.kind import Kind
from actors.ledger.holds import HOLD_EVENTS, HoldTold, hold_postings
from actors.transfers.funding import PacketFunded
from actors.transfers.ids import wallet_index_of
from actors.transfers.payout import PayoutRun
from actors.wallet import handlers, postings
from actors.wallet.events import (
    Committed,
    LishiAsked,
    LishiClosed,
    LishiCounted,
    Noted,
    PhotoKept,
    RunsReceived,
    SandboxCredited,
)
from actors.wallet.machine import WalletMachine
from actors.wallet.replies import AskCounted, Funded, LishiList, LishiTold, NoteList, NoteTold, Statement, WalletView
from actors.wallet.rules import WalletRules

WALLET = Kind(
    name="wallet",
    rules=WalletRules,
    machine=WalletMachine,
    handlers=handlers.HANDLERS,
    accepts=(PayoutRun,),
    receive=handlers.receive,
    count=handlers.count,
    replies=(Funded, Committed, HoldTold, WalletView, Statement, LishiTold, LishiList, AskCounted, NoteTold, NoteList),
    events=(
        PacketFunded,
        RunsReceived,
        SandboxCredited,
        *HOLD_EVENTS,
        Committed,
        LishiCounted,
        LishiAsked,
        LishiClosed,
        Noted,
        PhotoKept,
    ),
    accounts=(postings.CHANGE, postings.HELD, postings.BANK, postings.FAUCET),
    postings={
        PacketFunded: postings.packet_funded,
        RunsReceived: postings.runs_received,
        SandboxCredited: postings.sandbox_credited,
        **hold_postings(postings.CHANGE, postings.HELD, postings.BANK),
        Committed: None,
        LishiCounted: None,
        LishiAsked: None,
        LishiClosed: None,
        Noted: None,
        PhotoKept: None,
    },
    statement=postings.STATEMENT,
    home=wallet_index_of,
)
