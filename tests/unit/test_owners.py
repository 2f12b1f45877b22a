"""Every bound of configs/ has an owner; a shared one can be filled by no user, and by no tenant, for others.

In each place with a shared bound one user takes until they are refused, then another user of the same tenant must get
a place; then many users of that tenant take until they are refused, and another tenant's must get one.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import msgspec
import pytest

from actors.kernel.bounds import Owner, Section, Shared, bounds_of
from actors.kernel.messages import Refused
from actors.kinds import KINDS
from actors.wallet.events import SandboxCredited
from actors.wallet.rules import WalletRules
from cluster.config import Settings, load
from cluster.sections import GatewayFair
from tests.unit import gateway_places, places
from tests.unit.places import WHOLE, Take, applied, wallet
from tests.unit.samples import DAY_MS, NOW_MS, order, terms

REMEMBERED: dict[str, dict[str, Callable[[], Take]]] = {
    "accounts_max": {"accounts": places.accounts},
    "commitments": {"commitments": places.commitments},
    "idempotency_keys_max": {"keys": places.keys},
    "holds": {"holds": places.holds},
    "asks": {"asks": places.asks},
    "lishi": {"lishi": places.lishi},
    "notes": {"notes": places.notes},
    "opened_ahead_max": {"ahead": places.ahead},
    "photos_bytes_max": {"photos": places.photos},
    "unsettled_max": {"fundings": places.fundings, "payouts": places.payouts},
}
"""Shared bound -> the tables of machines where it holds, which snapshots bring back."""

PASSING: dict[str, dict[str, Callable[[], Take]]] = {
    "commit_events_max": {"staged": places.staged},
    "gateway_queue_max": {"sends": gateway_places.queued_sends, "grabs": gateway_places.queued_grabs},
    "photos_uploading_max": {"uploads": gateway_places.uploads},
    "requests_max": {"requests": gateway_places.requests},
    "streams_max": {"streams": gateway_places.streams},
}
"""The same of what is only under way."""

CACHES: dict[str, Callable[[], gateway_places.Cache]] = {
    "token_cache_max": gateway_places.tokens,
    "ended_packets_max": gateway_places.ended_packets,
    "ended_bytes_max": gateway_places.ended_bytes,
}
"""Where nobody is refused, but something older goes."""


def params(tables: dict[str, dict[str, Callable[[], Take]]]) -> list[Any]:
    """Return a parameter for each place."""
    return [pytest.param(make, id=f"{bound}-{name}") for bound, made in tables.items() for name, make in made.items()]


PLACES = params(REMEMBERED | PASSING)
OF_USERS = [one for one in PLACES if one.values[0] is not places.accounts]
"""An account is one user's, who has no second."""


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """End what a place has left under way."""
    yield
    gateway_places.end()


def fill(take: Take, tenant: str, users: list[str], numbers: Any) -> int:
    """Take places for these users until each is refused; return how many they got."""
    got = 0
    for user in users:
        for _ in range(WHOLE + 1):
            answer = take(tenant, user, next(numbers))
            if isinstance(answer, Refused):
                break
            got += 1
        else:
            raise AssertionError(f"{user} of {tenant} is never refused")
    return got


@pytest.mark.parametrize("make", OF_USERS)
def test_one_user_who_takes_all_they_get_leaves_others_their_places(make: Callable[[], Take]) -> None:
    take, numbers = make(), count()
    assert 1 <= fill(take, "t1", ["greedy"], numbers) < WHOLE // 2
    assert not isinstance(take("t1", "other", next(numbers)), Refused)


@pytest.mark.parametrize("make", PLACES)
def test_one_tenant_whose_users_take_all_they_get_leaves_other_tenants_their_places(make: Callable[[], Take]) -> None:
    take, numbers = make(), count()
    got = fill(take, "t1", [f"u{number}" for number in range(WHOLE)], numbers)
    assert 1 <= got <= WHOLE // 2
    assert not isinstance(take("t2", "u0", next(numbers)), Refused)


@pytest.mark.parametrize("make", [pytest.param(make, id=bound) for bound, make in CACHES.items()])
def test_one_tenant_who_fills_a_cache_pushes_nothing_of_another_tenant_out(
    make: Callable[[], gateway_places.Cache],
) -> None:
    cache = make()
    cache.put("t2", 0)
    for number in range(1, 3 * WHOLE):
        cache.put("t1", number)
    assert cache.has("t2", 0)
    assert cache.has("t1", 3 * WHOLE - 1)
    assert not cache.has("t1", 1)


