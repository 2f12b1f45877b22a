"""Record: what a running system is, its environment, and the processes that are its own.

The record stands in `<data>/system.json`, mode 0600, replaced by rename and written by the watchdog alone. A process
belongs to a system if its working folder is the system's, whatever its parent is now: Ray's agents and HAProxy may
outlive Ray.
"""

import contextlib
import http.client
import os
import re
import secrets
import signal
import time
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.kernel.errors import OperatingFailure
from cluster.config import SERVE_ENVIRONMENT
from cluster.local.processes import ProcessIdentity, command_line, is_named, runs
from cluster.local.secret_files import make_private, read_private

LOG_BYTES_MAX = 8 * 1024 * 1024
END_SECONDS_MAX = 2.5
DRAIN_POLL_S = 0.02

METRICS_REPORT_MS = 30_000
"""How often Ray's processes hand their metrics to the agent that Prometheus scrapes.

At 5 s the agent took an eighth of a core of two that answered 4,600 requests a second. `hongbao top` asks elsewhere.
"""

RECORD_CHECK_S = 10.0
"""How often the watchdog makes sure that its record is on disk as it wrote it."""

WATCHDOG_LOCK = "watchdog.lock"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class RecordUnreadable(OperatingFailure):
    """The record of a system is there and says nothing. The message says what becomes of it."""


class SystemRecord(BaseModel):
    """What runs where. `store_url` may carry a password."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["starting", "ready", "stopping"]
    phase: str
    """What the watchdog is doing, for people."""
    trouble: str = ""
    """The last failure, for people; empty once ready."""
    drain_ms: int = 0
    """How long `down` waits for requests under way."""
    damaged: bool = False
    """The trouble does not mend itself: waiting for the system is in vain."""
    deploy_failures: int = 0
    restarts: dict[str, int] = Field(default_factory=dict)
    url: str
    host: str
    http_port: int
    ray_address: str
    store_url: str = Field(repr=False)
    embedded_store: bool
    sandbox: bool = False
    config: str
    data: Path
    run_folder: Path
    ports: dict[str, int]
    watchdog: ProcessIdentity
    pids: dict[str, ProcessIdentity]
    """`store`, `ray`, `deploy`: those that run."""


def record_file(data: Path) -> Path:
    """Return where the record of a data folder stands."""
    return data / "system.json"


def read_record(data: Path) -> SystemRecord | None:
    """Return the record of a data folder; None if there is none. Raises RecordUnreadable."""
    path = record_file(data)
    try:
        return SystemRecord.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError:
        raise RecordUnreadable(
            f"{path} cannot be read: it is damaged, or of another version; a watchdog that runs writes it anew within "
            f"{RECORD_CHECK_S:.0f} s, and where none runs `hongbao up` does"
        ) from None


def has_watchdog(data: Path) -> bool:
    """Tell whether the lock of a data folder is taken: by a watchdog, or by a command that reads its journals."""
    if not (data / WATCHDOG_LOCK).exists():
        return False
    lock = FileLock(data / WATCHDOG_LOCK, timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    return False


def write_record(record: SystemRecord) -> None:
    """Replace the record in one step."""
    path = record_file(record.data)
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(record.model_dump_json(indent=2))
    draft.replace(path)


# Folders


def ray_token_file(data: Path) -> Path:
    """Return the file of Ray's token, mode 0600, made with a random token if it is not there.

    Raises PermissionError: others may use it, and its holder runs any code in this system.
    """
    path = data / "ray_token"
    with contextlib.suppress(FileExistsError):
        make_private(path, secrets.token_hex(32).encode())
    read_private(path)
    return path


def log_file(data: Path, name: str) -> Path:
    """Return the log of a part, e.g. "ray" -> <data>/logs/ray.log."""
    return data / "logs" / f"{name}.log"


def tail_of(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log that say something."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in _COLOUR.sub("", text).splitlines() if line.strip()][-lines:]


# Environment


def launcher_file(run_folder: Path) -> Path:
    """Return what Serve starts in HAProxy's place: see `cluster.local.haproxy`."""
    return run_folder / "haproxy"


