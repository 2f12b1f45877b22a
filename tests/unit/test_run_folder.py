"""Run folder: cleaners find nothing old in it, and what is missing all the same is named and built again."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from cluster.local.children import Child
from cluster.local.lifeline import Plan
from cluster.local.ports import PortBlock
from cluster.local.run_folder import FOLDERS, MISSING_S, TOUCH_S, Upkeep, make_folders
from cluster.local.watchdog import Watchdog
from tests.processes import as_child

OLD_S = 1_000_000_000.0
SESSION = "r/session_2026-11-24/sockets"


class Clock:
    """Monotonic seconds that go when they are told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder as a running system has it: its sockets, and what comes and goes there."""
    monkeypatch.chdir(tmp_path)  # a socket's path is short, pytest's folders are not
    run_folder = tmp_path / "run"
    make_folders(run_folder)
    (run_folder / SESSION).mkdir(parents=True)
    for name in ("store.sock", "h/admin.sock", "h/admin.sock.71.tmp", f"{SESSION}/raylet"):
        with socket.socket(socket.AF_UNIX) as lasting:
            lasting.bind(str(Path("run") / name))
    (run_folder / "h" / "haproxy.cfg").touch()
    return run_folder


@pytest.fixture
def parts() -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Two processes that stand for the store and Ray."""
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    processes = [subprocess.Popen(command, preexec_fn=as_child) for _ in range(2)]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def watchdog(tmp_path: Path, folder: Path, clock: Clock, parts: list["subprocess.Popen[bytes]"]) -> Watchdog:
    """A watchdog whose store and Ray run, and which has served money."""
    (tmp_path / "data" / "logs").mkdir(parents=True)
    plan = Plan(port=0, config="local", store_url="")
    watchdog = Watchdog(tmp_path / "data", plan, PortBlock(20_000, FileLock(tmp_path / "lock")), folder)
    watchdog.store.process, watchdog.ray.process = parts
    watchdog.upkeep = Upkeep(folder, clock)
    watchdog.upkeep.note()
    return watchdog


def test_what_a_cleaner_would_take_for_old_is_touched(folder: Path, clock: Clock, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.touch()
    (folder / "r" / "session_latest").symlink_to(away)
    upkeep = Upkeep(folder, clock)
    for path in (away, folder, *folder.rglob("*")):
        os.utime(path, (OLD_S, OLD_S), follow_symlinks=False)
    clock.now_s = TOUCH_S - 1
    upkeep.touch()
    assert folder.stat().st_mtime == OLD_S
    clock.now_s = TOUCH_S
    upkeep.touch()
    assert all(path.lstat().st_mtime > OLD_S for path in (folder, *folder.rglob("*")))
    assert away.stat().st_mtime == OLD_S, "what is not ours is left alone"


@pytest.mark.parametrize("name", ["store.sock", "h/admin.sock", f"{SESSION}/raylet"])
def test_a_missing_part_is_named_at_once_and_long_missing_later(folder: Path, clock: Clock, name: str) -> None:
    upkeep = Upkeep(folder, clock)
    upkeep.note()
    assert upkeep.missing() == ([], [])
    (folder / name).unlink()
    assert upkeep.missing() == ([folder / name], [])
    clock.now_s = MISSING_S
    assert upkeep.missing() == ([folder / name], [folder / name])


def test_what_comes_and_goes_is_not_missed(folder: Path, clock: Clock) -> None:
    upkeep = Upkeep(folder, clock)
    upkeep.note()
    (folder / "h" / "admin.sock.71.tmp").unlink()
    (folder / "h" / "haproxy.cfg").unlink()
    assert upkeep.missing() == ([], [])


def test_a_part_that_is_back_in_time_was_only_replaced(folder: Path, clock: Clock) -> None:
    upkeep = Upkeep(folder, clock)
    upkeep.note()
    (folder / "work").rmdir()
    assert upkeep.missing() == ([folder / "work"], [])
    (folder / "work").mkdir()
    clock.now_s = MISSING_S
    assert upkeep.missing() == ([], [])
    (folder / "work").rmdir()
    assert upkeep.missing()[1] == [], "it is counted from when it is missing again"


def look(watchdog: Watchdog, clock: Clock) -> list[Child]:
    """Let the watchdog see what is missing for long; return the parts it has ended."""
    watchdog._keep_run_folder()
    clock.now_s += MISSING_S
    watchdog._keep_run_folder()
    return [part for part in (watchdog.store, watchdog.ray) if part.name in watchdog.reasons]


def test_a_store_without_its_socket_is_started_anew(watchdog: Watchdog, folder: Path, clock: Clock) -> None:
    (folder / "store.sock").unlink()
    assert look(watchdog, clock) == [watchdog.store]
    assert watchdog.store.process is not None
    watchdog.store.process.wait(20)
    watchdog._failed(watchdog.store, -15)
    assert "removed store.sock from" in watchdog.record.trouble


def test_ray_without_its_folders_is_started_anew_and_they_are_there(
    watchdog: Watchdog, folder: Path, clock: Clock
) -> None:
    (folder / SESSION / "raylet").unlink()
    (folder / "work").rmdir()
    assert look(watchdog, clock) == [watchdog.ray]
    assert all((folder / name).is_dir() for name in FOLDERS)
    assert "work" in watchdog.record.trouble


def test_trouble_that_has_gone_by_itself_is_told_no_longer(watchdog: Watchdog, folder: Path) -> None:
    (folder / "work").rmdir()
    watchdog._keep_run_folder()
    assert "removed work from" in watchdog.record.trouble
    (folder / "work").mkdir()
    watchdog._keep_run_folder()
    assert watchdog.record.trouble == ""
    assert watchdog.reasons == {}
