"""Watchdog: it outlives a full disk, and says why the store ended in words that an operator can act on."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from filelock import FileLock

from cluster.local.children import bound_log
from cluster.local.lifeline import Plan
from cluster.local.ports import PortBlock
from cluster.local.record import RecordUnreadable, read_record, record_file
from cluster.local.watchdog import Watchdog, is_written
from cluster.store import store_ended

ADVICE = "11:M 24 Nov 2026 10:42:03.342 # WARNING Memory overcommit must be enabled! Without it, a save may fail."
SHORT = "11:M 24 Nov 2026 10:42:47.394 # Short write while writing to the AOF file: (nwritten=535, expected=616)"
ENOSPC = "11:M 24 Nov 2026 10:42:47.394 # Error writing to the AOF file: No space left on device"
FATAL = "11:M 24 Nov 2026 10:42:47.394 # Can't recover from AOF write error when the fsync policy is 'always'. Exiting"
BAD = (
    "11:M 24 Nov 2026 10:42:47.394 # Bad file format reading the append only file a.aof: make a backup of your AOF file"
)
CALM = "11:M 24 Nov 2026 10:42:03.379 * Ready to accept connections unix"


@pytest.mark.parametrize(
    ("code", "lines"),
    [(1, [CALM, SHORT, FATAL]), (1, [ENOSPC, FATAL]), (-signal.SIGXFSZ, [ADVICE, CALM])],
    ids=["no room for a part", "no room at all", "over a limit of size"],
)
def test_a_disk_that_takes_no_more_is_called_by_its_name(code: int, lines: list[str]) -> None:
    words = store_ended(code, lines)
    assert "cannot write to its disk" in words
    assert "free space" in words
    assert "\n" not in words


def test_a_store_that_was_killed_says_the_signal_and_not_its_advice() -> None:
    assert store_ended(-signal.SIGKILL, [ADVICE, CALM]) == "the store ended (SIGKILL)"


def test_a_store_that_cannot_read_its_files_says_what_is_wrong_with_them() -> None:
    words = store_ended(1, [ADVICE, CALM, BAD])
    assert "Bad file format" in words
    assert "disk" not in words


@pytest.fixture
def watchdog(tmp_path: Path) -> Watchdog:
    """A watchdog that has started nothing yet."""
    for name in ("data", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "logs").mkdir()
    plan = Plan(port=0, config="local", store_url="unix:///nowhere")
    return Watchdog(tmp_path / "data", plan, PortBlock(20_000, FileLock(tmp_path / "lock")), tmp_path / "run")


def test_a_record_that_cannot_be_written_is_written_once_it_can_be(watchdog: Watchdog) -> None:
    data = watchdog.record.data
    shutil.rmtree(data)  # as on a full disk: nothing can be put there
    watchdog._note(phase="starting the store")
    assert read_record(data) is None
    data.mkdir()
    watchdog._note()
    found = read_record(data)
    assert found is not None
    assert found.phase == "starting the store"


def test_a_log_is_emptied_also_where_it_cannot_be_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.local.children.LOG_BYTES_MAX", 10)
    path = tmp_path / "store.log"
    path.write_text("a long log")
    os.truncate(path, 1_000)
    path.with_suffix(".log.1").mkdir()  # nothing can be written over it
    bound_log(path)
    assert path.stat().st_size == 0


def test_a_record_that_somebody_damaged_is_written_anew(watchdog: Watchdog) -> None:
    watchdog._note(phase="starting the store")
    assert is_written(watchdog.record)
    for content in (b"", b"\0" * 64, b'{"state": "ready"}'):
        record_file(watchdog.record.data).write_bytes(content)
        assert not is_written(watchdog.record)
        with pytest.raises(RecordUnreadable, match=r"system\.json cannot be read"):
            read_record(watchdog.record.data)
        watchdog._keep_files()
        watchdog._note()
        assert read_record(watchdog.record.data) == watchdog.record
