"""Owners: who can fill each bound of configs/, and which part of a shared bound one user and one tenant may hold.

Every field of a section stands in `OWNERS`; every shared one has its parts in `Fair`. A new bound without an owner, or
a shared one without parts, fails a test, and so does a shared one that one user or one tenant can fill for others.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from actors.kernel.quota import Percent


class Owner(StrEnum):
    """Who can fill a bound."""

    SHARED = "many users of many tenants: each has a part, in [fair]"
    REQUEST = "one request, or one line of one: it is that one's size or value"
    PACKET = "the takers of one packet, which its sender pays for and its own tenant's users fill"
    OWN = "one user, one pair of users, or one connection: it is theirs alone"
    OPERATOR = "operators, whom nobody else is let in beside"
    INTERNAL = "the platform itself: the size of a batch, a step or a piece, beyond which work waits for its next turn"
    PERIOD = "nobody: a time, a rate or a threshold"
    NETWORK = "anybody who reaches the port: nobody is known before a head is read, and deadlines empty it"
    OUTER = "nobody before another bound is met, above which it is kept"


class Parts(BaseModel):
    """Parts of one shared bound, in percent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: int = Field(default=100, ge=1, le=100)
    tenant: int = Field(default=100, ge=1, le=100)

    @property
    def percent(self) -> Percent:
        """The same for the rule."""
        return Percent(self.user, self.tenant)


