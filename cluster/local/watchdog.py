"""Watchdog: keeps one system's store and Ray alive on the same data, and ends them.

`up` starts it in a session of its own and hands it a `Plan` on its standard input, a lifeline. Three children: the
store, `ray start --block`, and the deployer that puts the gateway on Ray. A store that died is started again on its
folder and socket; when Ray's processes die, what is left of them is killed and Ray starts again on the same ports. It
never gives up, even when its own disk is full; only the pauses grow. SIGTERM drains and ends everything.
"""

import argparse
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType
from typing import Literal

from filelock import FileLock, Timeout

from cluster.config import load
from cluster.local.children import Child, bound_log
from cluster.local.haproxy_launcher import write_launcher
from cluster.local.lifeline import Lifeline, Plan
from cluster.local.ports import PortBlock, claim_block
from cluster.local.processes import ProcessIdentity
from cluster.local.record import (
    LOG_BYTES_MAX,
    RECORD_CHECK_S,
    WATCHDOG_LOCK,
    RecordUnreadable,
    SystemRecord,
    child_environment,
    drain,
    end_processes,
    is_ready,
    launcher_file,
    log_file,
    read_record,
    record_file,
    tail_of,
    write_record,
)
from cluster.local.run_folder import Upkeep, make_folders, new_run_folder, remove_run_folder, run_root
from cluster.local.store_log import Durable, StoreDamaged, durable_now, mend, missing_from, refuses_files, write_durable
from cluster.store import shown, store_answers, store_command, store_ended, store_url_of

TICK_S = 0.1
ROUND_PAUSE_S = 1.0
DEPLOY_SECONDS_MAX = 120.0
STORE_FAILURES_MAX = 3
"""A store that has ended so often by itself before it ever answered does not mend itself either."""

FAILURES_OF_DAMAGE = 3
"""A damaged journal does not mend itself: it counts so much that `up` gives up at once."""
STORE_END_SECONDS_MAX = 2.0
LOCK_SECONDS_MAX = 2.0
"""Who only looks whether the lock is taken holds it for an instant."""

UPKEEP_S = 1.0
LOG_LINES = 20
TROUBLE_CHARS_MAX = 500
LOGICAL_CPUS = 8
OBJECT_STORE_BYTES = 200_000_000
ARCHIVED_LOG_BYTES_MAX = 1_000_000

log = logging.getLogger("hongbao.watchdog")


