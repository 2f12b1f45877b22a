"""What a gateway replica and its shards tell about themselves, without Ray."""

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from actors.kernel.errors import JournalFull, JournalUnavailable
from actors.kernel.metrics import Tally
from cluster.gateway.middleware.overload_control import KINDS
from cluster.gateway.middleware.request_metrics import RequestMetrics, overload_source
from cluster.observability.journal_metrics import MeasuredJournals
from cluster.observability.logs import REQUEST, formatter
from tests.simulation.http import Http
from tests.simulation.loop import simulated


def logged(records: list[logging.LogRecord]) -> list[dict[str, Any]]:
    """Return the records as lines of a gateway."""
    return [json.loads(formatter("gateway").format(record)) for record in records]


async def ask(sight: RequestMetrics, request_id: str = "r-1") -> list[dict[str, Any]]:
    """Send one request through and return what was answered."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "POST", "path": "/v1/grabs/batch", "hongbao.request_id": request_id}
    await sight(scope, receive, send)
    return sent


def app_that(status: int, failure: Exception | None = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if status:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        if failure is not None:
            raise failure

    return app


async def test_every_request_is_counted_once_by_its_status_and_timed() -> None:
    tally = Tally(1)
    for status in (200, 200, 429, 503):
        await ask(RequestMetrics(app_that(status), tally, None, 1_000))
    await ask(RequestMetrics(app_that(0), tally, None, 1_000))
    with pytest.raises(ValueError, match="odd"):
        await ask(RequestMetrics(app_that(0, ValueError("odd")), tally, None, 1_000))
    figures = tally.figures()
    assert figures.counts["http_requests"] == {"200": 2, "429": 1, "503": 1, "gone": 1, "500": 1}
    assert figures.histograms["request"].count == 6


async def test_a_request_that_fails_is_logged_with_its_id(caplog: pytest.LogCaptureFixture) -> None:
    sight = RequestMetrics(app_that(500, ValueError("a bug of ours")), Tally(1), None, 1_000)
    written: list[dict[str, Any]] = []

    class Written(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.extend(logged([record]))  # while the request is served

    handler = Written()
    logging.getLogger("cluster.gateway.middleware.request_metrics").addHandler(handler)
    try:
        with pytest.raises(ValueError, match="a bug of ours"):
            await ask(sight, "r-42")
    finally:
        logging.getLogger("cluster.gateway.middleware.request_metrics").removeHandler(handler)
    [line] = written
    assert line["request_id"] == "r-42"
    assert "a bug of ours" in line["exception"]


async def test_a_task_that_outlives_its_request_no_longer_speaks_for_it() -> None:
    lines: list[dict[str, Any]] = []
    over = asyncio.Event()

    async def outlive() -> None:
        await over.wait()
        lines.extend(logged([logging.makeLogRecord({"msg": "later"})]))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        lines.extend(logged([logging.makeLogRecord({"msg": "now"})]))
        tasks.append(asyncio.create_task(outlive()))

    tasks: list[asyncio.Task[None]] = []
    await ask(RequestMetrics(app, Tally(1), None, 1_000), "r-7")
    over.set()
    await asyncio.gather(*tasks)
    assert [line.get("request_id") for line in lines] == ["r-7", None]
    REQUEST.set(None)


@simulated
async def test_grabs_over_http_are_counted_by_outcome_at_the_shard_and_timed_in_the_queue() -> None:
    http = await Http.start()
    packet = await http.send(count=1)
    for user in ("bob", "carol", "bob"):
        await http.grab(packet["packet_id"], user)
    counts: dict[str, dict[str, int]] = {}
    for host in http.system.members.values():
        counts |= host.tally.figures().counts
    assert counts["sends"] == {"accepted": 1}
    assert counts["grabs"] == {"accepted": 1, "drained": 1, "replayed": 1}
    figures = http.gateway.service.tally.figures()
    assert figures.counts["http_requests"] == {"201": 1, "200": 2, "409": 1}
    _, histograms = overload_source(http.gateway.service)()
    assert histograms["queueing"].count >= 5


@simulated
async def test_the_figures_are_for_operators() -> None:
    http = await Http.start()
    assert (await http.ask("GET", "/v1/figures")).status_code == 403
    assert (await http.ask("GET", "/v1/figures", scope="gateway")).status_code == 403


def test_what_admission_and_the_batchers_count_is_told_as_well() -> None:
    queueing = SimpleNamespace(ends=(1, 2), counts=[3, 4, 5], total=60)
    drops = dict.fromkeys(("refused_full", "refused_packet_full", "refused_late", "gone", "repeated"), 2)
    service = SimpleNamespace(
        overload=SimpleNamespace(tally=SimpleNamespace(shed=[0, 1, 2, 3, 4], full=7, shed_lines=9)),
        batching=SimpleNamespace(tally=SimpleNamespace(queueing_ms=queueing, **drops)),
    )
    counts, histograms = overload_source(service)()
    assert counts["shed"] == dict(zip(KINDS, range(5), strict=True)) | {"full": 7, "stream_line": 9}
    assert counts["queue_drops"] == drops
    assert (histograms["queueing"].counts, histograms["queueing"].sum) == ([3, 4, 5], 60)
    own = Tally(1)
    own.latency("queueing", 1)
    own.add("http_requests", "200")
    told = RequestMetrics(app_that(200), own, None, 1_000, [overload_source(service)]).figures()
    assert told.histograms["queueing"].count == 12, "a source's histogram stands for the replica's"
    assert told.counts["http_requests"] == {"200": 1}


async def test_the_stores_answers_are_measured_and_its_failures_counted_not_swallowed() -> None:
    tally = Tally(1)

    class Store:
        """A journal that does as it is told."""

        def __init__(self) -> None:
            self.failure: Exception | None = None

        def open(self, stream: str) -> "Store":
            return self

        async def append(self, sealed: Any) -> None:
            if self.failure is not None:
                raise self.failure

        async def confirm(self) -> None:
            await self.append(None)

        async def activate(self, host: str) -> str:
            await self.append(None)
            return host

        def seal(self, events: Any) -> Any:
            return SimpleNamespace(payload=b"x" * len(events))

    store: Any = Store()
    journal = MeasuredJournals(store, tally).open("packet-000")
    assert await journal.activate("packet-shard-0") == "packet-shard-0"
    events: list[Any] = [1, 2, 3]
    await journal.append(journal.seal(events))
    await journal.confirm()
    for failure, act in ((JournalFull("full"), journal.append), (JournalUnavailable("gone"), journal.append)):
        store.failure = failure
        with pytest.raises(type(failure)):
            await act(journal.seal([]))
    with pytest.raises(JournalUnavailable):
        await journal.activate("packet-shard-0")
    figures = tally.figures()
    assert figures.counts["commit_failures"] == {"JournalFull": 1, "JournalUnavailable": 1}
    assert figures.counts["activation_failures"] == {"JournalUnavailable": 1}
    assert (figures.counts["activations"], figures.counts["commit_bytes"]) == ({"": 1}, {"": 3})
    assert figures.histograms["commit"].count == 1, "what failed says nothing about how long a commit takes"
    assert figures.histograms["confirm"].count == 1
    assert figures.histograms["commit_size"].sum == 3
