"""Load: what clients were told is read as it was meant, added up, and judged; a run that fell behind says so."""

import msgspec
import pytest

from cluster.client import BROKEN_CONTRACT, NO_ANSWER, GrabAnswer, ItemAnswer, PacketAnswer
from loadtest.history import GrabAttempt, SendAttempt, ViewAttempt
from loadtest.load import is_loopback
from loadtest.scenarios.answers import Answer, of_results, read_answer, repeat_after_ms
from loadtest.scenarios.load_profile import Clients, Profile
from loadtest.scenarios.orders import Item, TimedAnswer, user_name
from loadtest.scenarios.schedule import BATCH, GRAB, SEND, VIEW, Arrival, PlannedPacket
from loadtest.scenarios.tally import LoadTally
from loadtest.scenarios.verdict import paced

PACKET = PacketAnswer("p", "lucky", "open", 100, 2, user_name("r", 0), 0, 1, "c")
PARCEL = PlannedPacket("lucky", 100, 2)
SENDING = Arrival(0, 0, SEND, 0, (0,), PARCEL)


def tap(number: int, person: int) -> Arrival:
    return Arrival(300, number, GRAB, 0, (person,))


def told(
    arrival: Arrival, answer: Answer, status: int = 200, late_ms: float = 1.0, took_ms: float = 5.0
) -> TimedAnswer:
    return TimedAnswer(
        arrival.number, arrival.route, arrival.packet, arrival.attempt, arrival.due_ms, int(1_000 * late_ms),
        0, int(1_000 * took_ms), status, answer.code, answer.unknown, list(answer.items), answer.seen, "p",
    )  # fmt: skip


def tally(*lines: TimedAnswer) -> LoadTally:
    """Return what follows from these, after the packet was sent."""
    found = LoadTally("r")
    for line in (told(SENDING, Answer(seen=PACKET), 201), *lines):
        found.told(line)
    return found


def won(person: int, rank: int, amount_fen: int) -> Answer:
    return Answer(items=(Item(person, rank, amount_fen),))


# Reading answers


def problem(code: str, *, retryable: bool, retry_after_ms: int = 0) -> bytes:
    return msgspec.json.encode({"code": code, "retryable": retryable, "retry_after_ms": retry_after_ms})


def test_a_success_a_refusal_and_silence_are_three_things() -> None:
    one = tap(1, 5)
    share = msgspec.json.encode(GrabAnswer("p", "li", 2, 40, 9, False))
    assert read_answer(one, "li", 200, share, "") == Answer(items=(Item(5, 2, 40),))
    drained = read_answer(one, "li", 409, problem("drained", retryable=False), "")
    assert (drained.code, drained.unknown, drained.again) == ("drained", False, ())
    silence = read_answer(one, "li", 0, b"", "")
    assert (silence.code, silence.unknown, silence.again) == (NO_ANSWER, True, (5,))
    assert silence.items == (Item(5, code=NO_ANSWER, unknown=True),)


@pytest.mark.parametrize(
    ("arrival", "status", "content"),
    [
        (tap(1, 5), 200, b"{}"),
        (tap(1, 5), 200, msgspec.json.encode(GrabAnswer("p", "somebody else", 2, 40, 9, False))),
        (SENDING, 200, msgspec.json.encode(PACKET)),
        (SENDING, 201, msgspec.json.encode(msgspec.structs.replace(PACKET, total_fen=101))),
        (Arrival(0, 1, BATCH, 0, (5, 6)), 200, b'{"results": [{"code": "drained"}]}'),
    ],
)
def test_a_success_that_breaks_the_contract_is_none(arrival: Arrival, status: int, content: bytes) -> None:
    assert read_answer(arrival, "li", status, content, "").code == BROKEN_CONTRACT


def test_a_polite_client_waits_as_long_as_it_is_told_and_only_so_often() -> None:
    answer = read_answer(tap(1, 5), "li", 429, problem("overloaded", retryable=True, retry_after_ms=700), "1")
    polite = Clients(attempts_max=2)
    after_ms = repeat_after_ms(polite, 1, tap(1, 5), answer)
    assert after_ms is not None
    assert 700 <= after_ms <= 875
    assert after_ms == repeat_after_ms(polite, 1, tap(1, 5), answer)
    assert repeat_after_ms(polite, 1, tap(1, 5)._replace(attempt=1), answer) is None
    assert repeat_after_ms(Clients(polite=False), 1, tap(1, 5), answer) == 0


def test_only_those_of_a_batch_who_were_refused_for_now_ask_again() -> None:
    results = [ItemAnswer(10, 1), ItemAnswer(code="overloaded"), ItemAnswer(code="drained")]
    assert of_results((5, 6, 7), results).again == (6,)


