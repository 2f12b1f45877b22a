"""Quotas: who holds how much of what the people of one wallet stream share, and whether more of it is for them. Pure.

Every table of the stream is counted by its owners (`actors.kernel.quota`): sends remembered under their keys, fundings
that are not settled, accounts, commitments, lishi and asks by who asks, notes by who wrote them, photos by who
owns them. The counts follow from the state: they are made anew from a snapshot's, and kept by events.
"""

from typing import TYPE_CHECKING, Any

from actors.kernel.messages import Refused
from actors.kernel.quota import Bound, Counts, Lapsing, Named
from actors.transfers.funding import PacketFunded
from actors.transfers.ids import whole_id
from actors.wallet.commands import KeepPhoto
from actors.wallet.events import (
    Committed,
    LishiAsked,
    LishiClosed,
    LishiCounted,
    Noted,
    PhotoKept,
    SandboxCredited,
)

if TYPE_CHECKING:
    from actors.wallet.machine import WalletState
    from actors.wallet.rules import WalletRules

PHOTO_BYTES_MIN = 65_536
"""A photo counts for as much as this at least, so that small ones are bounded too."""

Fresh = Committed | LishiAsked | LishiCounted | Noted | SandboxCredited
"""An event, only decided on, that takes a place in a table."""


class WalletHolders:
    """Who holds what in one stream."""

    def __init__(self, rules: "WalletRules", state: "WalletState") -> None:
        fair = rules.fair
        self._rules = rules
        self._keys = Lapsing(Bound.of(rules.idempotency_keys_max, fair.idempotency_keys_max), rules.idempotency_ms)
        self._unsettled = Counts(Bound.of(rules.unsettled_max, fair.unsettled_max))
        self._accounts = Counts(Bound.of(rules.accounts_max, fair.accounts_max))
        self._commitments = Named(Bound.of(rules.commitments.stream_max, fair.commitments))
        self._lishi = Named(Bound.of(rules.lishi.total_max, fair.lishi))
        self._asks = Lapsing(Bound.of(rules.asks.total_max, fair.asks), rules.asks.period_ms)
        self._notes = Lapsing(Bound.of(rules.notes.total_max, fair.notes), rules.notes.keep_ms)
        self._photos = Counts(Bound.of(rules.photos_bytes_max, fair.photos_bytes_max))
        self._rebuild(state)

    def decide_photo(self, keep: KeepPhoto, prior: PhotoKept | None, now_ms: int) -> PhotoKept | Refused | None:
        """Count what a photo takes on the disk; None: as much of it is counted already."""
        kept = PhotoKept(keep.photo_id, keep.tenant, keep.user, max(keep.size_bytes, PHOTO_BYTES_MIN), now_ms)
        if prior is not None and prior.size_bytes >= kept.size_bytes:
            return None
        more = kept.size_bytes - (0 if prior is None else prior.size_bytes)
        return self._photos.refusal(keep.tenant, keep.user, more) or kept

    def refusal_of_sends(self, tenant: str, user: str, count: int, now_ms: int) -> Refused | None:
        """Say no to so many more fundings of one user; None: they fit."""
        return self._keys.refusal(now_ms, tenant, user, count) or self._unsettled.refusal(tenant, user, count)

    def refusal(self, event: Fresh, now_ms: int) -> Refused | None:
        """Say no to what was decided but has no room; None: it fits."""
        match event:
            case Committed():
                return self._commitments.refusal(now_ms, event.tenant, event.user, len(event.commitments))
            case LishiAsked():
                return self._lishi.refusal(now_ms, event.tenant, event.asker)
            case LishiCounted():
                return self._asks.refusal(now_ms, event.tenant, event.asker)
            case Noted():
                return self._notes.refusal(now_ms, event.tenant, event.user)
            case SandboxCredited():
                return self._accounts.refusal(event.tenant, "")

    # Apply: writes only, once the state has taken the event in.

    def funded(self, event: PacketFunded) -> None:
        """Count a funding; the commitment that it used is used up."""
        self._keys.add(event.at_ms, event.tenant, event.sender)
        self._unsettled.add(event.tenant, event.sender)
        if event.named_by_key:
            self._commitments.end(whole_id(event.packet_id))

    def settled(self, fundings: list[PacketFunded]) -> None:
        """Count these as settled."""
        for one in fundings:
            self._unsettled.remove(one.tenant, one.sender)

    def photo(self, kept: PhotoKept, prior: PhotoKept | None) -> None:
        """Count a photo, in the place of what was counted of it before."""
        if prior is not None:
            self._photos.remove(prior.tenant, prior.user, prior.size_bytes)
        self._photos.add(kept.tenant, kept.user, kept.size_bytes)

    def opened(self, tenant: str, accounts: int = 1) -> None:
        """Count new accounts."""
        self._accounts.add(tenant, "", accounts)

    def take(self, event: Any, state: "WalletState") -> None:
        """Count what any other event has added to a table."""
        match event:
            case Committed():
                self._commit(event)
            case LishiAsked():
                until_ms = event.lapses_at_ms + self._rules.lishi.keep_ms
                self._lishi.lapse(event.at_ms)
                self._lishi.add(event.lishi_id, until_ms, event.tenant, event.asker)
            case LishiClosed():
                if event.outcome != "lapsed":
                    self._lishi.shorten(event.lishi_id, event.at_ms + self._rules.lishi.keep_ms)
            case LishiCounted():
                self._asks.add(event.at_ms, event.tenant, event.asker)
            case Noted() if not state.notes.all[event.packet_id, event.user].changes:  # else it replaced an older one
                self._notes.add(event.at_ms, event.tenant, event.user)

    def _commit(self, made: Committed) -> None:
        self._commitments.lapse(made.at_ms)
        until_ms = made.expires_at_ms
        self._commitments.add(made.packet_id, until_ms, made.tenant, made.user, len(made.commitments))

    def _rebuild(self, state: "WalletState") -> None:
        # One that is past and has not arrived is remembered out of its order, and counts as unsettled alone.
        for funding in sorted(state.fundings.values(), key=lambda one: one.at_ms):
            self._keys.add(funding.at_ms, funding.tenant, funding.sender)
        for sent in state.book.sent.values():
            for funding in sent.unsettled.values():
                self._unsettled.add(funding.tenant, funding.sender)
        for tenant, users in state.accounts.items():
            self.opened(tenant, len(users))
        for made in state.commitments.values():
            self._commit(made)
        for lishi in state.lishi.all.values():
            self._lishi.add(lishi.lishi_id, lishi.ended_ms + self._rules.lishi.keep_ms, lishi.tenant, lishi.asker)
        for kept in state.photos.values():
            self.photo(kept, None)
        for (tenant, asker, _), ask in state.asks.all.items():
            self._asks.add(ask.at_ms, tenant, asker)
        for note in state.notes.all.values():
            self._notes.add(note.since_ms, note.tenant, note.user)
