"""Notes: thank-you notes from takers of a packet to its sender. Pure: no clock, no randomness, no I/O.

A note lives in the sender's wallet stream, which the packet id names, so that it does not matter whether the packet is
still in memory. Whether its author has a share is asked of the packet's stream before. Laws:
- one note a user and packet; the same text again changes nothing, another one replaces it at most `changes_max` times;
- a packet has at most `per_packet_max` of them, the oldest, and a stream `total_max`;
- a note is forgotten `keep_ms` after its author first wrote one for that packet.
Instants and periods are Unix milliseconds.
"""

import msgspec

from actors.kernel.bounds import OfPacket, OwnOr0, Period, Section, Shared
from actors.kernel.messages import Refused
from actors.refusals import Refusal
from actors.wallet.commands import WriteNote
from actors.wallet.events import Noted
from actors.wallet.replies import Note

RATE_LIMITED = Refused(Refusal.RATE_LIMITED)
OVERLOADED = Refused(Refusal.OVERLOADED)


class NoteRules(Section, frozen=True):
    """The limits of notes in one wallet stream (configs/)."""

    changes_max: OwnOr0
    per_packet_max: OfPacket
    """One a taker."""
    total_max: Shared
    keep_ms: Period


class NoteBook(msgspec.Struct):
    """The notes of one stream: a part of its state."""

    all: dict[tuple[str, str], Note] = {}
    """(packet id, user) -> note, in the order in which they were first written."""
    authors: dict[str, list[str]] = {}
    """packet id -> who has written, in that order."""

    def decide(self, write: WriteNote, rules: NoteRules, now_ms: int) -> Noted | Note | Refused:
        """Take a note, answer the same one again, or refuse. The first rule that matches wins."""
        prior = self.all.get((write.packet_id, write.user))
        if prior is not None:
            if prior.text == write.text:
                return prior
            if prior.changes >= rules.changes_max:
                return RATE_LIMITED
        elif len(self.authors.get(write.packet_id, ())) >= rules.per_packet_max:
            return RATE_LIMITED
        elif len(self.all) >= rules.total_max and not self._forgettable(rules, now_ms):
            return OVERLOADED
        return Noted(write.packet_id, write.user, write.text, now_ms, write.tenant)

    def of(self, packet_id: str) -> list[Note]:
        """Return a packet's notes, in the order in which they were first written; at most `per_packet_max`."""
        return [self.all[packet_id, user] for user in self.authors.get(packet_id, ())]

    def apply(self, event: Noted, rules: NoteRules) -> None:
        """Take a note in, and forget what is past its time by its stamp, so that a replay forgets the same."""
        while self.all and self._forgettable(rules, event.at_ms):
            packet_id, user = next(iter(self.all))
            del self.all[packet_id, user]
            authors = self.authors[packet_id]
            authors.remove(user)
            if not authors:
                del self.authors[packet_id]
        written = event.packet_id, event.user
        prior = self.all.get(written)
        if prior is None:
            self.all[written] = Note(event.user, event.text, event.at_ms, event.at_ms, tenant=event.tenant)
            self.authors.setdefault(event.packet_id, []).append(event.user)
        else:
            self.all[written] = msgspec.structs.replace(
                prior, text=event.text, at_ms=event.at_ms, changes=prior.changes + 1
            )

    def _forgettable(self, rules: NoteRules, now_ms: int) -> bool:
        """Tell whether the oldest is past its time."""
        return now_ms >= next(iter(self.all.values())).since_ms + rules.keep_ms
