"""Parts: how many places of what people share somebody holds, counted anew from what was funded."""

from collections import deque

from actors.transfers.funding import PacketFunded
from actors.wallet.rules import WalletRules
from cluster.config import Settings

SEND_MAX = 4
"""Fundings of one send: bursts of a rain, lanes of a star."""

Who = tuple[str, str]


class SentLately:
    """The sends that wallet streams remember, by who sent them."""

    def __init__(self, settings: Settings) -> None:
        bound, part = (
            settings.rules(WalletRules).idempotency_keys_max,
            settings.rules(WalletRules).fair.idempotency_keys_max,
        )
        self._most = max(1, bound * part.user // 100)
        self._kept_ms = settings.rules(WalletRules).idempotency_ms
        self._stamps: dict[Who, deque[int]] = {}

    def take(self, event: PacketFunded) -> None:
        """Hear of one more; it was let in, so it fits."""
        stamps = self._stamps.setdefault((event.tenant, event.sender), deque())
        stamps.append(event.at_ms)
        assert self._count(stamps, event.at_ms) <= self._most, f"{event.sender} holds more than a user's part"

    def explain(self, who: Who, stamp_ms: int) -> None:
        """Check that somebody was refused at that instant, or later, because their part was full, or nearly."""
        held = self._count(self._stamps.get(who, deque()), stamp_ms)
        assert held + SEND_MAX > self._most, f"{who} holds {held} of {self._most}, and was refused"

    def has_room(self, who: Who, stamp_ms: int) -> bool:
        """Tell whether somebody may send one more packet at that instant, or any later one."""
        return self._count(self._stamps.get(who, deque()), stamp_ms) < self._most

    def _count(self, stamps: deque[int], now_ms: int) -> int:
        return sum(now_ms - at_ms < self._kept_ms for at_ms in stamps)