def system_environment(record: SystemRecord) -> dict[str, str]:
    """Return the variables with which a process joins this system's Ray; set them before Ray is imported.

    Then `ray.init(address=record.ray_address, namespace="hongbao")` is a driver of it.
    """
    ports, haproxy = record.ports, record.run_folder / "h"
    return {
        **SERVE_ENVIRONMENT,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray then stays on the loopback address
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # Ray's own 15 lets every other process on the machine go before a payment
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(record.data / "ray_token"),
        "RAY_ROTATION_MAX_BYTES": str(LOG_BYTES_MAX),
        "RAY_ROTATION_BACKUP_COUNT": "1",
        "HONGBAO_DRAIN_FILE": str(_drain_file(record.run_folder)),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports["fallback_http"]),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports["fallback_grpc"]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports["replica_http_min"]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports["replica_http_max"]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(ports["replica_grpc_min"]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(ports["replica_grpc_max"]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        # A dead HAProxy is replaced after three failed checks: within 4 s instead of Serve's 30 s.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "5",
        "RAY_metrics_report_interval_ms": str(METRICS_REPORT_MS),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(launcher_file(record.run_folder)),
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",  # a log line a request, parsed by a Python process
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports["haproxy_metrics"]),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports["haproxy_stats"]),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
    }


def child_environment(record: SystemRecord) -> dict[str, str]:
    """Return the whole environment of the system's own processes.

    What the caller has set for another Ray (its address, its token) does not reach this one.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return inherited | system_environment(record) | {"PYTHONUNBUFFERED": "1"}


# Processes


def processes_of(run_folder: Path) -> list[psutil.Process]:
    """Return every process of a system but its watchdog, wherever it hangs in the process tree."""
    work, store_socket = str(run_folder / "work"), str(run_folder / "store.sock")
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            # The store changes into its data folder, but names its socket on its command line.
            ours = process.cwd().removesuffix(" (deleted)") == work or store_socket in command_line(process)
            if ours and runs(process):
                found.append(process)
    return found


def run_folders_of(data: Path) -> set[Path]:
    """Return the run folders of all stores that serve a data folder, also where no record tells of them."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = process.cmdline()
            if str(data / "store") in words and "--unixsocket" in words and runs(process):
                found.add(Path(words[words.index("--unixsocket") + 1]).parent)
    return found


def processes_titled(run_folder: Path, title: str) -> list[psutil.Process]:
    """Return the processes of a system whose title begins so ("ray::ShardActor"), or whose name is this ("haproxy")."""
    found = [(process, command_line(process)) for process in processes_of(run_folder)]
    return [process for process, told in found if told.startswith(title) or is_named(process, title)]


def end_processes(run_folder: Path, *, but_store: bool = False) -> bool:
    """Kill what runs in a run folder, until nothing does. What is durable needs no farewell. False if some stay."""
    deadline = time.monotonic() + END_SECONDS_MAX
    while time.monotonic() < deadline:
        left = [each for each in processes_of(run_folder) if not (but_store and is_named(each, "valkey-server"))]
        if not left:
            return True
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)  # psutil checks that it is still the same process
        psutil.wait_procs(left, timeout=0.5)
    return False


def _drain_file(run_folder: Path) -> Path:
    return run_folder / "draining"


def drain(run_folder: Path, seconds_max: float) -> bool:
    """Take no new connection, let what is under way be answered; False if not all of it was within `seconds_max`.

    HAProxy closes its listeners and idle connections at once, and ends when its last request is answered. Streams
    have no end of their own: the replicas end them when they see the file.
    """
    with contextlib.suppress(OSError):
        _drain_file(run_folder).touch()
    proxies = [process for process in processes_of(run_folder) if is_named(process, "haproxy")]
    for process in proxies:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + seconds_max
    while any(runs(process) for process in proxies):
        if time.monotonic() > deadline:
            return False
        time.sleep(DRAIN_POLL_S)
    return True


def is_ready(url: str, timeout_s: float = 2.0) -> bool:
    """Ask `/readyz`; yes means that money can be served now."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
