"""Batching: one call at a time to a host, and nobody's trouble is another's."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from actors.kernel.messages import Done, Refused
from actors.refusals import Refusal
from cluster.gateway.dispatch.batcher import Batcher, Batching, Parcel
from cluster.runtime.directory import ShardUnavailable
from tests.simulation.loop import simulated

UNAVAILABLE = Refused(Refusal.SHARD_UNAVAILABLE)
OVERLOADED = Refused(Refusal.OVERLOADED)
DONE = Done()


class Host:
    """A host that answers `Done` to everything once the test lets it, or fails as told."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[str, list[Any]]]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.called = asyncio.Event()
        self.failures: list[Any] = []
        self.under_way = 0

    def host_of(self, stream: str) -> str:
        return stream.partition(".")[0]

    async def ask_host(self, host: str, groups: Sequence[tuple[str, Sequence[Any]]]) -> list[list[Any]]:
        self.calls.append([(stream, list(commands)) for stream, commands in groups])
        self.under_way += 1
        assert self.under_way == 1, "one call at a time"
        self.called.set()
        try:
            await self.open.wait()
            failure = self.failures.pop(0) if self.failures else None
            if isinstance(failure, Exception):
                raise failure
            return [[failure or DONE] * len(commands) for _, commands in groups]
        finally:
            self.under_way -= 1


def batching(
    host: Host,
    *,
    queue_max: int = 100,
    batch_max: int = 10,
    deadline_ms: int = 1_000,
    packet_queue_max: int | None = None,
) -> Batching:
    return Batching(
        host,  # type: ignore[arg-type]
        queue_max=queue_max,
        batch_max=batch_max,
        deadline_ms=deadline_ms,
        packet_queue_max=packet_queue_max,
    )


@simulated
async def test_while_one_call_is_under_way_the_next_one_fills() -> None:
    host = Host()
    host.open.clear()
    asked = batching(host)
    first = asyncio.ensure_future(asked.ask("h.a", 1))
    await host.called.wait()
    later = [
        asyncio.ensure_future(asked.ask(stream, number)) for stream, number in (("h.a", 2), ("h.b", 3), ("h.a", 4))
    ]
    await asyncio.sleep(0)
    host.open.set()
    assert await asyncio.gather(first, *later) == [DONE] * 4
    assert host.calls == [[("h.a", [1])], [("h.a", [2, 4]), ("h.b", [3])]]


@simulated
async def test_a_full_queue_refuses_at_once_and_takes_again_when_it_has_room() -> None:
    host = Host()
    host.open.clear()
    asked = batching(host, queue_max=2)
    first = asyncio.ensure_future(asked.ask("h.a", 1))
    await host.called.wait()
    waiting = asyncio.ensure_future(asked.post("h.a", [2, 3]))
    await asyncio.sleep(0)
    refused = asked.post("h.a", [4])
    assert refused.done()
    assert refused.result() == [OVERLOADED]
    host.open.set()
    assert await first == DONE
    assert await waiting == [DONE, DONE]
    assert await asked.ask("h.a", 5) == DONE


@simulated
async def test_no_call_carries_more_than_the_bound() -> None:
    host = Host()
    host.open.clear()
    asked = batching(host, batch_max=3)
    futures = [asked.post("h.a", [n, n]) for n in range(4)]
    await host.called.wait()
    host.open.set()
    await asyncio.gather(*futures)
    assert [sum(len(commands) for _, commands in call) for call in host.calls] == [2, 2, 2, 2]


@simulated
async def test_a_parcel_larger_than_a_batch_still_goes_whole() -> None:
    host = Host()
    assert await batching(host, batch_max=3).post("h.a", [1, 2, 3, 4, 5]) == [DONE] * 5
    assert len(host.calls) == 1


@simulated
async def test_a_caller_that_goes_away_breaks_nobody_elses_batch() -> None:
    host = Host()
    host.open.clear()
    asked = batching(host)
    flying, gone = asked.post("h.a", [1]), asked.post("h.a", [2])
    await host.called.wait()
    queued, gone_too = asked.post("h.a", [3]), asked.post("h.a", [4])
    gone.cancel()
    gone_too.cancel()
    host.open.set()
    assert await asyncio.gather(flying, queued) == [[DONE], [DONE]]
    assert host.calls == [[("h.a", [1, 2])], [("h.a", [3])]], "who has gone before the call is not sent"


@pytest.mark.parametrize("failure", [ShardUnavailable("gone"), UNAVAILABLE], ids=["no answer", "wrong host"])
@simulated
async def test_an_unknown_outcome_is_repeated_with_the_same_commands(failure: Any) -> None:
    host = Host()
    host.failures = [failure, failure]
    command = object()
    assert await batching(host).ask("h.a", command) == DONE
    assert len(host.calls) == 3
    assert all(call == [("h.a", [command])] for call in host.calls)