class Watchdog:
    """One system's parts and its record."""

    def __init__(self, data: Path, plan: Plan, block: PortBlock, run_folder: Path) -> None:
        settings = load(plan.config)
        ports = block.ports()
        http_port = plan.port or ports["http"]
        reachable = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
        self.ending = False
        self.store_ready = False
        self.deployed = False
        self.store = Child("store", log_file(data, "store"))
        self.ray = Child("ray", log_file(data, "ray"))
        self.deploy = Child("deploy", log_file(data, "deploy"))
        self.checked_s = time.monotonic()
        self.record = SystemRecord(
            state="starting",
            phase="starting",
            url=f"http://{reachable}:{http_port}",
            host=settings.host,
            http_port=http_port,
            ray_address=f"127.0.0.1:{ports['gcs']}",
            store_url=plan.store_url or store_url_of(run_folder / "store.sock"),
            embedded_store=not plan.store_url,
            sandbox=plan.sandbox,
            config=plan.config,
            data=data,
            drain_ms=settings.timing.drain_ms,
            run_folder=run_folder,
            ports=ports,
            watchdog=ProcessIdentity.of(os.getpid()),
            pids={},
        )
        self.environment = child_environment(self.record)
        self.work = run_folder / "work"
        self.unwritten = False
        """The record on disk is not the present one: the disk was full."""
        self.upkeep = Upkeep(run_folder)
        self.upkeep_s = time.monotonic()
        self.durable: Durable | None = None
        self.missing_told = ""
        self.reasons: dict[str, str] = {}
        """Why a part was ended by this watchdog, by the part's name."""

    def tick(self) -> None:
        """Look at every part once, start what is due, and write down what changed."""
        self._watch_store()
        self._watch_ray()
        self._watch_deploy()
        if self.deployed and self.store_ready and self.record.phase != "ready":
            self._note(phase="waiting for the gateway to be ready")
            if is_ready(self.record.url):
                self._note(state="ready", phase="ready", trouble="", deploy_failures=0)
                log.info("ready at %s", self.record.url)
                self.upkeep.note()
        if time.monotonic() - self.upkeep_s > UPKEEP_S:
            self.upkeep_s = time.monotonic()
            self._keep_run_folder()
            if self.record.embedded_store and self.store_ready:
                self._note_durable()
        if self.unwritten:
            self._note()
        if time.monotonic() - self.checked_s > RECORD_CHECK_S:
            self.checked_s = time.monotonic()
            self._keep_files()

    def _keep_files(self) -> None:
        """Bound the logs, and see to it that the record is on disk as it is here."""
        self.unwritten = self.unwritten or not is_written(self.record)
        for part in (self.store, self.ray, self.deploy):
            bound_log(part.log_path)

    def _keep_run_folder(self) -> None:
        """Touch the run folder; name what is missing of it, and build it again by starting what stands in it anew."""
        self.upkeep.touch()
        missing, long_missing = self.upkeep.missing()
        trouble = missing_words(self.record.run_folder, missing)
        if trouble != self.missing_told:
            if trouble or self.record.trouble == self.missing_told:
                self._note(trouble=trouble)
            log.error("run folder: %s", trouble or "what was missing is there again")
            self.missing_told = trouble
        if not long_missing:
            return
        make_folders(self.record.run_folder)
        store_socket = self.record.run_folder / "store.sock"
        if store_socket in long_missing and self.store.process is not None:
            self.reasons["store"] = trouble
            self.store.process.terminate()
        if set(long_missing) - {store_socket} and self.ray.process is not None:
            self.reasons["ray"] = trouble
            self.ray.process.kill()
        self.upkeep.forget()
        self.missing_told = ""

    def _watch_store(self) -> None:
        if not self.record.embedded_store:
            if not self.store_ready:
                self.store_ready = store_answers(self.record.store_url)
            return
        code = self.store.ended()
        if code is not None:
            self.store_ready = False
            self._failed(self.store, code)
            self._mend_store(code)
        if self.store.is_due():
            if missing := missing_from(self.record.data):
                self._damaged(missing)
                return
            folder = self.record.data / "store"
            folder.mkdir(mode=0o700, exist_ok=True)
            self.store.start(store_command(folder, self.record.run_folder / "store.sock"), self.work, self.environment)
            self._note(phase="starting the store")
        if not self.store_ready and self.store.process is not None and store_answers(self.record.store_url):
            self.store_ready = True
            self._note(damaged=False)
            log.info("store: answers at %s", shown(self.record.store_url))

    def _mend_store(self, code: int) -> None:
        """Cut off what a crash has cut in the store's log, and say so if it cannot be read for another reason."""
        if code <= 0:
            return
        if refuses_files(tail_of(self.store.log_path, LOG_LINES)):
            try:
                cut = mend(self.record.data)
            except StoreDamaged as damage:
                self._damaged(str(damage))
                return
            if cut is not None:
                log.warning("store: %s", cut.words())
                self.store.due_s = 0.0
                return
        if self.store.deaths_in_a_row >= STORE_FAILURES_MAX:
            self._note(damaged=True)

    def _damaged(self, trouble: str) -> None:
        if trouble != self.record.trouble:
            log.error("store: %s", trouble)
        self.store.pause()
        self._note(trouble=trouble[:TROUBLE_CHARS_MAX], damaged=True)

    def _note_durable(self, *, sync: bool = False) -> None:
        """Write down how long the store's log is known to be on disk: what it was, if the store has answered since."""
        with contextlib.suppress(OSError, StoreDamaged):  # then what is known is a little older
            found = durable_now(self.record.data)
            if found is None or (found == self.durable and not sync):
                return
            if sync or store_answers(self.record.store_url):  # it answers between its writes, each of which is synced
                write_durable(self.record.data, found, sync=sync)
                self.durable = found

    def _watch_ray(self) -> None:
        code = self.ray.ended()
        if code is not None:
            self.deployed = False
            self.deploy.kill()
            self._failed(self.ray, code)
            self._clear_ray()
            self.upkeep.forget()
        if self.ray.is_due():
            write_launcher(launcher_file(self.record.run_folder), load(self.record.config))
            self.ray.start(ray_command(self.record), self.work, self.environment)
            self._note(phase="starting Ray")

    def _watch_deploy(self) -> None:
        code = self.deploy.ended()
        if code == 0:
            self.deployed = True
            self._note()
        elif code is not None:
            self._failed(self.deploy, code)
            more = FAILURES_OF_DAMAGE if code == os.EX_DATAERR else 1
            self._note(deploy_failures=self.record.deploy_failures + more)
        elif self.deploy.runs_s() > DEPLOY_SECONDS_MAX:
            log.error("deploy: not done after %d s, killed", DEPLOY_SECONDS_MAX)
            self.deploy.kill()
            self.deploy.pause()
            self._note(deploy_failures=self.record.deploy_failures + 1)
        wanted = not self.deployed and self.store_ready and self.ray.process is not None
        if wanted and self.deploy.is_due():
            command = [sys.executable, "-m", "cluster.deploy", "--data", str(self.record.data)]
            self._note()  # The deployer reads the record.
            self.deploy.start(command, self.work, self.environment)
            self._note(phase="starting Ray, then the gateway")

    def _failed(self, part: Child, code: int) -> None:
        part.pause()
        state = self.record.state
        if part is self.store:
            trouble = store_ended(code, tail_of(part.log_path, LOG_LINES))
        else:
            state = "starting"
            last = (tail_of(part.log_path, 1) or ["it said nothing"])[0]
            trouble = f"{part.name} ended with code {code}: {last.strip()}"
        trouble = self.reasons.pop(part.name, trouble)
        log.error("%s; next start in %.1f s", trouble, part.due_s - time.monotonic())
        self._note(state=state, phase=f"starting {part.name} again", trouble=trouble[:TROUBLE_CHARS_MAX])

    def _clear_ray(self) -> None:
        """Kill what Ray has left behind, keep its last logs, and empty its folders for the next start."""
        if not end_processes(self.record.run_folder, but_store=True):
            log.error("ray: some of its processes cannot be killed")
        keep_ray_logs(self.record)
        for name in ("r", "h"):
            shutil.rmtree(self.record.run_folder / name, ignore_errors=True)
        make_folders(self.record.run_folder)

    def _note(
        self,
        *,
        state: Literal["starting", "ready", "stopping"] | None = None,
        phase: str | None = None,
        trouble: str | None = None,
        damaged: bool | None = None,
        deploy_failures: int | None = None,
    ) -> None:
        """Write the record if anything in it has changed. Where it cannot be written, a later round writes it."""
        parts = [self.store, self.ray, self.deploy]
        changes: dict[str, object] = {
            "pids": {part.name: part.mark for part in parts if part.mark is not None},
            "restarts": {part.name: part.starts - 1 for part in parts[:2] if part.starts > 1},
        }
        given: dict[str, object | None] = {"state": state, "phase": phase, "trouble": trouble, "damaged": damaged}
        given["deploy_failures"] = deploy_failures
        changes |= {name: value for name, value in given.items() if value is not None}
        changed = self.record.model_copy(update=changes)
        if changed == self.record and not self.unwritten and record_file(self.record.data).exists():
            return
        self.record = changed
        try:
            write_record(changed)
        except OSError as failure:
            if not self.unwritten:
                log.error("the record cannot be written for now: %s", failure)
            self.unwritten = True
        else:
            self.unwritten = False

    def end(self) -> None:
        """Let what is under way be answered, then end everything. Killing Ray loses nothing that was told."""
        self._note(state="stopping", phase="stopping")
        log.info("stopping")
        if not drain(self.record.run_folder, self.record.drain_ms / 1000):
            log.warning("some requests were not answered within %d ms; their callers repeat", self.record.drain_ms)
        self.deploy.kill()
        self.ray.kill()
        end_processes(self.record.run_folder, but_store=True)
        if self.store.process is not None:
            self.store.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self.store.process.wait(STORE_END_SECONDS_MAX) == 0:
                    self._note_durable(sync=True)
            self.store.kill()
        end_processes(self.record.run_folder)
        keep_ray_logs(self.record)
        remove_run_folder(self.record.run_folder)
        record_file(self.record.data).unlink(missing_ok=True)
        log.info("stopped")


