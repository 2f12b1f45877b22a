"""Queue delay: measures how long requests queue in this replica, and closes the windows of its overload control.

Queueing time of a window = how late the event loop ran a timer, on the average (what a request waits before anybody
looks at it), plus what parcels queued in the batchers (`Batching.queueing_us`). The pulse beats while requests come and
for as long as not everybody is let in; an idle replica has none.
"""

import asyncio
import time
from collections.abc import Callable

from cluster.gateway.dispatch.batcher import Batching
from cluster.gateway.middleware.overload_control import OverloadControl, OverloadRules
from cluster.sections import Overload

HOUR_S = 3_600


def overload_rules(overload: Overload) -> OverloadRules:
    """Read the bounds of overload control."""
    return OverloadRules(
        queueing_ms_target=overload.queueing_ms_target,
        down_percent=overload.down_percent,
        up_percent=overload.up_percent,
        refusing_percent_max=overload.refusing_percent_max,
        retry_after_ms_min=overload.retry_after_ms_min,
        retry_after_ms_max=overload.retry_after_ms_max,
        tenants_max=overload.tenants_max,
    )


class QueueDelay:
    """The timer of one replica."""

    def __init__(
        self, overload: OverloadControl, batching: Batching, rules: Overload, wall_s: Callable[[], float] = time.time
    ) -> None:
        """`wall_s` tells the hour, by which priorities change; every replica's should be about the same."""
        self.measuring = False
        self._overload = overload
        self._batching = batching
        self._wall_s = wall_s
        self._requests_max = rules.window_requests_max
        self._beat_s = rules.beat_ms / 1000
        self._window_s = rules.window_ms / 1000
        self._due_s = 0.0
        self._window_ends_s = 0.0
        self._late_us = 0
        self._beats = 0

    def start(self) -> None:
        """Begin to beat. Ask only while it does not."""
        loop = asyncio.get_running_loop()
        self.measuring = True
        self._window_ends_s = loop.time() + self._window_s
        self._late_us = self._beats = 0
        self._next(loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_s = loop.time() + self._beat_s
        loop.call_at(self._due_s, self._beat)

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        late_us = max(0, round((now_s - self._due_s) * 1_000_000))
        self._overload.tally.loop_delay_ms.add(late_us // 1_000)
        self._late_us += late_us
        self._beats += 1
        if now_s >= self._window_ends_s or self._overload.seen >= self._requests_max:
            idle = self._overload.seen == 0
            queueing_us = self._late_us // self._beats + self._batching.queueing_us()
            self._overload.close_window(queueing_us, int(self._wall_s()) // HOUR_S)
            self._window_ends_s = now_s + self._window_s
            self._late_us = self._beats = 0
            if idle and self._overload.calm:
                self.measuring = False
                return
        self._next(loop)
