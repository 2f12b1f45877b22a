"""Request metrics: what a gateway replica tells about itself: every request counted, its failures logged with its id.

The outermost ASGI layer, outside the limits: two clock readings, two counts and a header a request: `X-Served-By` names
the replica, by the id under which the supervisor hears of it. The tally goes to the supervisor once a `report_ms`; a
replica that cannot reach it goes on counting.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from actors.kernel.metrics import HistogramFigures, Tally, TallyFigures
from cluster.gateway.middleware.overload_control import KINDS
from cluster.gateway.raw_http import serve_lifespan
from cluster.observability.logs import REQUEST
from cluster.runtime.directory import Directory, ShardUnavailable
from cluster.runtime.placement import SUPERVISOR

log = logging.getLogger(__name__)

ENCODER = msgspec.msgpack.Encoder()


Source = Callable[[], tuple[Mapping[str, dict[str, int]], Mapping[str, HistogramFigures]]]
"""Gives counts (family -> label -> count) and histograms by family, each since the replica began."""


def overload_source(service: Any) -> Source:
    """Return what overload control and the batchers of a `Service` count."""

    def read() -> tuple[dict[str, dict[str, int]], dict[str, HistogramFigures]]:
        overload, batching = service.overload.tally, service.batching.tally
        shed = dict(zip(KINDS, overload.shed, strict=True))
        shed |= {"full": overload.full, "stream_line": overload.shed_lines}
        names = ("refused_full", "refused_packet_full", "refused_late", "gone", "repeated")
        drops = {name: getattr(batching, name) for name in names}
        queueing = batching.queueing_ms
        bounds = tuple(float(end) for end in queueing.ends)
        figures = HistogramFigures(bounds, list(queueing.counts), float(queueing.total))
        return {"shed": shed, "queue_drops": drops}, {"queueing": figures}

    return read


class RequestMetrics:
    """The ASGI layer that counts requests on their way through."""

    def __init__(
        self,
        app: Any,
        tally: Tally,
        directory: Directory | None,
        report_ms: int,
        sources: Sequence[Source] = (),
        prepare: Sequence[Callable[[], object]] = (),
    ) -> None:
        """`directory` None: nobody is told; `sources`: what else counts here; `prepare`: done before serving."""
        self._app = app
        self._tally = tally
        self._directory = directory
        self._report_ms = report_ms
        self._replica = secrets.token_hex(8)
        self._served_by = (b"x-served-by", self._replica.encode())
        self._teller: asyncio.Task[None] | None = None
        self.sources = sources
        self._prepare = prepare

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await serve_lifespan(receive, send, (*self._prepare, self._start_telling))
            return
        REQUEST.set(scope)
        began_s = time.perf_counter()
        status = 0

        async def send_counted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], self._served_by]
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        except Exception:
            status = status or 500
            log.exception("%s %s failed", scope.get("method"), scope.get("path"))
            raise
        finally:
            scope["hongbao.over"] = True
            self._tally.add("http_requests", str(status) if status else "gone")
            self._tally.latency("request", 1_000 * (time.perf_counter() - began_s))

    def figures(self) -> TallyFigures:
        """Return all that this replica has counted; what a source counts replaces our own of that name."""
        figures = self._tally.figures()
        for source in self.sources:
            counts, histograms = source()
            figures = msgspec.structs.replace(
                figures, counts={**figures.counts, **counts}, histograms={**figures.histograms, **histograms}
            )
        return figures

    def _start_telling(self) -> None:
        if self._directory is not None and self._teller is None:
            self._teller = asyncio.get_running_loop().create_task(self._tell(self._directory), name="tell figures")

    async def _tell(self, directory: Directory) -> None:
        while True:
            await asyncio.sleep(self._report_ms / 1000)
            try:
                await directory.call(SUPERVISOR, "take_gateway", self._replica, ENCODER.encode(self.figures()))
            except ShardUnavailable:
                continue  # the next one carries it as well
