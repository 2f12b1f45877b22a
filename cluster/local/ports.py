"""Ports: gives every system on a machine a block of its own, so that no two ever answer each other's requests.

A block is `BLOCK_PORTS` consecutive ports below the range that the kernel hands out by itself. It is claimed by a lock
file for the life of the watchdog, and every port of it was free when it was claimed.
"""

import os
import socket
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from filelock import FileLock, Timeout

BLOCK_PORTS = 250
FIRST_PORT = 10_000
LAST_PORT = 32_767
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

PORTS = {
    "gcs": 0,
    "node_manager": 1,
    "object_manager": 2,
    "client_server": 3,
    "agent_http": 4,
    "agent_grpc": 5,
    "runtime_env_agent": 6,
    "metrics": 7,
    "dashboard": 8,
    "http": 9,
    "fallback_http": 10,
    "fallback_grpc": 11,
    "haproxy_metrics": 12,
    "haproxy_stats": 13,
    "replica_http_min": 20,
    "replica_http_max": 59,
    "replica_grpc_min": 60,
    "replica_grpc_max": 99,
    "worker_min": 100,
    "worker_max": 249,
}
"""What stands where in a block."""


class NoPorts(RuntimeError):
    """No block of this machine is free. End another system."""


class PortBlock(NamedTuple):
    """A claimed block; releasing the lock gives it back."""

    base: int
    lock: FileLock

    def ports(self) -> dict[str, int]:
        """Return every port by name."""
        return {name: self.base + offset for name, offset in PORTS.items()}


def claim_block(folder: Path, data: Path) -> PortBlock:
    """Claim a free block for the system of a data folder: its usual one, if free now.

    `folder` holds the lock files and is shared by the systems of one user. Raises NoPorts.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    bases = block_bases()
    first = crc32(str(data).encode()) % len(bases)
    for base in bases[first:] + bases[:first]:
        lock = FileLock(folder / f"{base}.lock", mode=0o600)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        if all(is_free(port) for port in range(base, base + BLOCK_PORTS)):
            return PortBlock(base, lock)
        lock.release()
    raise NoPorts(f"no {BLOCK_PORTS} free ports in a row between {bases[0]} and {bases[-1]}; end another system")


def block_bases() -> list[int]:
    """Return the first port of every block below the kernel's own range."""
    last = LAST_PORT
    if _EPHEMERAL_RANGE.exists():
        lowest = int(_EPHEMERAL_RANGE.read_text().split()[0])
        if lowest > 2 * FIRST_PORT:  # a kernel set to hand out nearly everything leaves nothing below
            last = min(last, lowest - 1)
    return list(range(FIRST_PORT, last + 2 - BLOCK_PORTS, BLOCK_PORTS))


def is_free(port: int) -> bool:
    """Tell whether nobody listens on the port, on any address of this machine."""
    with socket.socket() as probe:
        if os.name == "posix":  # a port that is only waiting out old connections is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # bound for an instant, never listened on
        except OSError:
            return False
        return True
