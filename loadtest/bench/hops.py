"""Hops: processor time by the part of the platform that spent it, read from the processes themselves.

What a part spends while nobody asks anything (health checks, ticks, Ray's own agents) is measured once and taken off,
so that a difference of two readings is what the load between them cost, settlement included if it is over.
"""

import contextlib
import time
from typing import NamedTuple

import psutil

from cluster.local.processes import ProcessIdentity
from cluster.local.record import SystemRecord, processes_of

SERVERS = ("haproxy", "gateway", "packet shard", "wallet shard", "settlement", "store", "ray")
CLIENT = "client"

Birth = tuple[int, float]


class Reading(NamedTuple):
    """Processor seconds of every process since it started, by hop."""

    at_s: float
    cpu_s: dict[str, dict[Birth, float]]


class Hops:
    """The processes of one system."""

    def __init__(self, record: SystemRecord, pids: dict[int, str]) -> None:
        """`pids` names the processes that cannot be told by their titles: shards, store."""
        self._folder = record.run_folder
        self._pids = pids
        self._idle: dict[str, float] = {}

    def read(self) -> Reading:
        """Read all processes."""
        cpu_s: dict[str, dict[Birth, float]] = {hop: {} for hop in SERVERS}
        for process in processes_of(self._folder):
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                hop = self._pids.get(process.pid) or hop_of(process.name(), " ".join(process.cmdline()))
                times = process.cpu_times()
                cpu_s[hop][process.pid, ProcessIdentity.of(process.pid).started] = times.user + times.system
        return Reading(time.monotonic(), cpu_s)

    def rest(self, before: Reading) -> None:
        """Take what was spent since `before` for what an idle system spends."""
        after = self.read()
        self._idle = {hop: spent / (after.at_s - before.at_s) for hop, spent in spent_between(before, after).items()}

    def since(self, before: Reading) -> dict[str, float]:
        """Return the processor seconds of each hop since a reading, without what an idle system spends."""
        after = self.read()
        seconds = after.at_s - before.at_s
        spent = spent_between(before, after)
        return {hop: max(0.0, cpu_s - self._idle.get(hop, 0.0) * seconds) for hop, cpu_s in spent.items()}


def spent_between(before: Reading, after: Reading) -> dict[str, float]:
    """Add up by hop; a process that was born between counts whole."""
    return {
        hop: sum(cpu_s - before.cpu_s[hop].get(birth, 0.0) for birth, cpu_s in processes.items())
        for hop, processes in after.cpu_s.items()
    }


def hop_of(name: str, command: str) -> str:
    """Tell a process's hop by its name and its title, which Ray sets to `ray::<what it runs>`."""
    if "haproxy" in name:
        return "haproxy"
    if "valkey-server" in name:
        return "store"
    if "ServeReplica:hongbao" in command:
        return "gateway"
    if "settle_hosts" in command:
        return "settlement"
    return "ray"
