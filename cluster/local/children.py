"""Children: the processes of a watchdog, each started, watched, started again after a pause, with a bounded log."""

import contextlib
import logging
import os
import shutil
import subprocess
import time
from pathlib import Path

from cluster.local.processes import ProcessIdentity
from cluster.local.record import LOG_BYTES_MAX

PAUSE_SECONDS_MAX = 10.0
STEADY_S = 60.0

log = logging.getLogger("hongbao.watchdog")


class Child:
    """A child: started, watched, started again after a pause that doubles with every early death."""

    def __init__(self, name: str, log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self.process: subprocess.Popen[bytes] | None = None
        self.mark: ProcessIdentity | None = None
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
        self.mark = ProcessIdentity.of(self.process.pid)
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


def bound_log(path: Path) -> None:
    """Move a log that has grown too long aside. Its writer appends, so it goes on in the emptied file."""
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        with contextlib.suppress(OSError):  # a full disk keeps what it can; the log is emptied anyway
            shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)