@simulated
async def test_an_unknown_outcome_is_told_at_the_deadline() -> None:
    host = Host()
    host.failures = [ShardUnavailable("gone")] * 1_000
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    assert await batching(host, deadline_ms=1_000).ask("h.a", 1) == UNAVAILABLE
    assert 0.9 <= loop.time() - began_s <= 1.0
    assert len(host.calls) > 5


@simulated
async def test_what_the_store_did_not_answer_is_told_as_it_is() -> None:
    host = Host()
    host.failures = [Refused(Refusal.JOURNAL_UNAVAILABLE)]
    assert await batching(host).ask("h.a", 1) == Refused(Refusal.JOURNAL_UNAVAILABLE)


@simulated
async def test_a_bug_in_a_call_leaves_nobody_waiting_and_the_queue_alive() -> None:
    host = Host()
    host.failures = [ValueError("our own bug")]
    asked = batching(host)
    assert await asked.ask("h.a", 1) == UNAVAILABLE
    assert await asked.ask("h.a", 2) == DONE


@simulated
async def test_hosts_do_not_wait_for_each_other() -> None:
    slow, asked = Host(), None
    slow.open.clear()

    class Two(Host):
        async def ask_host(self, host: str, groups: Sequence[tuple[str, Sequence[Any]]]) -> list[list[Any]]:
            return await (slow.ask_host(host, groups) if host == "slow" else super().ask_host(host, groups))

    asked = batching(Two())
    waiting = asyncio.ensure_future(asked.ask("slow.a", 1))
    await slow.called.wait()
    assert await asked.ask("fast.a", 1) == DONE
    assert not waiting.done()
    slow.open.set()
    assert await waiting == DONE


@simulated
async def test_room_is_counted_in_commands_and_given_back() -> None:
    host = Host()
    batcher = Batcher("h", host, queue_max=3, batch_max=10)
    for _ in range(5):
        parcel = Parcel("h.a", [1, 2, 3], asyncio.get_running_loop().time() + 1)
        batcher.put(parcel)
        assert await parcel.future == [DONE] * 3


class Asked(NamedTuple):
    """A command about a packet."""

    packet_id: str
    number: int
    users: list[str] | None = None


def sent(host: Host) -> list[list[Any]]:
    """Return the commands of every call so far."""
    return [[command for _, commands in call for command in commands] for call in host.calls]


@simulated
async def test_a_crowd_before_one_packet_delays_another_packets_grab_by_one_call_at_most() -> None:
    host = Host()
    host.open.clear()
    asked = batching(host, queue_max=30_000, batch_max=1_000)
    crowd = [asked.post("h.a", [Asked("hot", number)]) for number in range(20_000)]
    await host.called.wait()
    lone = asked.post("h.a", [Asked("other", 0)])
    await asyncio.sleep(0)
    host.open.set()
    assert await lone == [DONE]
    assert Asked("other", 0) in sent(host)[1]
    await asyncio.gather(*crowd)
    numbers = [command.number for call in sent(host) for command in call if command.packet_id == "hot"]
    assert numbers == list(range(20_000)), "in order of arrival"


@simulated
async def test_beyond_its_bound_a_packets_grabs_are_refused_while_others_pass() -> None:
    host = Host()
    host.open.clear()
    asked = batching(host, packet_queue_max=3)
    first = asked.post("h.a", [Asked("hot", 0)])
    await host.called.wait()
    waiting = [asked.post("h.a", [Asked("hot", number)]) for number in (1, 2, 3)]
    refused = asked.post("h.a", [Asked("hot", 4)])
    assert refused.done()
    assert refused.result() == [OVERLOADED]
    other = asked.post("h.a", [Asked("other", 0)])
    assert not other.done()
    assert asked.tally.refused_packet_full == 1
    host.open.set()
    assert await asyncio.gather(first, *waiting, other) == [[DONE]] * 5
    assert await asked.post("h.a", [Asked("hot", 5)]) == [DONE]


@simulated
async def test_a_post_for_many_packets_is_answered_in_order_and_refused_one_packet_alone() -> None:
    host = Host()
    host.open.clear()
    asked = batching(host, packet_queue_max=4)
    first = asked.post("h.a", [Asked("x", 0)])
    await host.called.wait()
    full = asked.post("h.a", [Asked("hot", 0, ["a", "b", "c"])])
    mixed = asked.post("h.a", [Asked("p", 1), Asked("hot", 2, ["d", "e"]), Asked("q", 3), Asked("p", 4)], 5)
    host.open.set()
    assert await mixed == [DONE, OVERLOADED, DONE, DONE]
    assert await asyncio.gather(first, full) == [[DONE], [DONE]]
    numbers = [command.number for call in sent(host) for command in call if command.packet_id == "p"]
    assert numbers == [1, 4]
    assert asked.tally.refused_packet_full == 2, "counted in grabs"