def missing_words(run_folder: Path, missing: list[Path]) -> str:
    """Say what somebody has removed from a run folder, and what is done; empty if nothing."""
    if not missing:
        return ""
    names = ", ".join(sorted(str(path.relative_to(run_folder)) for path in missing))
    return f"somebody has removed {names} from {run_folder}: what stood there is started anew"[:TROUBLE_CHARS_MAX]


def is_written(record: SystemRecord) -> bool:
    """Tell whether the record on disk is this one; a disk may lose or damage it."""
    try:
        return read_record(record.data) == record
    except (RecordUnreadable, OSError):
        return False


def ray_command(record: SystemRecord) -> list[str]:
    """Return the command that runs Ray on the system's own ports and folder, without dashboard and autoscaler."""
    ports = record.ports
    options = {
        "--node-ip-address": "127.0.0.1",
        "--port": ports["gcs"],
        "--node-manager-port": ports["node_manager"],
        "--object-manager-port": ports["object_manager"],
        "--ray-client-server-port": ports["client_server"],
        "--dashboard-agent-listen-port": ports["agent_http"],
        "--dashboard-agent-grpc-port": ports["agent_grpc"],
        "--runtime-env-agent-port": ports["runtime_env_agent"],
        "--metrics-export-port": ports["metrics"],
        "--dashboard-port": ports["dashboard"],
        "--min-worker-port": ports["worker_min"],
        "--max-worker-port": ports["worker_max"],
        "--num-cpus": LOGICAL_CPUS,
        "--object-store-memory": OBJECT_STORE_BYTES,
        "--temp-dir": record.run_folder / "r",
        "--include-dashboard": "false",
        "--include-log-monitor": "false",
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--no-monitor"]
    return command + [f"{name}={value}" for name, value in options.items()]


def keep_ray_logs(record: SystemRecord) -> None:
    """Copy the logs of the Ray that has ended to <data>/logs/ray-last, in place of those kept before."""
    sessions = sorted((record.run_folder / "r").glob("session_2*/logs"))
    kept = record.data / "logs" / "ray-last"
    if not sessions:
        return
    shutil.rmtree(kept, ignore_errors=True)
    for path in sessions[-1].rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= ARCHIVED_LOG_BYTES_MAX:
                target = kept / path.relative_to(sessions[-1])
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


def watch(data: Path, lifeline: Lifeline) -> None:
    """Run one system until SIGTERM."""
    wanted = {"end": False}

    def end(number: int, frame: FrameType | None) -> None:
        wanted["end"] = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    plan = lifeline.plan()
    block = claim_block(run_root() / "ports", data)
    watchdog = Watchdog(data, plan, block, new_run_folder())
    try:
        while not wanted["end"] and not lifeline.torn(TICK_S):
            try:
                watchdog.tick()
            except OSError:
                if not lifeline.started:  # while `up` still waits, it is the one to hear
                    raise
                log.exception("a round failed; the next one follows")
                time.sleep(ROUND_PAUSE_S)
    finally:
        watchdog.end()
        block.lock.release()


def main() -> None:
    """Run the watchdog of a data folder; started by `cluster.local.bootstrap.up`."""
    parser = argparse.ArgumentParser(description="Keep one system alive; `hongbao up` starts it.")
    parser.add_argument("--data", type=Path, required=True)
    data: Path = parser.parse_args().data
    handler = RotatingFileHandler(log_file(data, "watchdog"), maxBytes=LOG_BYTES_MAX, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        with FileLock(data / WATCHDOG_LOCK, timeout=LOCK_SECONDS_MAX, mode=0o600):
            watch(data, Lifeline(sys.stdin.fileno()))
    except Timeout:
        sys.exit("hongbao: this data folder is in use: by another watchdog, or by a command that reads its journals")
    except Exception:
        log.exception("the watchdog ends")
        raise


if __name__ == "__main__":
    main()
