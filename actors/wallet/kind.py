"""Kind of wallet streams: everything that the platform must know of them."""

from actors.kernel.kind import AccountKind, Kind, Side
from actors.ledger.transfer import PacketFunded, PayoutsReceived, RunsReceived
from actors.wallet.commands import (
    AcceptLishi,
    AskLishi,
    Commit,
    CountLishi,
    CreditSandbox,
    DeclineLishi,
    FindFunding,
    Hold,
    KeepPhoto,
    ListLishi,
    PostHold,
    ReadLishi,
    ReadNotes,
    ReadStatement,
    ReadWallet,
    Send,
    VoidHold,
    WriteNote,
)
from actors.wallet.events import (
    Committed,
    Held,
    HoldPosted,
    HoldVoided,
    LishiAsked,
    LishiClosed,
    LishiCounted,
    Noted,
    PhotoKept,
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
        Hold,
        PostHold,
        VoidHold,
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
    replies=(Funded, Committed, WalletView, Statement, LishiTold, LishiList, AskCounted, NoteTold, NoteList),
    events=(
        PacketFunded,
        RunsReceived,
        PayoutsReceived,
        SandboxCredited,
        Held,
        HoldPosted,
        HoldVoided,
        Committed,
        LishiCounted,
        LishiAsked,
        LishiClosed,
        Noted,
        PhotoKept,
    ),
    accounts=(
        AccountKind(name="change", side=Side.LIABILITY, owner=("tenant", "user"), on_statement=True),
        AccountKind(name="held", side=Side.LIABILITY, owner=("tenant", "user"), on_statement=True),
        AccountKind(name="bank", side=Side.LIABILITY),
        AccountKind(name="faucet", side=Side.ASSET),
    ),
)
