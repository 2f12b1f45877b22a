"""Watchdog: keeps one system's store and Ray alive on the same data, and ends them.

`up` starts it in a session of its own and hands it a `Plan` on its standard input; the pipe is a lifeline: until `up`
writes `keep`, its end (Ctrl-C, a crash) ends the system too. Three children: the store, `ray start --block`, and the
deployer that puts the gateway on Ray. A store that died is started again on its folder and socket; when Ray's processes
die, what is left of them is killed and Ray starts again on the same ports. It never gives up, also not when its own
disk is full; the pauses grow to `PAUSE_SECONDS_MAX`. SIGTERM drains and ends everything.
"""

import argparse
import contextlib
import logging
import os
import select
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
from pydantic import BaseModel, ConfigDict

from cluster.config import load
from cluster.ports import PortBlock, claim_block
from cluster.store import shown, store_answers, store_command, store_ended, store_url_of
from cluster.system import (
    LOG_BYTES_MAX,
    Mark,
    SystemRecord,
    child_environment,
    drain,
    end_processes,
    is_ready,
    log_file,
    new_run_folder,
    record_file,
    remove_run_folder,
    run_root,
    tail_of,
    write_record,
)

TICK_S = 0.1
ROUND_PAUSE_S = 1.0
PAUSE_SECONDS_MAX = 10.0
STEADY_S = 60.0
DEPLOY_SECONDS_MAX = 120.0
FAILURES_OF_DAMAGE = 3
"""A damaged journal does not mend itself: it counts so much that `up` gives up at once."""
STORE_END_SECONDS_MAX = 2.0
LOG_CHECK_S = 10.0
LOG_LINES = 20
TROUBLE_CHARS_MAX = 500
LOGICAL_CPUS = 8
OBJECT_STORE_BYTES = 200_000_000
PLAN_BYTES_MAX = 16_384
ARCHIVED_LOG_BYTES_MAX = 1_000_000
KEEP = b"keep\n"

log = logging.getLogger("hongbao.watchdog")


class Plan(BaseModel):
    """What `up` asks for. An empty `store_url` means our own store; port 0 means any."""

    model_config = ConfigDict(frozen=True)

    port: int
    config: str
    store_url: str
    sandbox: bool = False


