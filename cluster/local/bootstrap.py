"""Bootstrap: starts, ends and describes the one system of a data folder on this machine.

`up` starts a watchdog in a session of its own and returns when money can be served; `down` ends it by pid; both may
be repeated. A system is known by its record (`cluster.local.record`), never by the names of processes.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from cluster.config import DEFAULT_CONFIG, KEYS_FILE, config_path, data_folder, keys_at, load, sandbox_of
from cluster.local.lifeline import KEEP, OWN, Plan, disown, own
from cluster.local.ports import is_free
from cluster.local.record import (
    RECORD_CHECK_S,
    RecordUnreadable,
    SystemRecord,
    end_processes,
    has_watchdog,
    is_ready,
    log_file,
    ray_token_file,
    read_record,
    record_file,
    run_folders_of,
    system_environment,
    tail_of,
)
from cluster.local.run_folder import remove_run_folder
from cluster.local.store_log import cuts_of, missing_from
from cluster.pictures.process import can_make, check_photos
from cluster.store import check_store, shown, store_binary, store_refusal

__all__ = ["SystemRecord", "SystemStatus", "UpFailed", "down", "status", "system_environment", "up"]

UP_SECONDS_MAX = 150.0
RUNNING_SECONDS_MAX = 20.0
"""A system that its watchdog takes for ready is asked so long: it may be busy with what `status` then tells."""
DEPLOY_FAILURES_MAX = 3
WATCHDOG_END_SECONDS_MAX = 6.0
"""Beside the time that requests under way are given."""
POLL_S = 0.1
DISK_BYTES_MIN = 1_048_576
"""With less free than this the store is about to end, or has."""
TAIL_LINES = 15


class UpFailed(RuntimeError):
    """The system did not start and nothing of it runs. The message is one line that says why and where to look."""


class SystemStatus(BaseModel):
    """What `status` found. `broken` means that the watchdog died: `up` starts the system again."""

    model_config = ConfigDict(frozen=True)

    state: Literal["stopped", "starting", "ready", "stopping", "broken"]
    ready: bool
    """`/readyz` answers 200 now."""
    phase: str
    trouble: str
    """What is the matter, in one line; empty while money is served."""
    url: str
    data: Path
    pids: dict[str, int]
    """Those that are alive."""
    restarts: dict[str, int]
    ports: dict[str, int]


def up(
    data: Path,
    *,
    port: int = 0,
    config: str | None = None,
    store_url: str | None = None,
    sandbox: bool | None = None,
    owned: bool = False,
    report: Callable[[str], None],
) -> SystemRecord:
    """Start the system of a data folder, or find it running, and return once money can be served.

    `port` 0 takes any free one; `config` None takes "local"; `store_url` None takes the configuration's store, or else
    our own; `sandbox` None is decided by `cluster.config.sandbox_of`. A system that already runs stays as it is,
    and is refused if it is not what is asked for. `report` hears what is being done. Interrupted, it leaves nothing.
    What is started stays for good, or, if it is `owned`, until this process ends, in whatever way, or calls `down`.
    Raises UpFailed, cluster.store.StoreUnusable: one line each; correct what it names and call again.
    """
    deadline = time.monotonic() + UP_SECONDS_MAX
    data = data_folder(data)
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    (data / "logs").mkdir(exist_ok=True, mode=0o700)
    try:
        with FileLock(data / "up.lock", timeout=UP_SECONDS_MAX, mode=0o600):
            running = _found(data, report)
            if running is not None and running.watchdog.alive() and running.state != "stopping":
                _check_same(running, port, config, store_url, sandbox)
                report("already running")
                return _wait(data, None, deadline, report)
            if running is not None:
                _clear(running, report)
            plan = _plan(port, config or DEFAULT_CONFIG, store_url, sandbox, report)
            if (data / KEYS_FILE).exists():
                keys_at(data / KEYS_FILE)  # those of a new system are made once its store is known to be empty
            ray_token_file(data)
            if not plan.store_url and (missing := missing_from(data)):
                raise UpFailed(missing)
            told = len(cuts_of(data))
            record = _start(data, plan, deadline, owned, report)
            for cut in cuts_of(data)[told:]:
                report(f"cut off the store's log: {cut.words()}")
            return record
    except Timeout:
        raise UpFailed(f"another start of {data} is still at work; wait for it or end it") from None


def _check_same(
    running: SystemRecord, port: int, config: str | None, store_url: str | None, sandbox: bool | None
) -> None:
    """Raise UpFailed if the running system is another than what is asked for; None and port 0 ask for nothing."""
    own_store = "" if running.embedded_store else running.store_url
    compared = (
        ("port", port or None, running.http_port),
        ("configuration", None if config is None else _stored(config), running.config),
        ("store", None if store_url is None else shown(store_url), shown(own_store) if own_store else "its own"),
        ("sandbox", None if sandbox is None else _yes(sandbox), _yes(running.sandbox)),
    )
    if others := [f"{name} {now}, not {asked}" for name, asked, now in compared if asked not in (None, now)]:
        raise UpFailed(
            f"a system already runs on {running.data} with {'; '.join(others)}: `hongbao down` first, or leave that out"
        )


def _yes(on: bool) -> str:
    return "on" if on else "off"


def _stored(config: str) -> str:
    """Return a configuration as the record names it: a name, or an absolute path."""
    path = config_path(config)
    return config if path.name == f"{config}.toml" else str(path.absolute())


def _found(data: Path, report: Callable[[str], None]) -> SystemRecord | None:
    """Return the record of a data folder; one that cannot be read is removed if nobody runs there any more.

    Without a record, what an earlier life has left running on the folder's store is ended: no store meets a second one.
    Raises RecordUnreadable.
    """
    deadline = time.monotonic() + RECORD_CHECK_S + POLL_S
    while True:
        try:
            record = read_record(data)
            break
        except RecordUnreadable as failure:
            if not has_watchdog(data):
                report(f"{record_file(data)} is damaged and nobody runs there: it is removed")
                record_file(data).unlink(missing_ok=True)
            elif time.monotonic() > deadline:
                raise
            else:
                report(f"{failure}; waiting")
                time.sleep(POLL_S * 10)
    if record is None and not has_watchdog(data):
        for folder in run_folders_of(data):
            report(f"ending what an earlier life has left in {folder}")
            _end_all(folder, report)
    return record


def _readable(data: Path) -> SystemRecord | None:
    with contextlib.suppress(RecordUnreadable):
        return read_record(data)
    return None


def _end_all(run_folder: Path, report: Callable[[str], None]) -> None:
    if not end_processes(run_folder):
        report(f"warning: some processes in {run_folder} cannot be killed")
    remove_run_folder(run_folder)


def _plan(port: int, config: str, store_url: str | None, sandbox: bool | None, report: Callable[[str], None]) -> Plan:
    """Check everything that can be checked before anything is started."""
    if not __debug__:
        raise UpFailed("refuses to run without assertions; start it without python -O and PYTHONOPTIMIZE")
    try:
        settings = load(config)
        chosen = store_url or settings.store_url
        sandbox = sandbox_of(settings, sandbox, own_store=not chosen)
        check_photos(settings.photos_url)
    except (FileNotFoundError, ValueError) as failure:  # pydantic's ValidationError is a ValueError
        raise UpFailed(" ".join(str(failure).split())) from None
    if not can_make():
        report("without photos: pip install 'hongbao[photos]' brings them")
    if port and not is_free(port):
        raise UpFailed(f"port {port} is in use; give another --port, or 0 for any free one")
    if chosen:
        report("checking the store")
        check_store(chosen, report)
    else:
        store_binary()
    return Plan(port=port, config=_stored(config), store_url=chosen, sandbox=sandbox)


def _start(data: Path, plan: Plan, deadline: float, owned: bool, report: Callable[[str], None]) -> SystemRecord:
    with log_file(data, "watchdog-output").open("wb") as output:
        watchdog = subprocess.Popen(
            [sys.executable, "-m", "cluster.local.watchdog", "--data", str(data)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )
    assert watchdog.stdin is not None
    lifeline = watchdog.stdin
    try:
        lifeline.write(plan.model_dump_json().encode() + b"\n")
        lifeline.flush()
        record = _wait(data, watchdog, deadline, report)
        lifeline.write(OWN if owned else KEEP)
        lifeline.flush()
    except BaseException:
        with contextlib.suppress(OSError):
            watchdog.terminate()
        _finish(data, watchdog)
        with contextlib.suppress(OSError):
            lifeline.close()
        raise
    if owned:
        own(data, lifeline)
    else:
        lifeline.close()
    return record


def _finish(data: Path, watchdog: "subprocess.Popen[bytes]") -> None:
    """Wait for the end of a watchdog that was told to end, and make sure of it, also if interrupted again."""
    record = _readable(data)
    try:
        watchdog.wait(WATCHDOG_END_SECONDS_MAX + (record.drain_ms / 1000 if record is not None else 0))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        watchdog.kill()
        watchdog.wait()
    record = _readable(data)
    if record is not None and record.watchdog.pid == watchdog.pid:
        _clear(record, _unheard)


def _wait(
    data: Path, watchdog: "subprocess.Popen[bytes] | None", deadline: float, report: Callable[[str], None]
) -> SystemRecord:
    """Wait until the watchdog says ready. Raises UpFailed."""
    told, began = "", time.monotonic()
    while True:
        record = read_record(data)
        if record is not None and (watchdog is None or record.watchdog.pid == watchdog.pid):
            if record.state == "ready" and is_ready(record.url):
                return record
            if watchdog is None and record.state == "ready":
                words = _trouble(record, _alive(record))
                if time.monotonic() > began + RUNNING_SECONDS_MAX:
                    raise UpFailed(f"it runs and is not ready: {words}")
            else:
                words = f"{record.phase}; {record.trouble}" if record.trouble else record.phase
            if words != told:
                told = words
                report(told)
            if record.damaged:
                raise UpFailed(record.trouble)
            if watchdog is not None and record.deploy_failures >= DEPLOY_FAILURES_MAX:
                raise _failure(data, record, "the gateway cannot be deployed", "deploy", report)
        gone = record is None or not record.watchdog.alive() if watchdog is None else watchdog.poll() is not None
        if gone:
            name = "watchdog-output" if tail_of(log_file(data, "watchdog-output"), 1) else "watchdog"
            raise _failure(data, record, "the watchdog ended while the system was starting", name, report)
        if time.monotonic() > deadline:
            culprit = "ray" if record is None or "deploy" not in record.pids else "deploy"
            raise _failure(data, record, f"not ready after {UP_SECONDS_MAX:.0f} s ({told})", culprit, report)
        time.sleep(POLL_S)


def _failure(data: Path, record: SystemRecord | None, what: str, name: str, report: Callable[[str], None]) -> UpFailed:
    """Show the tail of the log that tells most, and return the failure in one line."""
    path = log_file(data, name)
    for line in tail_of(path, TAIL_LINES):
        report(line)
    trouble = record.trouble if record is not None else (tail_of(path, 1) or [""])[0].strip()
    return UpFailed(f"{what}{': ' if trouble else ''}{trouble}; see {path}")


def down(data: Path, report: Callable[[str], None]) -> None:
    """End the system of a data folder within 10 s; its money stays in the folder. Does nothing if none runs.

    Requests under way are answered first, as far as that is possible within `timing.drain_ms`.
    """
    data = data_folder(data)
    record = _found(data, report)
    disown(data)
    if record is None:
        report("not running")
        return
    if record.watchdog.alive():
        report("stopping")
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.watchdog.pid, signal.SIGTERM)
        deadline = time.monotonic() + WATCHDOG_END_SECONDS_MAX + record.drain_ms / 1000
        while record.watchdog.alive() and time.monotonic() < deadline:
            time.sleep(POLL_S)
    _clear(record, report)
    with contextlib.suppress(ChildProcessError):  # it may be a child of this very process, then it is reaped
        os.waitpid(record.watchdog.pid, os.WNOHANG)


def _clear(record: SystemRecord, report: Callable[[str], None]) -> None:
    """Remove what a system has left behind: its processes, folder and record."""
    if record.watchdog.alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.watchdog.pid, signal.SIGKILL)
    _end_all(record.run_folder, report)
    found = _readable(record.data)
    if found is not None and found.run_folder == record.run_folder:
        record_file(record.data).unlink(missing_ok=True)


def _unheard(words: str) -> None:
    """Drop a report: the caller is about to hear of the failure itself."""


def status(data: Path) -> SystemStatus:
    """Describe the system of a data folder."""
    data = data_folder(data)
    nothing = SystemStatus(
        state="stopped", ready=False, phase="", trouble="", url="", data=data, pids={}, restarts={}, ports={}
    )
    try:
        record = read_record(data)
    except RecordUnreadable as failure:
        return nothing.model_copy(update={"state": "broken", "trouble": str(failure)})
    if record is None:
        return nothing
    pids = _alive(record)
    ready = is_ready(record.url)
    return SystemStatus(
        state=record.state if "watchdog" in pids else "broken",
        ready=ready,
        phase=record.phase,
        trouble=record.trouble if ready and "watchdog" in pids else _trouble(record, pids),
        url=record.url,
        data=data,
        pids=pids,
        restarts=record.restarts,
        ports={"http": record.http_port} | {k: v for k, v in record.ports.items() if k != "http"},
    )


def _alive(record: SystemRecord) -> dict[str, int]:
    marks = {"watchdog": record.watchdog, **record.pids}
    return {name: mark.pid for name, mark in marks.items() if mark.alive()}


def _trouble(record: SystemRecord, pids: dict[str, int]) -> str:
    """Say what is the matter: first what lasts until somebody acts, then what the store last ended of."""
    if "watchdog" not in pids:
        return "nobody looks after this system, its watchdog was killed; `hongbao up` mends it"
    if record.embedded_store and shutil.disk_usage(record.data).free < DISK_BYTES_MIN:
        return f"the disk of {record.data} is full: new money is refused, nothing acknowledged is lost; free some"
    refused = store_refusal(record.store_url)
    if refused is None and not record.trouble:
        return (
            f"the store at {shown(record.store_url)} does not answer: money is refused until it does, nothing is lost"
        )
    return refused or record.trouble
