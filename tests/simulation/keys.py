"""Keys: what may be told while a packet host has other keys than the system."""

from collections.abc import Iterable, Mapping

from actors.transfers.funding import PacketFunded


class LostKeys:
    """Whether keys were lost, and what may be refused by that."""

    def __init__(self, fundings: Mapping[str, list[PacketFunded]]) -> None:
        self._fundings = fundings
        self.ever = False
        """Whether some packet host ever had other keys."""

    def hold(self, code: str, packet_ids: Iterable[str]) -> bool:
        """Tell whether a packet does not open for want of its key: a price, which opens and is taken in one step."""
        kinds = {paid.kind for packet_id in packet_ids for paid in self._fundings.get(packet_id, [])}
        return self.ever and code == "seed_unknown" and kinds == {"photo"}
