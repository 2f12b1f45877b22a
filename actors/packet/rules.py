"""Rules: the bounds of one packet stream (configs/), as its machine gets them."""

from actors.kernel.rules import Rules
from actors.packet.quotas import PacketFair


class PacketRules(Rules, frozen=True, kw_only=True):
    """The bounds of one packet stream (configs/)."""

    unsettled_max: int
    opened_ahead_max: int
    passivate_after_ms: int
    passivate_batch_max: int
    split_apart_min: int
    dealt_ahead_max: int
    winners_max: int
    phrase_missers_max: int
    phrase_tries_max: int
    phrase_tries_ms: int
    fair: PacketFair = PacketFair()
