"""Commitments: what the platform commits to before a packet is sent, so that its sender can add a nonce. Pure.

A commitment names the packet that it is for; only who asked may use it, once, until it is over. So many may be unused
of one user, and of one stream. They are forgotten by the stamps of events, so that a replay forgets the same ones.
"""

import msgspec

from actors.ledger.transfer import Refusal, Refused
from actors.wallet.messages import Commit, Committed

NOT_FOUND = Refused(Refusal.COMMITMENT_NOT_FOUND)


class CommitmentRules(msgspec.Struct, frozen=True):
    """How many, and how long (configs/)."""

    unused_max: int
    """Of one user."""
    stream_max: int
    lifetime_ms: int


class Commitments:
    """The unused commitments of one stream; `unused` is the durable part, in order of their making."""

    def __init__(self, unused: dict[str, Committed], rules: CommitmentRules) -> None:
        self._unused = unused
        self._rules = rules
        self._of_user: dict[tuple[str, str], list[str]] = {}
        for one in unused.values():
            self._of_user.setdefault((one.tenant, one.user), []).append(one.packet_id)

    def decide(
        self, commit: Commit, packet_id: str, key_id: str, commitment: bytes, now_ms: int
    ) -> Committed | Refused:
        """Commit to a packet; the same again is the same again."""
        prior = self._unused.get(packet_id)
        if prior is not None:
            return prior
        own = (self._unused[name] for name in self._of_user.get((commit.tenant, commit.user), ()))
        if sum(now_ms < one.expires_at_ms for one in own) >= self._rules.unused_max:
            return Refused(Refusal.RATE_LIMITED)
        if len(self._unused) >= self._rules.stream_max and now_ms < next(iter(self._unused.values())).expires_at_ms:
            return Refused(Refusal.OVERLOADED)
        who = commit.tenant, commit.user, commit.algorithm
        return Committed(packet_id, *who, key_id, commitment, now_ms, now_ms + self._rules.lifetime_ms)

    def find(self, packet_id: str, tenant: str, user: str, now_ms: int) -> Committed | Refused:
        """Return what this user may use."""
        found = self._unused.get(packet_id)
        if found is None or (found.tenant, found.user) != (tenant, user) or now_ms >= found.expires_at_ms:
            return NOT_FOUND
        return found

    def add(self, made: Committed) -> None:
        """Apply: one was made. What is over by then is forgotten."""
        while self._unused and made.at_ms >= next(iter(self._unused.values())).expires_at_ms:
            self.use(next(iter(self._unused)))
        self._unused[made.packet_id] = made
        self._of_user.setdefault((made.tenant, made.user), []).append(made.packet_id)

    def use(self, packet_id: str) -> None:
        """Apply: its packet was sent, if it is one of these."""
        used = self._unused.pop(packet_id, None)
        if used is not None:
            who = used.tenant, used.user
            self._of_user[who].remove(packet_id)
            if not self._of_user[who]:
                del self._of_user[who]
