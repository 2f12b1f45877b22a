"""Processes: which process is meant, and what may be asked of one that can end at any moment."""

import contextlib
import ctypes
import signal
import sys
from pathlib import Path
from typing import Self

import psutil
from pydantic import BaseModel, ConfigDict

PROC = Path("/proc")
_PR_SET_PDEATHSIG = 1
_START_FIELD = 22
"""Of `/proc/PID/stat`, counted from 1: clock ticks from the machine's boot to the start of the process."""


class ProcessIdentity(BaseModel):
    """A process that was started. A pid may be used again; pid, boot and start tick together may not.

    None of the three moves with the machine's clock. Where there is no `/proc`, `boot` is empty and `started` is the
    instant that the system itself tells.
    """

    model_config = ConfigDict(frozen=True)

    pid: int
    boot: str
    """Names the boot of the machine: after another boot every process counts as dead."""
    started: float
    """Clock ticks after the boot."""

    @classmethod
    def of(cls, pid: int, proc: Path = PROC) -> Self:
        """Identify a process that was just started and not yet waited for. Raises ProcessLookupError."""
        found = _state_and_start(pid, proc)
        if found is None:
            raise ProcessLookupError(f"there is no process {pid}")
        return cls(pid=pid, boot=_boot(proc), started=found[1])

    def alive(self, proc: Path = PROC) -> bool:
        """Tell whether this very process still runs."""
        found = _state_and_start(self.pid, proc)
        return found is not None and found[0] not in "ZX" and (self.boot, self.started) == (_boot(proc), found[1])


def _boot(proc: Path) -> str:
    try:
        return (proc / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
    except OSError:
        return ""


def _state_and_start(pid: int, proc: Path) -> tuple[str, float] | None:
    """Return the state ("R", "S", "Z" …) and the start of a process, None if there is none of that number."""
    if not (proc / "self").exists():
        return _asked_of_the_system(pid)
    try:
        # The name stands in parentheses and may hold blanks and parentheses itself.
        fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], float(fields[_START_FIELD - 3])


def _asked_of_the_system(pid: int) -> tuple[str, float] | None:
    try:
        process = psutil.Process(pid)
        return "Z" if process.status() == psutil.STATUS_ZOMBIE else "S", process.create_time()
    except psutil.Error:
        return None


def command_line(process: psutil.Process) -> str:
    """Return the command line, or the title that a process has given itself; empty if it has ended meanwhile."""
    with contextlib.suppress(psutil.Error, OSError):
        return " ".join(process.cmdline())
    return ""


def is_named(process: psutil.Process, name: str) -> bool:
    """Tell whether the name of a process has this in it; no if it has ended meanwhile."""
    with contextlib.suppress(psutil.Error, OSError):
        return name in process.name()
    return False


def runs(process: psutil.Process) -> bool:
    """Tell whether it still runs: neither gone nor waiting to be reaped."""
    with contextlib.suppress(psutil.Error, OSError):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def end_with_parent() -> None:
    """Between fork and exec (`preexec_fn`): die with the process that starts this one, also if that is killed.

    On Linux only, elsewhere nothing happens. It is the starting THREAD that counts: start it from one that stays.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
