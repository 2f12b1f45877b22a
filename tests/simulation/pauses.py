"""Pauses: when which lever was on in which stream, from `SwitchSet` events and the ends of packets alone.

Moments are numbers of events, of all streams together, as the auditor reads them.
"""

import sys
from collections.abc import Iterable, Sequence

from actors.kernel.switches import SwitchSet
from actors.packet.switches import GRABS, packet_of, packet_switch
from actors.wallet.switches import SENDS
from tests.simulation.lives import Life

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

    def explain(self, lever: str, paused: bool, lives: Sequence[Life | None], streams: Iterable[str], seq: int) -> None:
        """Check that a lever was durably set wherever it belongs; `lives`: the lanes of its packet, if it is one's."""
        so = self.was_on if paused else self.was_off
        if packet_of(lever) is None:
            kind = "wallet-" if lever == SENDS else "packet-"
            for stream in [stream for stream in streams if stream.startswith(kind)]:
                assert so(stream, lever, seq), f"{lever} was told to be set, and never was in {stream}"
            return
        for life in lives:
            assert life is not None, "a packet that never opened cannot be paused"
            ended = len(lives) > 1 and life.state != "open"  # such a lane is passed over
            one = packet_switch(life.packet_id)
            assert ended or so(life.funding.packet_stream, one, seq), f"{one} was told to be set"
