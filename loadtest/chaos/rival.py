"""Rival: a second actor on streams that another one believes to own, asked from outside through a driver.

What a rival answers stands in the history like any client's answer, with the same identities: the checker does not care
who said it.
"""

import asyncio
import contextlib
import os
import sys
from typing import Any

import msgspec

from cluster.local.processes import end_with_parent
from cluster.local.record import system_environment
from loadtest.chaos.site import Site
from loadtest.history import GrabAttempt, Outcome, SendAttempt
from loadtest.recorder import PlannedSend, Recorder

ANSWER_S = 30.0
LATER = frozenset({"overloaded"})
UNKNOWN = frozenset({"journal_unavailable", "shard_unavailable"})


class DriverFailed(Exception):
    """The driver did not do what it was asked; the sentence says why. Ray may just have been killed: start another."""


class DriverProcess:
    """One process in the system's Ray, started when it is first needed and again after its Ray has died."""

    def __init__(self, site: Site) -> None:
        """Start nothing yet."""
        self._site = site
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, do: str, **arguments: Any) -> Any:
        """Ask one thing at a time. Raises DriverFailed."""
        try:
            async with asyncio.timeout(ANSWER_S):
                if self._process is None:
                    self._process = await self._start()
                answer = await _exchange(self._process, {"do": do, **arguments})
        except (TimeoutError, OSError, ValueError) as failure:
            await self.close()
            raise DriverFailed(f"{do}: {type(failure).__name__}") from failure
        if isinstance(answer, dict) and "failure" in answer:
            raise DriverFailed(f"{do}: {answer['failure']}")
        return answer

    async def census(self) -> dict[str, int]:
        """Return the pid of every living actor by its name. Raises DriverFailed."""
        return dict(await self.ask("census"))

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        record = self._site.record
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtest.chaos.driver", "--data", str(self._site.folder)),
            env={**os.environ, **system_environment(record)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=end_with_parent,
        )
        self._process = process  # from here `close` ends it
        await _exchange(process, None)
        return process


async def _exchange(process: asyncio.subprocess.Process, question: object) -> Any:
    """Write a line (None: nothing) and read one. Raises ValueError if the process has gone."""
    assert process.stdin is not None, "made with pipes"
    assert process.stdout is not None, "made with pipes"
    if question is not None:
        process.stdin.write(msgspec.json.encode(question) + b"\n")
        await process.stdin.drain()
    return msgspec.json.decode(await process.stdout.readline())


class Rival:
    """One second owner."""

    def __init__(self, driver: DriverProcess, recorder: Recorder, name: str, streams: list[str]) -> None:
        """`name` begins with the kind of its streams, e.g. "packet-rival-1"."""
        self._driver = driver
        self._recorder = recorder
        self._name = name
        self._streams = streams

    async def activate(self) -> None:
        """Own the streams from now on. Raises DriverFailed."""
        await self._driver.ask("activate", name=self._name, streams=self._streams)

    async def grab(self, wanted: list[tuple[str, str]]) -> list[GrabAttempt]:
        """Let it answer grabs, (packet id, user) each; a call that fails leaves them unknown."""
        history = self._recorder.history
        asked_us = history.now_us()
        attempts = [
            GrabAttempt(user=user, packet_id=packet_id, asked_us=asked_us, via="rival") for packet_id, user in wanted
        ]
        try:
            answers = await self._driver.ask("grab", name=self._name, grabs=wanted)
            for attempt, (code, rank, amount_fen) in zip(attempts, answers, strict=True):
                attempt.outcome, attempt.code = _outcome(code), code
                attempt.rank, attempt.amount_fen = rank, amount_fen
        except DriverFailed as failure:
            for attempt in attempts:
                attempt.code = str(failure)[:200]
        finally:
            for attempt in attempts:
                history.add(attempt)
            self._recorder.note(attempts)
        return attempts

    async def send(self, orders: list[PlannedSend]) -> list[SendAttempt]:
        """Let it debit sends; their packets open when the same send is repeated, or by settlement."""
        history = self._recorder.history
        asked_us = history.now_us()
        attempts = [
            SendAttempt(
                user=order.user,
                key=order.key,
                kind=order.kind,
                total_fen=order.total_fen,
                count=order.shares,
                asked_us=asked_us,
                via="rival",
            )
            for order in orders
        ]
        try:
            answers = await self._driver.ask("send", name=self._name, orders=orders)
            for attempt, (code, packet_id) in zip(attempts, answers, strict=True):
                attempt.outcome, attempt.code, attempt.packet_id = _outcome(code), code, packet_id
        except DriverFailed as failure:
            for attempt in attempts:
                attempt.code = str(failure)[:200]
        finally:
            for attempt, order in zip(attempts, orders, strict=True):
                history.add(attempt)
                self._recorder.unknown_sends[order.user, order.key] = order
        return attempts

    async def remove(self) -> None:
        """End it; the streams' own host takes them back when it is next asked. Raises DriverFailed."""
        await self._driver.ask("remove", name=self._name)


def _outcome(code: str) -> Outcome:
    if not code:
        return "ok"
    return "unknown" if code in UNKNOWN else "later" if code in LATER else "refused"
