"""Packet switches: `grabs` pauses every packet of a stream, `packet:<id>` one, until that ends."""

GRABS = "grabs"
_PACKET = "packet:"


def packet_switch(packet_id: str) -> str:
    """Name the switch of one packet."""
    return _PACKET + packet_id


def packet_of(switch: str) -> str | None:
    """Return the packet whose switch it is; None if it is a whole stream's."""
    return switch.removeprefix(_PACKET) if switch.startswith(_PACKET) else None
