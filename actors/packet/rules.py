"""Rules: the bounds of one packet stream (configs/), as its machine gets them."""

from actors.kernel.bounds import WHOLE, Internal, OfTakers, Own, Percent, Period, PeriodOr0, Shared
from actors.kernel.rules import Fair, Rules


class PacketFair(Fair, frozen=True, kw_only=True):
    """Parts of the bounds of one packet stream."""

    unsettled_max: Percent = WHOLE
    """The user's part is one packet's."""
    opened_ahead_max: Percent = WHOLE


class PacketRules(Rules, frozen=True, kw_only=True):
    """The bounds of one packet stream (configs/)."""

    unsettled_max: Shared
    opened_ahead_max: Shared
    passivate_after_ms: PeriodOr0
    passivate_batch_max: Internal
    split_apart_min: Period
    dealt_ahead_max: OfTakers
    winners_max: OfTakers
    phrase_missers_max: OfTakers
    """One row a user; who says the phrase needs none."""
    phrase_tries_max: Own
    phrase_tries_ms: Period
    fair: PacketFair = PacketFair()
