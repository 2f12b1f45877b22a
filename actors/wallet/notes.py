"""Notes: thank-you notes from takers of a packet to its sender. Pure: no clock, no randomness, no I/O.

A note lives in the sender's wallet stream, which the packet id names, so that it does not matter whether the packet is
still in memory. Whether its author has a share is asked of the packet's stream before. Laws:
- one note a user and packet; the same text again changes nothing, another one replaces it at most `changes_max` times;
- a packet has at most `per_packet_max` of them, the oldest, and a stream `total_max`;
- a note is forgotten `keep_ms` after its author first wrote one for that packet.
Instants and periods are Unix milliseconds.
"""

from collections.abc import Callable

import msgspec

from actors.kernel.bounds import OfTakers, OwnOr0, Period, Section, Shared
from actors.kernel.messages import Refused
from actors.kernel.remembered import Remembered
from actors.refusals import Refusal
from actors.wallet.commands import WriteNote
from actors.wallet.events import Noted
from actors.wallet.replies import Note

RATE_LIMITED = Refused(Refusal.RATE_LIMITED)
OVERLOADED = Refused(Refusal.OVERLOADED)


class NoteRules(Section, frozen=True):
    """The limits of notes in one wallet stream (configs/)."""

    changes_max: OwnOr0
    per_packet_max: OfTakers
    """One a taker."""
    total_max: Shared
    keep_ms: Period


class NoteBook(Remembered[str, tuple[str, str], Note]):
    """The notes of one stream, by (packet id, user), in the order in which they were first written."""

    def decide(self, write: WriteNote, rules: NoteRules, now_ms: int) -> Noted | Note | Refused:
        """Take a note, answer the same one again, or refuse. The first rule that matches wins."""
        prior = self.all.get((write.packet_id, write.user))
        if prior is not None:
            if prior.text == write.text:
                return prior
            if prior.changes >= rules.changes_max:
                return RATE_LIMITED
        elif len(self.keys.get(write.packet_id, ())) >= rules.per_packet_max:
            return RATE_LIMITED
        elif not self.has_room(rules.total_max, _is_past(rules, now_ms)):
            return OVERLOADED
        return Noted(write.packet_id, write.user, write.text, now_ms, write.tenant)

    def apply(self, event: Noted, rules: NoteRules) -> None:
        """Take a note in, and forget what is past its time."""
        self.forget(_is_past(rules, event.at_ms), _packet_of)
        written = event.packet_id, event.user
        prior = self.all.get(written)
        if prior is None:
            self.add(
                event.packet_id, written, Note(event.user, event.text, event.at_ms, event.at_ms, tenant=event.tenant)
            )
        else:
            self.all[written] = msgspec.structs.replace(
                prior, text=event.text, at_ms=event.at_ms, changes=prior.changes + 1
            )


def _is_past(rules: NoteRules, now_ms: int) -> Callable[[Note], bool]:
    return lambda note: now_ms >= note.since_ms + rules.keep_ms


def _packet_of(written: tuple[str, str], note: Note) -> str:
    return written[0]
