"""Supervisor: keeps a live actor for every host, and starts settlement and maintenance where there is something to do.

One loop per host, and one per share of settlement. A host that does not report within the deadline is killed without
restart and created anew under its name; its epoch is fenced out by the next activation, so killing one too many costs
time, never money.
"""

import asyncio
import logging
import warnings
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError

from actors.kernel.host import StreamFigures
from cluster.config import Keys, Settings
from cluster.observability.logs import log_json
from cluster.runtime.collector import Collector, now_ms
from cluster.runtime.maintenance import HostMaintenance, start_maintenance
from cluster.runtime.placement import SUPERVISOR, hosts
from cluster.runtime.settlement import start_settlement
from cluster.runtime.shards import REPORTS, TALLY, create_shard, detached

log = logging.getLogger(__name__)


class Supervisor:
    """The actor that looks after all others. It holds no state that matters: killed, it starts over."""

    def __init__(self, settings: Settings, keys: Keys) -> None:
        log_json("supervisor")
        self._settings = settings
        self._keys = keys
        self._reports: dict[str, list[StreamFigures]] = {}
        self._watching = [
            asyncio.get_running_loop().create_task(self._watch(name, streams), name=f"watch {name}")
            for name, streams in hosts(settings).items()
        ]
        names, tasks = list(hosts(settings)), settings.placement.settlement_tasks
        self._watching += [
            asyncio.get_running_loop().create_task(self._settle(names[share::tasks]), name=f"settle {share}")
            for share in range(min(tasks, len(names)))
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray answers this by way of something that it has deprecated
            again = ray.get_runtime_context().was_current_actor_reconstructed
        self._pulse = Collector(settings, self.ready, again=again)
        self._watching += self._pulse.loops

    async def ready(self) -> list[str]:
        """Name the streams that are not active, and the loops that have ended (there should be neither)."""
        active = {figures.stream for reports in self._reports.values() for figures in reports}
        idle = [stream for stream in self._settings.streams if stream not in active]
        return idle + [task.get_name() for task in self._watching if task.done()]

    async def take_gateway(self, replica: str, payload: bytes) -> None:
        """Take in what a gateway replica has done: `TallyFigures`."""
        self._pulse.gathered.take_gateway(replica, TALLY.decode(payload), now_ms())

    async def figures(self) -> bytes:
        """Return all figures of the system: `cluster.observability.metrics_snapshot.Figures` as JSON."""
        return msgspec.json.encode(self._pulse.figures())

    async def _watch(self, name: str, streams: list[str]) -> None:
        timing = self._settings.timing
        maintenance = HostMaintenance(
            lambda due: start_maintenance(due, self._settings, self._keys),
            lambda failures: self._pulse.gathered.add("maintenance_failures", name, failures),
        )
        handle: Any = None
        while True:
            await asyncio.sleep(timing.supervise_ms / 1000)
            try:
                if handle is None:
                    handle = await asyncio.to_thread(create_shard, name, streams, self._settings, self._keys)
                reports = REPORTS.decode(
                    await asyncio.wait_for(handle.report.remote(False), timing.ping_deadline_ms / 1000)
                )
            except (RayError, TimeoutError, ValueError) as failure:
                self._reports.pop(name, None)
                self._pulse.gathered.take_streams(name, [], now_ms())
                log.warning("%s does not report (%s)", name, type(failure).__name__)
                if isinstance(failure, TimeoutError):  # a dying one is left to Ray, which restarts it
                    await asyncio.to_thread(ray.kill, handle, no_restart=True)
                handle = None
                continue
            self._reports[name] = reports
            self._pulse.gathered.take_streams(name, reports, now_ms())
            maintenance.offer([each.stream for each in reports if each.work_behind >= timing.snapshot_events])

    async def _settle(self, names: list[str]) -> None:
        """Keep one settlement task at work for these hosts while they have something to settle."""
        task: Any = None
        while True:
            await asyncio.sleep(self._settings.timing.supervise_ms / 1000)
            unsettled = any(figures.unsettled for name in names for figures in self._reports.get(name, []))
            if unsettled and await _ended(task):
                task = start_settlement(names, self._settings)


async def _ended(task: Any) -> bool:
    """Tell whether a Ray task has ended (or never began), whatever became of it."""
    if task is None:
        return True
    ready, _ = await asyncio.to_thread(ray.wait, [task], timeout=0)
    return bool(ready)


def create_supervisor(settings: Settings, keys: Keys) -> Any:
    """Create (or find) the supervisor and return its handle."""
    return detached(Supervisor, SUPERVISOR, settings).remote(settings, keys)
