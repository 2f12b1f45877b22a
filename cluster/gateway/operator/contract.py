"""Contract of operators over HTTP: switches, a sandbox's users and clock, health.

Amounts are integer fen, instants integer Unix milliseconds. The audit and the metrics are told in their own structs.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from actors.kernel.names import is_tenant
from cluster.config import Settings
from cluster.gateway.contract import USER, BoundsOf, FieldBound, RequestBody, Text, at_most

_TENANT = FieldBound(
    {"pattern": "^[a-z0-9][a-z0-9-]*$"},
    is_tenant,
    "lower-case letters, digits and hyphens, at most 32",
)


class UserBody(RequestBody):
    """A sandbox user to make."""

    user: Text
    tenant: Annotated[str, Meta(min_length=1, max_length=32)]
    balance_fen: Annotated[int, Meta(ge=0, le=2**53 - 1)]


class CreatedUser(msgspec.Struct):
    """A sandbox user and a fresh token."""

    user: str
    tenant: str
    token: str


class ClockBody(RequestBody):
    """How far the platform's clock moves forward."""

    advance_ms: Annotated[int, Meta(ge=0, le=10 * 366 * 86_400_000)]


class ClockState(msgspec.Struct):
    """How far the platform's clock is ahead of the wall clock."""

    offset_ms: int


class LeverBody(RequestBody):
    """Whether something is to be paused."""

    paused: bool


class LeverState(msgspec.Struct):
    """What a lever was set to, durably."""

    lever: Literal["sends", "grabs", "packet"]
    packet_id: str | None
    paused: bool


class PausedBody(msgspec.Struct, frozen=True):
    """A lever that is on. `missing`: streams that should have it and do not; set it again."""

    lever: Literal["sends", "grabs", "packet"]
    packet_id: str | None
    since_ms: int
    by: str
    missing: list[str]


class LeversBody(msgspec.Struct):
    """What is paused."""

    paused: list[PausedBody]


class ReadyBody(msgspec.Struct):
    """The system is ready to serve money."""

    status: Literal["ready"]
    system: str


class AliveBody(msgspec.Struct):
    """This replica runs."""

    status: Literal["alive"]


def bounds(settings: Settings) -> BoundsOf:
    """Return the configured bounds of fields."""
    return {
        UserBody: {
            "user": USER,
            "tenant": _TENANT,
            "balance_fen": at_most(settings.limits.sandbox_balance_fen_max, "fen"),
        }
    }


LEVERS: dict[str, Any] = {"pause": {"paused": True}, "resume": {"paused": False}}
USERS: dict[str, Any] = {"user": {"user": "mei", "tenant": "wechat", "balance_fen": 100_000}}
CLOCKS: dict[str, Any] = {"a day": {"advance_ms": 86_400_000}}
READY = {"status": "ready", "system": "8a1c0d5e2f7b4f0f9c3e6d1b5a7f2e4c"}
ALIVE = {"status": "alive"}