def sections() -> dict[str, type[msgspec.Struct]]:
    """Return every section of configs/ by its path: those of the kinds are their rules."""
    settings = load()
    shared = {name: type(getattr(settings, name)) for name in Settings.model_fields if name not in KINDS}
    own = {f"{kind.name}.rules": kind.rules for kind in KINDS.values()}
    parts = {"fair"}
    return {name: found for name, found in (shared | own).items() if issubclass(found, Section) and name not in parts}


def shared_bounds(section: type[msgspec.Struct]) -> set[str]:
    """Name the shared bounds of a section; of a group the group, which has one."""
    found = [bound.path.partition(".")[0] for bound in bounds_of(section) if bound.owner is Owner.SHARED]
    assert len(found) == len(set(found)), f"{section.__name__}: a group has one shared bound"
    return set(found)


def parts_of(section: type[msgspec.Struct]) -> set[str]:
    """Name the bounds that `fair` divides, and the groups that have a `fair` of their own."""
    fields = msgspec.structs.fields(section)
    [fair] = [field.type for field in fields if field.name == "fair"]
    groups = {field.name for field in fields if "fair" in getattr(field.type, "__struct_fields__", ())}
    return {field.name for field in msgspec.structs.fields(fair)} | groups


def test_every_bound_has_an_owner_and_every_shared_one_its_parts() -> None:
    found = sections()
    unowned = [f"[{name}] {bound.path}" for name in found for bound in bounds_of(found[name]) if bound.owner is None]
    assert sorted(unowned) == [], "every number is declared with its owner"
    own = {name: section for name, section in found.items() if "." in name}
    of_kinds = set()
    for name, section in own.items():
        assert shared_bounds(section) == parts_of(section), f"[{name}]: each shared bound has its parts"
        of_kinds |= shared_bounds(section)
    of_gateways = {bound for name in found.keys() - own.keys() for bound in shared_bounds(found[name])}
    assert of_gateways == {field.name for field in msgspec.structs.fields(GatewayFair)}
    assert of_kinds | of_gateways == {*REMEMBERED, *PASSING, *CACHES}, "every shared bound is filled here"


def test_a_bound_without_an_owner_is_found() -> None:
    class Group(Section, frozen=True):
        deep_max: Shared
        bare_max: int

    class Rules(Section, frozen=True):
        shared_max: Shared
        group: Group

    owners = {bound.path: bound.owner for bound in bounds_of(Rules)}
    assert owners == {"shared_max": Owner.SHARED, "group.deep_max": Owner.SHARED, "group.bare_max": None}


def test_the_shipped_parts_are_well_below_the_whole() -> None:
    settings = load()
    found = [settings.fair, *(section.rules.fair for section in settings.kinds.values())]
    parts_by_name = [pair for fair in found for pair in msgspec.structs.asdict(fair).items()]
    for name, parts in [*parts_by_name, ("holds", settings.rules(WalletRules).holds.fair)]:
        assert parts.tenant <= 50, f"{name}: two tenants have room beside each other"
        if parts.user < 100:
            assert parts.user * 2 <= parts.tenant, f"{name}: a tenant is more than two users"


def test_a_full_part_is_free_again_once_what_fills_it_is_over() -> None:
    take_days = wallet("idempotency_keys_max", idempotency_keys_max=WHOLE)
    take_days.apply(SandboxCredited("t1", "a", 100_000, NOW_MS))

    def send(number: int, at_ms: int) -> Any:
        wanted = order(tenant="t1", user="a", key=f"k{number}")
        return applied(take_days, take_days.decide_send(wanted, terms(f"p{number}"), at_ms))

    assert [isinstance(send(number, NOW_MS), Refused) for number in range(3)] == [False, False, True]
    assert isinstance(send(3, NOW_MS + DAY_MS - 1), Refused)
    assert not isinstance(send(4, NOW_MS + DAY_MS), Refused)


@pytest.mark.parametrize("make", [one for one in params(REMEMBERED) if one in OF_USERS])
def test_a_snapshot_holds_what_the_parts_are_counted_from(make: Callable[[], Take]) -> None:
    """A machine restored from its own snapshot refuses whom it refused before, and nobody else."""
    take, numbers = make(), count()
    fill(take, "t1", ["greedy"], numbers)
    machine = next(cell.cell_contents for cell in take.__closure__ or () if hasattr(cell.cell_contents, "restore"))
    machine.restore(machine.snapshot())
    assert isinstance(take("t1", "greedy", next(numbers)), Refused)
    assert not isinstance(take("t1", "other", next(numbers)), Refused)
