"""Rules: the bounds of one packet stream (configs/), as its machine gets them."""

import msgspec

from actors.packet.quotas import PacketFair


class PacketRules(msgspec.Struct, frozen=True):
    """The bounds of one packet stream (configs/)."""

    wallet_streams: int
    unsettled_max: int
    opened_ahead_max: int
    settle_batch_max: int
    passivate_after_ms: int
    passivate_batch_max: int
    split_apart_min: int
    dealt_ahead_max: int
    winners_max: int
    phrase_missers_max: int
    phrase_tries_max: int
    phrase_tries_ms: int
    fair: PacketFair = PacketFair()