# Adding up


def test_the_same_share_told_again_is_no_second_one() -> None:
    found = tally(told(tap(1, 5), won(5, 1, 60)), told(tap(2, 5), won(5, 1, 60)))
    assert (found.wins, [attempt.outcome for attempt in found.attempts]) == (1, ["ok"] * 3)


def test_what_users_were_told_becomes_attempts_with_times_and_identities() -> None:
    view = Arrival(400, 3, VIEW, 0, (5,))
    found = tally(told(tap(1, 5), won(5, 1, 60), late_ms=2, took_ms=7), told(view, Answer(seen=PACKET)))
    sent, grabbed, seen = found.attempts
    assert isinstance(sent, SendAttempt)
    assert (sent.user, sent.key, sent.packet_id, sent.open) == (user_name("r", 0), "load-r-0", "p", True)
    assert isinstance(grabbed, GrabAttempt)
    assert (grabbed.user, grabbed.packet_id, grabbed.rank) == (user_name("r", 5), "p", 1)
    assert (grabbed.asked_us, grabbed.answered_us) == (302_000, 309_000)
    assert isinstance(seen, ViewAttempt)
    assert (seen.total_fen, seen.count, seen.shares) == (100, 2, None)


def test_a_429_is_counted_apart_from_answers_and_from_failures() -> None:
    shed = Answer("overloaded", items=(Item(5, code="overloaded"),), again=(5,))
    silence = Answer(NO_ANSWER, True, items=(Item(6, code=NO_ANSWER, unknown=True),), again=(6,))
    found = tally(told(tap(1, 5), shed, 429), told(tap(2, 6), silence, 0))
    assert {(row.route, row.outcome): row.requests for row in found.rows()} == {
        (SEND, "answered"): 1,
        (GRAB, "429"): 1,
        (GRAB, "failed"): 1,
    }
    assert found.shed == 1
    assert list(found.failures) == ["grab: no_answer"]
    assert [attempt.outcome for attempt in found.attempts] == ["ok", "later", "unknown"]


def test_a_send_refused_after_silence_stays_unknown_until_it_is_told() -> None:
    found = LoadTally("r")
    found.told(told(SENDING, Answer(NO_ANSWER, True), 0))
    found.told(told(SENDING._replace(attempt=1), Answer("overloaded"), 429))
    assert list(found.unsure_sends) == [0]
    found.told(told(SENDING._replace(attempt=2), Answer(seen=PACKET), 201))
    assert not found.unsure_sends


# Pacing


def test_latency_counts_from_the_instant_at_which_it_was_to_be_asked() -> None:
    [row] = [row for row in tally(told(tap(1, 5), won(5, 1, 60), late_ms=900, took_ms=5)).rows() if row.route == GRAB]
    assert row.p50_ms == 905


def test_a_run_that_could_not_keep_to_its_schedule_says_so() -> None:
    schedule = [SENDING, *(tap(number, number) for number in range(1, 100))]
    lines = [told(tap(n, n), won(n, 1, 60), late_ms=250 if n > 90 else 1) for n in range(1, 97)]
    pace = tally(*lines).pace(schedule, late_ms_max=100)
    assert (pace.scheduled, pace.on_time, pace.late, pace.never, pace.without_packet) == (100, 91, 6, 3, 0)
    assert not paced(Profile(title="t"), pace).holds
    assert paced(Profile(title="t", on_time_share_min=0.91), pace).holds


def test_who_never_came_because_his_packet_never_opened_is_missing() -> None:
    found = LoadTally("r")
    found.told(told(SENDING, Answer("overloaded"), 429))
    pace = found.pace([SENDING, tap(1, 1), tap(2, 2)], late_ms_max=100)
    assert (pace.on_time, pace.without_packet, pace.never) == (1, 2, 0)
    assert not paced(Profile(title="t"), pace).holds


def test_a_repeat_does_not_make_up_for_an_arrival_that_was_never_asked() -> None:
    repeat = told(tap(1, 1)._replace(attempt=1), won(1, 1, 60))
    assert tally(repeat).pace([SENDING, tap(1, 1)], late_ms_max=100).never == 1


# The target


@pytest.mark.parametrize("url", ["http://127.0.0.1:80", "http://localhost:8000/", "http://[::1]:1"])
def test_this_machine_may_be_loaded(url: str) -> None:
    assert is_loopback(url)


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1", "http://example.org", "http://localhost.example.org", "http://0.0.0.0"]
)
def test_no_other_machine_is_taken_for_this_one(url: str) -> None:
    assert not is_loopback(url)