@simulated
async def test_a_caller_that_goes_away_takes_all_parts_of_its_post_with_it_and_nothing_else() -> None:
    host = Host()
    host.open.clear()
    asked = batching(host)
    first = asked.post("h.a", [Asked("x", 0)])
    await host.called.wait()
    gone = asked.post("h.a", [Asked("p", 1), Asked("q", 2)])
    stays = asked.post("h.a", [Asked("p", 3), Asked("q", 4)])
    gone.cancel()
    host.open.set()
    assert await asyncio.gather(first, stays) == [[DONE], [DONE, DONE]]
    assert sent(host) == [[Asked("x", 0)], [Asked("p", 3), Asked("q", 4)]]
    assert asked.tally.gone == 2
    flying = asked.post("h.a", [Asked("p", 5), Asked("q", 6)])
    host.open.clear()
    host.called.clear()
    await host.called.wait()
    flying.cancel()
    host.open.set()
    assert await asked.post("h.a", [Asked("p", 7)]) == [DONE], "an answer to nobody breaks nothing"


@simulated
async def test_who_has_waited_past_his_deadline_is_refused_without_being_sent() -> None:
    host = Host()
    host.open.clear()
    asked = batching(host, deadline_ms=1_000)
    flying = asked.post("h.a", [1])
    await host.called.wait()
    late = asked.post("h.a", [2])
    await asyncio.sleep(1.1)
    fresh = asked.post("h.a", [3])
    host.open.set()
    assert await asyncio.gather(flying, late, fresh) == [[DONE], [OVERLOADED], [DONE]], "nothing was done for him"
    assert sent(host) == [[1], [3]]
    assert asked.tally.refused_late == 1


@simulated
async def test_who_was_sent_and_then_waits_past_his_deadline_is_told_that_the_outcome_is_unknown() -> None:
    host = Host()
    host.failures = [ShardUnavailable("gone")]
    asked = batching(host, deadline_ms=500)
    sent_once = asked.post("h.a", [1])
    await host.called.wait()
    host.called.clear()
    host.open.clear()
    blocking = asked.post("h.a", [2])
    await host.called.wait()
    await asyncio.sleep(0.6)
    host.open.set()
    assert await blocking == [DONE]
    assert await sent_once == [UNAVAILABLE]


@simulated
async def test_a_repeat_is_never_refused_for_want_of_room_because_it_may_have_been_done() -> None:
    host = Host()
    host.failures = [ShardUnavailable("gone")]
    asked = batching(host, queue_max=2)
    first = asked.post("h.a", [1, 2])
    await host.called.wait()
    await asyncio.sleep(0)
    refused = asked.post("h.a", [3])
    assert refused.done(), "its room is kept while it pauses"
    assert await first == [DONE, DONE]
    assert asked.tally.repeated == 2


@simulated
async def test_waiting_for_the_call_under_way_is_no_queueing_but_not_fitting_into_the_next_is() -> None:
    host = Host()
    host.open.clear()
    asked = batching(host, batch_max=2)
    first = asked.post("h.a", [Asked("x", 0)])
    await host.called.wait()
    await asyncio.sleep(0.5)  # a slow store
    fitting, too_many = (asked.post("h.a", [Asked(packet, 1), Asked(packet, 2)]) for packet in "pq")
    await asyncio.sleep(0.3)
    host.called.clear()
    host.open.set()
    host.open.clear()
    await host.called.wait()
    assert asked.queueing_us() == 0
    await asyncio.sleep(0.2)
    assert asked.queueing_us() == 0, "nothing has left meanwhile"
    host.open.set()
    await asyncio.gather(first, fitting, too_many)
    assert asked.queueing_us() == 200_000
    assert asked.queueing_us() == 0, "asked since"
    assert sum(asked.tally.queueing_ms.counts) == 3
    assert asked.tally.queueing_ms.total == 200


@simulated
async def test_while_a_queue_does_not_move_its_queueing_is_no_better_than_it_was() -> None:
    host = Host()
    asked = batching(host, batch_max=1)
    host.open.clear()
    futures = [asked.post("h.a", [Asked(packet, 0)]) for packet in "xyz"]
    await host.called.wait()
    await asyncio.sleep(0.1)
    host.called.clear()
    host.open.set()
    host.open.clear()
    await host.called.wait()
    assert asked.queueing_us() == 50_000, "of two packets, one waited for a second call"
    assert asked.queueing_us() == 50_000, "and somebody waits still"
    host.open.set()
    await asyncio.gather(*futures)
