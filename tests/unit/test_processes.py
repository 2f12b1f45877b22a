"""Processes: a mark knows its process by what does not move with the clock, and only that very process."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cluster.local.processes import ProcessIdentity, command_line, is_named, runs
from tests.processes import as_child

BOOT, TICKS = "9b2c6e1e-0000", 4_711
SLEEPER = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]


class Machine:
    """A `/proc` of one process."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        (self.proc / "self").mkdir(parents=True)
        self.boots(BOOT)
        self.runs()

    def boots(self, boot: str) -> None:
        """Say which boot of the machine this is, and what its clock made of it."""
        path = self.proc / "sys" / "kernel" / "random"
        path.mkdir(parents=True, exist_ok=True)
        (path / "boot_id").write_text(f"{boot}\n")

    def runs(self, *, ticks: int = TICKS, state: str = "S", name: str = "python") -> None:
        """Let process 12 be this one."""
        (self.proc / "12").mkdir(exist_ok=True)
        fields = [state, *(str(n) for n in range(4, 22)), str(ticks), "0", "0"]
        (self.proc / "12" / "stat").write_text(f"12 ({name}) {' '.join(fields)}\n")

    def clock_steps(self, seconds: int) -> None:
        """Step the wall clock: the kernel then tells another instant of the boot."""
        (self.proc / "stat").write_text(f"cpu 0\nbtime {1_700_000_000 + seconds}\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("seconds", [3, -3, 86_400, -86_400])
def test_a_process_is_known_whatever_the_clock_does(machine: Machine, seconds: int) -> None:
    mark = ProcessIdentity.of(12, machine.proc)
    machine.clock_steps(seconds)
    assert mark.alive(machine.proc)


@pytest.mark.parametrize(
    "change",
    [
        lambda machine: machine.runs(ticks=TICKS + 1),
        lambda machine: machine.boots("another"),
        lambda machine: machine.runs(state="Z"),
        lambda machine: (machine.proc / "12" / "stat").unlink(),
    ],
    ids=["its number was given again", "the machine was started again", "it waits to be reaped", "it has gone"],
)
def test_a_mark_is_dead_once_its_process_is(machine: Machine, change: Callable[[Machine], None]) -> None:
    mark = ProcessIdentity.of(12, machine.proc)
    change(machine)
    assert not mark.alive(machine.proc)


def test_a_process_may_have_any_name(machine: Machine) -> None:
    machine.runs(name="a) S 1 (b")
    assert ProcessIdentity.of(12, machine.proc).started == TICKS


def test_nobody_is_marked_who_is_not_there(machine: Machine) -> None:
    with pytest.raises(ProcessLookupError, match="13"):
        ProcessIdentity.of(13, machine.proc)


def test_one_that_waits_to_be_reaped_is_asked_without_a_failure() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.DEVNULL, preexec_fn=as_child)
    process, mark = psutil.Process(child.pid), ProcessIdentity.of(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has taken note
    assert (command_line(process), runs(process), mark.alive()) == ("", False, False)
    child.wait()
    assert (command_line(process), runs(process), is_named(process, "python")) == ("", False, False)


def test_a_child_of_a_test_hears_an_interrupt_also_where_its_parent_ignores_them() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = subprocess.Popen(SLEEPER, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=as_child)
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"here\n"
            child.send_signal(signal.SIGINT)
            assert child.wait(20) == -signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_child_of_a_test_ends_when_the_test_run_is_killed() -> None:
    code = (
        "import subprocess, sys, time; from tests.processes import as_child\n"
        f"child = subprocess.Popen({SLEEPER}, stdout=subprocess.PIPE, preexec_fn=as_child)\n"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, preexec_fn=as_child) as run:
        assert run.stdout is not None
        grandchild = psutil.Process(int(run.stdout.readline()))
        run.kill()
    psutil.wait_procs([grandchild], timeout=20)
    assert not runs(grandchild)