class Part:
    """A child: started, watched, started again after a pause that doubles with every early death."""

    def __init__(self, name: str, log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self.process: subprocess.Popen[bytes] | None = None
        self.mark: Mark | None = None
        self.starts = 0
        self.deaths_in_a_row = 0
        self.started_s = 0.0
        self.due_s = 0.0

    def is_due(self) -> bool:
        """Tell whether it does not run and its pause is over."""
        return self.process is None and time.monotonic() >= self.due_s

    def start(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        """Start it in its run folder, which marks it and its descendants as ours."""
        bound_log(self.log_path)
        with self.log_path.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        self.mark = Mark.of(self.process.pid)
        self.starts += 1
        self.started_s = time.monotonic()
        log.info("%s: started, pid %d", self.name, self.process.pid)

    def ended(self) -> int | None:
        """Return the exit code of a process that has just ended, once; None otherwise."""
        if self.process is None:
            return None
        code = self.process.poll()
        if code is None:
            return None
        self.process = self.mark = None
        return code

    def runs_s(self) -> float:
        """Return how long it has been running, in seconds; 0 if it does not."""
        return 0.0 if self.process is None else time.monotonic() - self.started_s

    def pause(self) -> None:
        """Put the next start off."""
        self.deaths_in_a_row = 0 if time.monotonic() - self.started_s > STEADY_S else self.deaths_in_a_row + 1
        self.due_s = time.monotonic() + min(PAUSE_SECONDS_MAX, 0.1 * 2**self.deaths_in_a_row)

    def kill(self) -> None:
        """End it now and reap it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = self.mark = None


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
        self.store = Part("store", log_file(data, "store"))
        self.ray = Part("ray", log_file(data, "ray"))
        self.deploy = Part("deploy", log_file(data, "deploy"))
        self.logs_checked_s = time.monotonic()
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
            watchdog=Mark.of(os.getpid()),
            pids={},
        )
        self.environment = child_environment(self.record)
        self.work = run_folder / "work"
        self.unwritten = False
        """The record on disk is not the present one: the disk was full."""

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
        if self.unwritten:
            self._note()
        if time.monotonic() - self.logs_checked_s > LOG_CHECK_S:
            self.logs_checked_s = time.monotonic()
            for part in (self.store, self.ray, self.deploy):
                bound_log(part.log_path)

    def _watch_store(self) -> None:
        if not self.record.embedded_store:
            if not self.store_ready:
                self.store_ready = store_answers(self.record.store_url)
            return
        code = self.store.ended()
        if code is not None:
            self.store_ready = False
            self._failed(self.store, code)
        if self.store.is_due():
            folder = self.record.data / "store"
            folder.mkdir(mode=0o700, exist_ok=True)
            self.store.start(store_command(folder, self.record.run_folder / "store.sock"), self.work, self.environment)
            self._note(phase="starting the store")
        if not self.store_ready and self.store.process is not None and store_answers(self.record.store_url):
            self.store_ready = True
            log.info("store: answers at %s", shown(self.record.store_url))

    def _watch_ray(self) -> None:
        code = self.ray.ended()
        if code is not None:
            self.deployed = False
            self.deploy.kill()
            self._failed(self.ray, code)
            self._clear_ray()
        if self.ray.is_due():
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

    def _failed(self, part: Part, code: int) -> None:
        part.pause()
        state = self.record.state
        if part is self.store:
            trouble = store_ended(code, tail_of(part.log_path, LOG_LINES))
        else:
            state = "starting"
            last = (tail_of(part.log_path, 1) or ["it said nothing"])[0]
            trouble = f"{part.name} ended with code {code}: {last.strip()}"
        log.error("%s; next start in %.1f s", trouble, part.due_s - time.monotonic())
        self._note(state=state, phase=f"starting {part.name} again", trouble=trouble[:TROUBLE_CHARS_MAX])

    def _clear_ray(self) -> None:
        """Kill what Ray has left behind, keep its last logs, and empty its folders for the next start."""
        if not end_processes(self.record.run_folder, but_store=True):
            log.error("ray: some of its processes cannot be killed")
        keep_ray_logs(self.record)
        for name in ("r", "h"):
            folder = self.record.run_folder / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700, exist_ok=True)

    def _note(
        self,
        *,
        state: Literal["starting", "ready", "stopping"] | None = None,
        phase: str | None = None,
        trouble: str | None = None,
        deploy_failures: int | None = None,
    ) -> None:
        """Write the record if anything in it has changed. Where it cannot be written, a later round writes it."""
        parts = [self.store, self.ray, self.deploy]
        changes: dict[str, object] = {
            "pids": {part.name: part.mark for part in parts if part.mark is not None},
            "restarts": {part.name: part.starts - 1 for part in parts[:2] if part.starts > 1},
        }
        given = {"state": state, "phase": phase, "trouble": trouble, "deploy_failures": deploy_failures}
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
                self.store.process.wait(STORE_END_SECONDS_MAX)
            self.store.kill()
        end_processes(self.record.run_folder)
        keep_ray_logs(self.record)
        remove_run_folder(self.record.run_folder)
        record_file(self.record.data).unlink(missing_ok=True)
        log.info("stopped")


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


def bound_log(path: Path) -> None:
    """Move a log that has grown too long aside. Its writer appends, so it goes on in the emptied file."""
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        with contextlib.suppress(OSError):  # a full disk keeps what it can; the log is emptied anyway
            shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)


class Lifeline:
    """The pipe from `up`: the plan on its first line, later `keep`; its end before that ends the system."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.kept = False

    def plan(self) -> Plan:
        """Read the plan. Raises pydantic.ValidationError if `up` has gone before it had written it."""
        line = b""
        while not line.endswith(b"\n") and len(line) < PLAN_BYTES_MAX:
            byte = os.read(self.descriptor, 1)
            if not byte:
                break
            line += byte
        return Plan.model_validate_json(line)

    def torn(self, wait_s: float) -> bool:
        """Wait a moment; tell whether `up` has gone without saying `keep`."""
        if self.kept:
            time.sleep(wait_s)
            return False
        readable, _, _ = select.select([self.descriptor], [], [], wait_s)
        if not readable:
            return False
        heard = os.read(self.descriptor, PLAN_BYTES_MAX)
        self.kept = KEEP in heard
        return not self.kept


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
                if not lifeline.kept:  # while `up` still waits, it is the one to hear
                    raise
                log.exception("a round failed; the next one follows")
                time.sleep(ROUND_PAUSE_S)
    finally:
        watchdog.end()
        block.lock.release()


def main() -> None:
    """Run the watchdog of a data folder; started by `cluster.bootstrap.up`."""
    parser = argparse.ArgumentParser(description="Keep one system alive; `hongbao up` starts it.")
    parser.add_argument("--data", type=Path, required=True)
    data: Path = parser.parse_args().data
    handler = RotatingFileHandler(log_file(data, "watchdog"), maxBytes=LOG_BYTES_MAX, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        with FileLock(data / "watchdog.lock", timeout=0, mode=0o600):
            watch(data, Lifeline(sys.stdin.fileno()))
    except Timeout:
        sys.exit("hongbao: this data folder is in use: by another watchdog, or by a command that reads its journals")
    except Exception:
        log.exception("the watchdog ends")
        raise


if __name__ == "__main__":
    main()