class Fair(BaseModel):
    """Of each shared bound: what one user may hold, and all users of one tenant; see `actors.kernel.quota`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accounts_max: Parts
    commit_events_max: Parts
    commitments_max: Parts
    ended_bytes_max: Parts
    ended_packets_max: Parts
    gateway_queue_max: Parts
    holds_max: Parts
    idempotency_keys_max: Parts
    lishi_counted_max: Parts
    lishi_max: Parts
    notes_max: Parts
    opened_ahead_max: Parts
    photos_bytes_max: Parts
    photos_uploading_max: Parts
    requests_max: Parts
    streams_max: Parts
    token_cache_max: Parts
    unsettled_max: Parts


_LIMITS = {
    "share_fen_min": Owner.REQUEST,
    "share_fen_max": Owner.REQUEST,
    "total_fen_max": Owner.REQUEST,
    "count_max": Owner.REQUEST,
    "greeting_chars_max": Owner.REQUEST,
    "packet_lifetime_ms": Owner.PERIOD,
    "sandbox_balance_fen_max": Owner.REQUEST,
    "sandbox_clock_ms_max": Owner.OPERATOR,
    "phrase_tries_max": Owner.OWN,
    "phrase_tries_ms": Owner.PERIOD,
    "crowd_count_max": Owner.REQUEST,
    "crowd_total_fen_max": Owner.REQUEST,
    "crowd_opens_ms_max": Owner.REQUEST,
    "sponsor_chars_max": Owner.REQUEST,
    "bursts_max": Owner.REQUEST,
    "burst_ms_min": Owner.REQUEST,
    "burst_ms_max": Owner.REQUEST,
    "nonce_chars_max": Owner.REQUEST,
    "commitments_unused_max": Owner.OWN,
    "commitment_ms": Owner.PERIOD,
    "hold_lifetime_ms_max": Owner.PERIOD,
    "lishi_lifetime_ms": Owner.PERIOD,
    "lishi_cooldown_ms": Owner.PERIOD,
    "lishi_open_max": Owner.OWN,  # of one person's answer: of one asker and one asked at most one is open
    "lishi_asks_max": Owner.OWN,
    "note_chars_max": Owner.REQUEST,
    "note_changes_max": Owner.OWN,
    "notes_per_packet_max": Owner.PACKET,  # one a taker
    "photo_price_fen_min": Owner.REQUEST,
    "photo_price_fen_max": Owner.REQUEST,
}

_BOUNDS = {
    "batch_size_max": Owner.REQUEST,
    "body_bytes_max": Owner.REQUEST,
    "body_parts_max": Owner.REQUEST,
    "batch_bytes_max": Owner.REQUEST,
    "commit_events_max": Owner.SHARED,
    "accounts_max": Owner.SHARED,
    "unsettled_max": Owner.SHARED,
    "opened_ahead_max": Owner.SHARED,
    "holds_max": Owner.SHARED,
    "holds_ms": Owner.PERIOD,
    "idempotency_keys_max": Owner.SHARED,
    "idempotency_ms": Owner.PERIOD,
    "statement_lines_max": Owner.OWN,
    "expire_batch_max": Owner.INTERNAL,
    "settle_batch_max": Owner.INTERNAL,
    "passivate_batch_max": Owner.INTERNAL,
    "split_apart_min": Owner.PERIOD,
    "dealt_ahead_max": Owner.PACKET,
    "winners_max": Owner.PACKET,
    "phrase_missers_max": Owner.PACKET,  # one row a user; who says the phrase needs none
    "commitments_max": Owner.SHARED,
    "list_lines_max": Owner.REQUEST,
    "proof_lines_max": Owner.REQUEST,
    "crowd_count_min": Owner.PERIOD,
    "lane_count_max": Owner.REQUEST,
    "lishi_max": Owner.SHARED,
    "lishi_counted_max": Owner.SHARED,
    "notes_max": Owner.SHARED,
    "notes_ms": Owner.PERIOD,
    "seal_elements_max": Owner.INTERNAL,
    "seal_bytes_max": Owner.INTERNAL,
    "token_cache_max": Owner.SHARED,
    "gateway_queue_max": Owner.SHARED,
    "gateway_batch_max": Owner.INTERNAL,
    "requests_max": Owner.SHARED,
    "ongoing_requests_max": Owner.OUTER,
    "queued_requests_max": Owner.OUTER,
    "photo_bytes_max": Owner.REQUEST,
    "photo_pixels_max": Owner.REQUEST,
    "photo_memory_bytes_max": Owner.REQUEST,
    "photos_bytes_max": Owner.SHARED,
    "photos_uploading_max": Owner.SHARED,
    "photos_making_max": Owner.INTERNAL,  # turns among at most `photos_uploading_max`
}

_STREAM = {
    "stream_inflight_max": Owner.OWN,
    "streams_max": Owner.SHARED,
    "line_bytes_max": Owner.REQUEST,
    "stream_age_ms_max": Owner.PERIOD,
    "stream_tick_ms": Owner.PERIOD,
}

_DOOR = {
    "connections_max": Owner.NETWORK,
    "other_connections_max": Owner.NETWORK,
    "head_ms": Owner.PERIOD,
    "keep_alive_ms": Owner.PERIOD,
}

_CACHE = {"ended_packets_max": Owner.SHARED, "ended_bytes_max": Owner.SHARED}

_OVERLOAD = {
    "queueing_ms_target": Owner.PERIOD,
    "window_ms": Owner.PERIOD,
    "window_requests_max": Owner.INTERNAL,
    "beat_ms": Owner.PERIOD,
    "down_percent": Owner.PERIOD,
    "up_percent": Owner.PERIOD,
    "refusing_percent_max": Owner.PERIOD,
    "retry_after_ms_min": Owner.PERIOD,
    "retry_after_ms_max": Owner.PERIOD,
    "tenants_max": Owner.OPERATOR,  # a tenant is one of the keys file, or of a gateway that stands in it
    "packet_queue_max": Owner.PACKET,  # a part of `gateway_queue_max`
}

OWNERS: dict[str, dict[str, Owner]] = {
    "limits": _LIMITS,
    "bounds": _BOUNDS,
    "stream": _STREAM,
    "door": _DOOR,
    "gateway_cache": _CACHE,
    "overload": _OVERLOAD,
}
"""Section of the configuration -> field -> owner. Sections that are not here bound nothing: places, periods, parts."""
