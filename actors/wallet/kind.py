"""Kind of wallet streams: everything that the platform must know of them."""

from actors.kernel.kind import Kind
from actors.ledger.holds import HOLD_COMMANDS, HOLD_EVENTS, HoldTold, hold_postings
from actors.transfers.funding import PacketFunded
from actors.wallet import postings
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
from actors.wallet.host import WalletShard
from actors.wallet.machine import WalletMachine, WalletRules
from actors.wallet.replies import AskCounted, Funded, LishiList, LishiTold, NoteList, NoteTold, Statement, WalletView

WALLET = Kind(
    name="wallet",
    rules=WalletRules,
    machine=WalletMachine,
    host=WalletShard,
    commands=(
        Send,
        Commit,
        CreditSandbox,
        ReadWallet,
        ReadStatement,
        FindFunding,
        *HOLD_COMMANDS,
        AskLishi,
        ReadLishi,
        ListLishi,
        AcceptLishi,
        DeclineLishi,
        CountLishi,
        KeepPhoto,
        WriteNote,
        ReadNotes,
    ),
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
)
