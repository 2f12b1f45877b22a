"""Batching: one call at a time to a host, and nobody's trouble is another's."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from actors.ledger.transfer import Done, Refusal, Refused
from cluster.directory import ShardUnavailable
from cluster.gateway.batching import Batcher, Batching, Parcel
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


def batching(host: Host, *, queue_max: int = 100, batch_max: int = 10, deadline_ms: int = 1_000) -> Batching:
    return Batching(host, queue_max=queue_max, batch_max=batch_max, deadline_ms=deadline_ms)  # type: ignore[arg-type]


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
