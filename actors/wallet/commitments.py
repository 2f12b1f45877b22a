"""Commitments: what the platform commits to before a packet is sent, so that its sender can add a nonce. Pure.

A commitment names the packet that it is for, and how that is split: by which algorithm, in how many lanes or bursts.
Only who asked may use it, once, until it is over. So many may be unused of one user, and of one stream. They are
forgotten by the stamps of events, so that a replay forgets the same ones.
"""

from collections.abc import Sequence

from actors.kernel.bounds import Own, Period, Section, Shared
from actors.kernel.messages import Refused
from actors.kernel.remembered import Remembered
from actors.refusals import Refusal
from actors.wallet.commands import CommitSeed, Send
from actors.wallet.events import Committed

NOT_FOUND = Refused(Refusal.COMMITMENT_NOT_FOUND)
MISMATCH = Refused(Refusal.COMMITMENT_MISMATCH)


class CommitmentRules(Section, frozen=True):
    """How many, and how long (configs/)."""

    unused_max: Own
    """Of one user."""
    stream_max: Shared
    """Of one stream, counting every lane and burst."""
    lifetime_ms: Period


class Commitments:
    """The unused commitments of one stream; `unused` is the durable part, in order of their making."""

    def __init__(self, unused: dict[str, Committed], rules: CommitmentRules) -> None:
        self._unused = unused
        self._rules = rules
        self._held = sum(len(made.commitments) for made in unused.values())
        """Commitments to all lanes and bursts, which is what takes memory."""
        self._table: Remembered[tuple[str, str], str, Committed] = Remembered(unused)
        for made in unused.values():
            self._table.keys.setdefault(_owner_of(made.packet_id, made), []).append(made.packet_id)

    def decide(
        self, commit: CommitSeed, packet_id: str, key_id: str, commitments: Sequence[bytes], now_ms: int
    ) -> Committed | Refused:
        """Commit to a packet, or to all that a crowd's is; the same again is the same again."""
        prior = self._unused.get(packet_id)
        if prior is not None:
            return prior
        own = self._table.of((commit.tenant, commit.user))
        if sum(now_ms < made.expires_at_ms for made in own) >= self._rules.unused_max:
            return Refused(Refusal.RATE_LIMITED)
        if not self._has_room(len(commitments), now_ms):
            return Refused(Refusal.OVERLOADED)
        who = commit.tenant, commit.user, commit.algorithm
        until_ms = now_ms + self._rules.lifetime_ms
        first, *further = commitments
        shape = commit.star_count, commit.bursts
        return Committed(packet_id, *who, key_id, first, now_ms, until_ms, *shape, further)

    def find(self, send: Send, algorithm: str, now_ms: int) -> Committed | Refused:
        """Return what a send may use."""
        found = self._unused.get(send.commitment_id)
        if found is None or (found.tenant, found.user) != (send.tenant, send.user) or now_ms >= found.expires_at_ms:
            return NOT_FOUND
        shape = algorithm, send.star_count, len(send.bursts)
        return found if (found.algorithm, found.star_count, found.bursts) == shape else MISMATCH

    def add(self, made: Committed) -> None:
        """Apply: one was made. What is over by then is forgotten."""
        for past in self._table.forget(lambda one: made.at_ms >= one.expires_at_ms, _owner_of):
            self._held -= len(past.commitments)
        self._table.add(_owner_of(made.packet_id, made), made.packet_id, made)
        self._held += len(made.commitments)

    def use(self, packet_id: str) -> None:
        """Apply: its packet was sent (or the first of several), if it is one of these."""
        used = self._unused.get(packet_id)
        if used is not None:
            self._held -= len(used.commitments)
            self._table.remove(_owner_of(packet_id, used), packet_id)

    def _has_room(self, count: int, now_ms: int) -> bool:
        """Tell whether so many more can be held, once those that are over are forgotten."""
        held = self._held + count
        for one in self._unused.values():
            if held <= self._rules.stream_max or now_ms < one.expires_at_ms:
                break
            held -= len(one.commitments)
        return held <= self._rules.stream_max


def _owner_of(packet_id: str, made: Committed) -> tuple[str, str]:
    return made.tenant, made.user
