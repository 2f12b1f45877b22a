"""Site: the system under chaos, started for the run in a folder of its own: its processes by name, and its end.

Small periods, so that snapshots, sealing, passivation and expiry happen under the faults. Set in the environment, where
`cluster.config` reads them, in this process and in every one of the system.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from cluster.config import Keys, Settings, keys_at, load
from cluster.local import bootstrap
from cluster.local.processes import ProcessIdentity
from cluster.local.record import SystemRecord, processes_titled, read_record

LIFETIME_MS = 60_000
ENVIRONMENT = {
    "HONGBAO_TIMING__SNAPSHOT_EVENTS": "300",
    "HONGBAO_PACKET__RULES__PASSIVATE_AFTER_MS": "2000",
    # A stopped zombie must be there still when its rival has answered: longer than the product's own 10 s.
    "HONGBAO_TIMING__PING_DEADLINE_MS": "20000",
    "HONGBAO_WALLET__RULES__SENDS__PACKET_LIFETIME_MS": str(LIFETIME_MS),
}

GATEWAY = "ray::ServeReplica:hongbao:gateway"
SUPERVISOR = "ray::Supervisor"
CONTROLLER = "ray::ServeController"
SETTLEMENT = "ray::settle_hosts"
HAPROXY = "haproxy"
GCS = "gcs_server"


class Site:
    """One system. Its blocking methods belong in a thread while clients run."""

    def __init__(self, folder: Path, report: Callable[[str], None]) -> None:
        """`folder`: the data folder, still empty."""
        self.folder = folder
        self._report = report

    def up(self, port: int = 0) -> None:
        """Start it, also again on the same data and port; it ends with us. Raises cluster.local.bootstrap.UpFailed."""
        os.environ.update(ENVIRONMENT)
        bootstrap.up(self.folder, port=port, owned=True, report=self._report)

    def down(self) -> None:
        """End everything of it. Does nothing if nothing runs."""
        bootstrap.down(self.folder, self._report)

    @property
    def record(self) -> SystemRecord:
        """What runs where, now."""
        record = read_record(self.folder)
        assert record is not None, "the system of a chaos run is always up, or being mended"
        return record

    @property
    def keys(self) -> Keys:
        """Its secrets."""
        return keys_at(self.folder / "keys.json")

    def settings(self) -> Settings:
        """Its configuration, as its own processes have it."""
        record = self.record
        return load(record.config, store_url=record.store_url)

    def find(self, title: str) -> list[psutil.Process]:
        """Return its processes whose title or name begins so."""
        return processes_titled(self.record.run_folder, title)

    def part(self, name: str) -> psutil.Process:
        """Return the process of a part that the watchdog started ("store", "ray"), or the watchdog itself."""
        record = self.record
        mark: ProcessIdentity = record.watchdog if name == "watchdog" else record.pids[name]
        return psutil.Process(mark.pid)


def kill(process: psutil.Process) -> None:
    """End a process as a power cut would, and wait until it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)
        psutil.wait_procs([process], timeout=10)
