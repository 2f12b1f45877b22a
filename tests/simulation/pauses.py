"""Pauses: when which lever was on in which stream, from `SwitchSet` events and the ends of packets alone.

Moments are numbers of events, of all streams together, as the auditor reads them.
"""

import sys

from actors.kernel.switches import SwitchSet
from actors.packet.switches import GRABS, packet_of, packet_switch
from actors.wallet.switches import SENDS

NEVER = sys.maxsize


class Pauses:
    """The pauses of one system."""

    def __init__(self) -> None:
        self._spans: dict[tuple[str, str], list[tuple[int, int]]] = {}
        """(stream, lever) -> begin and end of each pause, the newest last (NEVER: it goes on)"""

    def take(self, stream: str, event: SwitchSet, packet: tuple[str, str] | None, seq: int) -> None:
        """Take a lever in; `packet`: (state, stream) of the packet whose it is, if it is one's."""
        assert self.is_on(stream, event.switch) is not event.paused, "a lever is set only where that changes it"
        if not event.paused:
            self._end(stream, event.switch, seq)
            return
        if packet_of(event.switch) is None:
            assert event.switch == (SENDS if stream.startswith("wallet-") else GRABS), "each kind of stream has its own"
        else:
            assert packet == ("open", stream), "an open packet is paused, where it is"
        self._spans.setdefault((stream, event.switch), []).append((seq, NEVER))

    def check_grab(self, stream: str, packet_id: str) -> None:
        """Check that a fresh share may be taken now."""
        for lever in (GRABS, packet_switch(packet_id)):
            assert not self.is_on(stream, lever), f"a fresh share was taken although {lever} is paused"

    def packet_ended(self, stream: str, packet_id: str, seq: int) -> None:
        """Let the pause of a packet end with it."""
        if self.is_on(stream, packet_switch(packet_id)):
            self._end(stream, packet_switch(packet_id), seq)

    def is_on(self, stream: str, lever: str) -> bool:
        """Tell whether a lever is durably on."""
        spans = self._spans.get((stream, lever))
        return spans is not None and spans[-1][1] == NEVER

    def was_on(self, stream: str, lever: str, since: int) -> bool:
        """Tell whether a lever was durably on at some moment since then."""
        return any(end > since for _, end in self._spans.get((stream, lever), []))

    def was_off(self, stream: str, lever: str, since: int) -> bool:
        """Tell whether a lever was durably off at some moment since then."""
        return not self.is_on(stream, lever) or self._spans[stream, lever][-1][0] > since

    def nothing_is_on(self) -> bool:
        """Tell whether everything goes on."""
        return not any(self.is_on(*where) for where in self._spans)

    def _end(self, stream: str, lever: str, seq: int) -> None:
        spans = self._spans[stream, lever]
        spans[-1] = spans[-1][0], seq
