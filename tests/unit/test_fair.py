"""The rule of shared bounds by itself: who is refused when, and that counts follow from what was added and removed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.bounds import Percent
from actors.kernel.quota import FULL, TENANT_FULL, USER_FULL, Bound, Counts, Lapsing, Named
from actors.refusals import Refusal

BOUND = Bound(whole=10, user=2, tenant=5)


def test_a_users_part_then_a_tenants_then_the_whole_is_full() -> None:
    counts = Counts(BOUND)
    for user in ("a", "a", "b", "b"):
        assert counts.refusal("t1", user) is None
        counts.add("t1", user)
    assert counts.refusal("t1", "a") == USER_FULL
    counts.add("t1", "c")
    assert counts.refusal("t1", "d") == TENANT_FULL
    for user in ("a", "b", "c", "d", "e"):
        assert counts.refusal("t2", user) is None
        counts.add("t2", user)
    assert counts.refusal("t3", "a") == FULL
    assert (USER_FULL.code, TENANT_FULL.code, FULL.code) == (
        Refusal.RATE_LIMITED,
        Refusal.OVERLOADED,
        Refusal.OVERLOADED,
    )


def test_what_counts_for_several_fits_as_a_whole_or_not_at_all() -> None:
    counts = Counts(BOUND)
    counts.add("t1", "a")
    assert counts.refusal("t1", "a", 2) == USER_FULL
    assert counts.refusal("t1", "b", 2) is None
    assert Counts(BOUND).refusal("t1", "b", 3) == USER_FULL
    assert Counts(BOUND).refusal("t1", "", 6) == TENANT_FULL


@pytest.mark.parametrize(
    ("whole", "user", "tenant"), [(1, 1, 1), (3, 1, 1), (100, 1, 50), (1_000_000, 10_000, 500_000)]
)
def test_a_part_is_its_percentage_and_at_least_one(whole: int, user: int, tenant: int) -> None:
    assert Bound.of(whole, Percent(1, 50)) == (whole, user, tenant)


def test_what_is_over_counts_no_more_although_nothing_else_happens() -> None:
    lapsing = Lapsing(BOUND, after_ms=100)
    lapsing.add(1_000, "t1", "a")
    lapsing.add(1_050, "t1", "a")
    assert lapsing.refusal(1_099, "t1", "a") == USER_FULL
    assert lapsing.refusal(1_100, "t1", "a") is None
    assert lapsing.refusal(1_100, "t1", "a", 2) == USER_FULL
    assert lapsing.refusal(1_150, "t1", "a", 2) is None


def test_a_named_one_counts_until_it_ends_or_is_over() -> None:
    named = Named(BOUND)
    named.add("x", 1_000, "t1", "a", 2)
    assert named.refusal(999, "t1", "a") == USER_FULL
    named.shorten("x", 900)
    assert named.refusal(900, "t1", "a", 2) is None
    named.add("y", 1_000, "t1", "a", 2)
    named.end("y")
    named.end("y")
    assert named.refusal(900, "t1", "a", 2) is None
    assert named.counts.total == 0


WHO = st.tuples(st.sampled_from(["t1", "t2"]), st.sampled_from(["a", "b", "c"]))


@given(st.lists(st.tuples(WHO, st.integers(1, 3), st.booleans())))
def test_whatever_comes_and_goes_nobody_is_let_beyond_a_part(steps: list[tuple[tuple[str, str], int, bool]]) -> None:
    counts, held = Counts(BOUND), Counter[tuple[str, str]]()
    for who, count, comes in steps:
        of_tenant = sum(many for (tenant, _), many in held.items() if tenant == who[0])
        fits = (
            held[who] + count <= BOUND.user
            and of_tenant + count <= BOUND.tenant
            and held.total() + count <= BOUND.whole
        )
        if comes:
            assert (counts.refusal(*who, count) is None) == fits
            if fits:
                counts.add(*who, count)
                held[who] += count
        elif held[who] >= count:
            counts.remove(*who, count)
            held[who] -= count
        assert counts.total == held.total()
