"""Holds: what the journals say of reserved money, and whether that explains an answer.

No machine and no book of the platform is used for that. Moments are numbers of events, of all streams together, as the
auditor reads them; stamps and periods are Unix ms.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from actors.ledger.holds import Held, Hold, HoldEvent, HoldExpired, HoldPosted, HoldTold, PostHold, VoidHold
from actors.wallet.rules import WalletRules
from cluster.config import Settings
from tests.simulation.favours import Moments

if TYPE_CHECKING:
    from tests.simulation.auditor import Auditor
    from tests.simulation.marks import Mark

Who = tuple[str, str]

STATE_OF: dict[type, str] = {HoldPosted: "posted", HoldExpired: "expired"}
WANTED: dict[type, str] = {PostHold: "posted", VoidHold: "voided"}


class HoldLife(NamedTuple):
    """A hold as it stood."""

    who: Who
    amount_fen: int
    expires_at_ms: int
    state: str = "open"
    ended_at_ms: int = 0

    def is_remembered(self, at_ms: int, keep_ms: int) -> bool:
        """Tell whether its stream cannot have forgotten it by a stamp."""
        return self.state == "open" or at_ms - self.ended_at_ms < keep_ms


class HoldLives:
    """All holds of one system."""

    def __init__(self, settings: Settings) -> None:
        rules = settings.rules(WalletRules).holds
        self._total_max, self._keep_ms, self._lifetime_ms_max = rules.total_max, rules.keep_ms, rules.lifetime_ms_max
        self._user_max = max(1, self._total_max * rules.fair.user // 100)
        self.lives: dict[str, Moments[HoldLife]] = {}
        self.held: dict[Who, Moments[int]] = {}
        """What of somebody's money is reserved."""
        self._of_stream: dict[str, dict[str, None]] = {}
        self.taken_fen = 0

    def take(self, stream: str, event: HoldEvent, seq: int) -> int:
        """Take an event in, check it, and return by how much its user's spendable balance changes."""
        who = event.tenant, event.user
        held = self.held.setdefault(who, Moments(0))
        if isinstance(event, Held):
            self._make(stream, event, seq)
            held.become(held.now + event.amount_fen, seq)
            return -event.amount_fen
        life = self.lives[event.hold_id].now
        assert life.state == "open", "a hold ends once"
        assert (life.who, life.amount_fen) == (who, event.amount_fen), "what was held is taken or given back"
        assert (event.at_ms >= life.expires_at_ms) is isinstance(event, HoldExpired), "it ends in time, or expires"
        state = STATE_OF.get(type(event), "voided")
        self.lives[event.hold_id].become(life._replace(state=state, ended_at_ms=event.at_ms), seq)
        held.become(held.now - event.amount_fen, seq)
        if state == "posted":
            self.taken_fen += event.amount_fen
            return 0
        return event.amount_fen

    def _make(self, stream: str, event: Held, seq: int) -> None:
        life = HoldLife((event.tenant, event.user), event.amount_fen, event.expires_at_ms)
        assert event.at_ms < event.expires_at_ms <= event.at_ms + self._lifetime_ms_max, "nobody holds for longer"
        prior = self.lives.get(event.hold_id)
        if prior is None:
            self.lives[event.hold_id] = Moments(life, seq)
        else:
            assert not prior.now.is_remembered(event.at_ms, self._keep_ms), "an id reserves once while it is remembered"
            prior.become(life, seq)
        there = self._of_stream.setdefault(stream, {})
        there[event.hold_id] = None
        kept = [
            one for one in (self.lives[name].now for name in there) if one.is_remembered(event.at_ms, self._keep_ms)
        ]
        assert len(kept) <= self._total_max, "a stream keeps so many holds"
        assert sum(one.who == life.who for one in kept) <= self._user_max, "a user has a part of them"

    def open_fen(self) -> int:
        """Return what is reserved, of everybody."""
        return sum(held.now for held in self.held.values())

    def last_expiry_ms(self) -> int:
        """Return when the last of the open ones is over."""
        return max((life.now.expires_at_ms for life in self.lives.values() if life.now.state == "open"), default=0)

    def is_kept(self, hold_id: str, seq: int, stamp_ms: int) -> bool:
        """Tell whether a hold was there at that event, and its stream cannot have forgotten it since, by a stamp."""
        life = self.lives.get(hold_id)
        if life is None or life.began > seq:
            return False
        return all(one.is_remembered(stamp_ms, self._keep_ms) for one in life.since(seq))

    def explain(self, command: Any, answer: Any, auditor: "Auditor", stream: str, since: "Mark") -> None:
        """Check the answer to whoever holds, takes or gives back; `answer`: the hold, or the code of a refusal."""
        life = self.lives.get(command.hold_id)
        been = [] if life is None else life.since(since.seq)
        if isinstance(answer, HoldTold):
            told = answer.amount_fen, answer.expires_at_ms, answer.state
            so = [one for one in been if (one.amount_fen, one.expires_at_ms, one.state) == told]
            assert so, f"the journal tells otherwise than {answer}: {been}"
            assert answer.hold_id == command.hold_id
            if isinstance(command, Hold):
                assert (command.tenant, command.user) == so[0].who, "it is that user's"
            assert answer.state == WANTED.get(type(command), answer.state), "it ended as was asked"
            return
        kept = self.is_kept(command.hold_id, since.seq, auditor.stamp_ms(stream))
        if answer == "idempotency_key_reused":
            if isinstance(command, Hold):
                wanted = (command.tenant, command.user), command.amount_fen
                assert any((one.who, one.amount_fen) != wanted for one in been), "it is the same hold"
            else:
                assert any(one.state in {"posted", "voided"} - {WANTED[type(command)]} for one in been), (
                    "nobody ended it"
                )
        elif answer == "expired":
            assert not isinstance(command, Hold), "who reserves is told of the hold"
            assert any(one.state == "expired" for one in been), "an expiry is journaled before it is told"
        elif answer == "hold_not_found":
            assert not kept, "a hold that is remembered was not found"
        elif answer == "insufficient_funds":
            who = command.tenant, command.user
            moments = auditor.balances.get(who, [0])[max(0, since.balances - 1) :]
            assert not kept, "what was held is answered again"
            assert min(moments) < command.amount_fen, f"{who} was refused, had {moments} meanwhile"
        else:
            assert answer == "rate_limited", answer
            stamp_ms = since.stamps.get(stream, 0)
            mine = [
                name
                for name in self._of_stream.get(stream, ())
                if any(
                    one.who == (command.tenant, command.user) and one.is_remembered(stamp_ms, self._keep_ms)
                    for one in self.lives[name].since(since.seq)
                )
            ]
            assert not kept, "what was held is answered again"
            assert len(mine) >= self._user_max, "nobody has so many holds"
