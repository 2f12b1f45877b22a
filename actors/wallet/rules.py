"""Rules: the bounds of one wallet stream (configs/), as its machine and its host get them."""

from actors.kernel.bounds import WHOLE, Own, Percent, Period, Shared
from actors.kernel.rules import Fair, Rules
from actors.ledger.holds import HoldRules
from actors.wallet.asks import AskRules
from actors.wallet.commitments import CommitmentRules
from actors.wallet.lishi import LishiRules
from actors.wallet.notes import NoteRules
from actors.wallet.sends import SendRules


class WalletFair(Fair, frozen=True, kw_only=True):
    """Parts of the bounds of one wallet stream; those of a group are under its name."""

    accounts_max: Percent = WHOLE
    """Of those that the sandbox makes; a user has one."""
    unsettled_max: Percent = WHOLE
    idempotency_keys_max: Percent = WHOLE
    """Each lane and burst counts."""
    commitments: Percent = WHOLE
    lishi: Percent = WHOLE
    """Of who asks."""
    asks: Percent = WHOLE
    notes: Percent = WHOLE
    photos_bytes_max: Percent = WHOLE


class WalletRules(Rules, frozen=True, kw_only=True):
    """The bounds of one wallet stream (configs/)."""

    accounts_max: Shared
    unsettled_max: Shared
    idempotency_keys_max: Shared
    idempotency_ms: Period
    statement_lines_max: Own
    relay_after_ms: Period
    photos_bytes_max: Shared
    sends: SendRules
    commitments: CommitmentRules
    lishi: LishiRules
    asks: AskRules
    notes: NoteRules
    holds: HoldRules
    fair: WalletFair = WalletFair()

    def __post_init__(self) -> None:
        """Refuse what would let a key be forgotten while it counts for something."""
        if self.lishi.keep_ms < max(self.lishi.cooldown_ms, self.idempotency_ms):
            raise ValueError("lishi.keep_ms is at least lishi.cooldown_ms and idempotency_ms")
        if self.asks.period_ms < self.idempotency_ms:
            raise ValueError("asks.period_ms is at least idempotency_ms")
