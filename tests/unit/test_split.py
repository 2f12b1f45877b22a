"""Split and fairness: exact shares from a committed seed, the same for ever, favouring nobody."""

import hashlib
import hmac
import math
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.packet.split import can_split, split
from actors.transfers.seeds import Draw, SeedCommitments, commitment_of, seed_of
from tests.unit.samples import KEYS, SEED_KEY

ALGORITHMS = ["double-mean/1", "even/1"]


def seed(number: int) -> bytes:
    return number.to_bytes(32, "big")


@st.composite
def packets(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Draw (total, count, lo, hi) that can be split."""
    count = draw(st.integers(1, 100))
    lo = draw(st.integers(1, 50))
    hi = lo + draw(st.integers(0, 20_000))
    return draw(st.integers(lo * count, hi * count)), count, lo, hi


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(packets(), st.binary(min_size=32, max_size=32))
@example((100, 100, 1, 20_000), bytes(32))
@example((2_000_000, 100, 1, 20_000), bytes(32))
@example((1_999_999, 100, 1, 20_000), bytes(32))
@example((101, 100, 1, 2), bytes(32))
@example((1, 1, 1, 1), bytes(32))
def test_shares_sum_to_the_total_and_keep_floor_and_cap(
    algorithm: str, packet: tuple[int, int, int, int], seed: bytes
) -> None:
    total, count, lo, hi = packet
    shares = split(algorithm, seed, total, count, lo, hi)
    assert len(shares) == count
    assert sum(shares) == total
    assert lo <= min(shares)
    assert max(shares) <= hi
    assert split(algorithm, seed, total, count, lo, hi) == shares, "the same seed gives the same shares"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("total", "count", "hi"), [(1_003, 10, 20_000), (175, 10, 20), (13, 10, 20_000)])
def test_every_position_has_the_same_mean(algorithm: str, total: int, count: int, hi: int) -> None:
    seeds = 3_000
    sums, squares = [0] * count, [0] * count
    for number in range(seeds):
        for place, share in enumerate(split(algorithm, seed(number), total, count, 1, hi)):
            sums[place] += share
            squares[place] += share * share
    for added, squared in zip(sums, squares, strict=True):
        mean = added / seeds
        error = math.sqrt((squared / seeds - mean * mean) / seeds)
        assert abs(mean - total / count) <= 4 * error


def test_shuffled_shares_have_the_same_spread_at_every_position() -> None:
    total, count, seeds = 1_000, 10, 3_000
    spread = {}
    for algorithm in ALGORITHMS:
        squares = [0] * count
        for number in range(seeds):
            for place, share in enumerate(split(algorithm, seed(number), total, count, 1, 20_000)):
                squares[place] += (share - 100) ** 2
        spread[algorithm] = max(squares) / min(squares)
    assert spread["even/1"] < 1.25
    assert spread["double-mean/1"] > 1.5, "what the shuffle is for"


def test_shares_differ_by_seed() -> None:
    assert len({tuple(split("even/1", seed(n), 1_000, 5, 1, 20_000)) for n in range(100)}) == 100


def test_an_equal_packet_divides_or_is_a_bug() -> None:
    assert split("equal/1", seed(1), 1_000, 5, 1, 20_000) == [200] * 5
    with pytest.raises(AssertionError, match="divides"):
        split("equal/1", seed(1), 1_001, 5, 1, 20_000)


@pytest.mark.parametrize(
    ("total", "count", "lo", "hi", "possible"),
    [(5, 5, 1, 20, True), (4, 5, 1, 20, False), (100, 5, 1, 20, True), (101, 5, 1, 20, False), (1, 0, 1, 20, False)],
)
def test_what_cannot_be_split_is_known_before(total: int, count: int, lo: int, hi: int, possible: bool) -> None:
    assert can_split(total, count, lo, hi) is possible
    if not possible:
        with pytest.raises(AssertionError):
            split("even/1", seed(1), total, count, lo, hi)


def test_an_unknown_algorithm_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="no such algorithm"):
        split("even/2", seed(1), 100, 5, 1, 20)


def test_golden_shares_never_change() -> None:
    """A packet sent today must still be provable in years: these values only ever get additions."""
    assert split("even/1", seed(1), 1_000, 5, 1, 20_000) == GOLDEN["even/1"]
    assert split("double-mean/1", seed(1), 1_000, 5, 1, 20_000) == GOLDEN["double-mean/1"]
    assert split("even/1", seed(2), 103, 10, 1, 20) == GOLDEN["even/1 capped"]


GOLDEN = {
    "even/1": [189, 95, 92, 329, 295],
    "double-mean/1": [329, 295, 92, 95, 189],
    "even/1 capped": [3, 17, 12, 18, 2, 11, 15, 1, 18, 6],
}


# The draw.


def words(*given_words: int) -> Iterator[int]:
    return iter(given_words)


def test_a_word_of_the_incomplete_stretch_is_rejected_and_never_folded_back() -> None:
    draw = Draw(bytes(32))
    limit = 2**32 - 2**32 % 10
    draw._words = words(limit, 2**32 - 1, 7, limit - 1)
    assert draw.below(10) == 7
    assert draw.below(10) == (limit - 1) % 10 == 9


def test_a_draw_over_more_than_half_the_words_is_uniform() -> None:
    """Modulo alone would draw the lower third twice as often."""
    n = 3 * 2**30
    draw = Draw(seed(3))
    below_a_third = sum(draw.below(n) < 2**30 for _ in range(3_000))
    assert abs(below_a_third - 1_000) <= 4 * math.sqrt(3_000 * (1 / 3) * (2 / 3))


def test_a_choice_of_one_takes_no_word() -> None:
    one, other = Draw(seed(4)), Draw(seed(4))
    assert one.below(1) == 0
    assert [one.below(1_000) for _ in range(20)] == [other.below(1_000) for _ in range(20)]


@pytest.mark.parametrize("n", [0, 2**32 + 1])
def test_a_draw_that_cannot_be_uniform_is_a_bug(n: int) -> None:
    with pytest.raises(AssertionError):
        Draw(bytes(32)).below(n)


def test_the_stream_of_words_is_the_documented_one() -> None:
    digest = hmac.new(seed(5), (0).to_bytes(8, "big"), hashlib.sha256).digest()
    digest += hmac.new(seed(5), (1).to_bytes(8, "big"), hashlib.sha256).digest()
    wanted = [int.from_bytes(digest[i : i + 4], "big") for i in range(0, 64, 4)]
    draw = Draw(seed(5))
    assert [draw.below(2**32) for _ in range(16)] == wanted


# The commitment.


def test_a_commitment_is_the_documented_hash_of_algorithm_packet_and_seed() -> None:
    wanted = hashlib.sha256(b"even/1" + b"\x00" + b"p1" + b"\x00" + seed(6)).digest()
    assert commitment_of("even/1", "p1", seed(6)) == wanted
    assert commitment_of("even/1", "p2", seed(6)) != wanted
    assert commitment_of("equal/1", "p1", seed(6)) != wanted


def test_a_seed_follows_from_platform_key_and_packet_and_nothing_else() -> None:
    assert seed_of(SEED_KEY, "p1") == hmac.new(SEED_KEY, b"seed\x00p1", hashlib.sha256).digest()
    assert seed_of(SEED_KEY, "p1") != seed_of(SEED_KEY, "p2")
    assert seed_of(SEED_KEY, "p1") != seed_of(bytes(32), "p1")


@pytest.mark.parametrize("algorithm", ["even/1", "equal/1"])
def test_what_is_committed_is_the_seed_that_will_be_used(algorithm: str) -> None:
    assert SeedCommitments(KEYS).commit(algorithm, "p1") == (
        "k1",
        commitment_of(algorithm, "p1", seed_of(SEED_KEY, "p1")),
    )
