"""Bootstrap: a record that cannot be read is told, waited for, or removed; it never ends a command in a traceback."""

import subprocess
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from cluster.local import bootstrap
from cluster.local.bootstrap import down, status
from cluster.local.processes import runs
from cluster.local.record import WATCHDOG_LOCK, RecordUnreadable, record_file
from cluster.local.run_folder import new_run_folder
from cluster.store import store_answers, store_command, store_url_of
from tests.processes import as_child

DAMAGED = [b"", b"\0" * 512, b"{}", b'{"state": "ready", "later": 1}']


@pytest.mark.parametrize("content", DAMAGED)
def test_status_says_that_the_record_cannot_be_read(content: bytes, tmp_path: Path) -> None:
    record_file(tmp_path).write_bytes(content)
    found = status(tmp_path)
    assert (found.state, found.ready) == ("broken", False)
    assert "system.json cannot be read" in found.trouble
    assert "\n" not in found.trouble


@pytest.mark.parametrize("content", DAMAGED)
def test_where_nobody_runs_a_damaged_record_is_removed(content: bytes, tmp_path: Path) -> None:
    record_file(tmp_path).write_bytes(content)
    told: list[str] = []
    down(tmp_path, told.append)
    assert "is damaged and nobody runs there" in told[0]
    assert told[-1] == "not running"
    assert status(tmp_path).state == "stopped"


def test_where_a_watchdog_runs_its_record_is_waited_for_and_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "RECORD_CHECK_S", 0.01)
    monkeypatch.setattr(bootstrap, "POLL_S", 0.005)
    record_file(tmp_path).write_bytes(b"\0")
    with FileLock(tmp_path / WATCHDOG_LOCK), pytest.raises(RecordUnreadable, match="writes it anew"):
        down(tmp_path, lambda words: None)
    assert record_file(tmp_path).exists()


def test_a_store_that_nobody_tells_of_is_ended_before_another_meets_it_on_its_files(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / WATCHDOG_LOCK).touch()
    folder = new_run_folder()
    command = store_command(tmp_path / "store", folder / "store.sock")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=as_child) as store:
        try:
            while not store_answers(store_url_of(folder / "store.sock")):
                assert store.poll() is None
            left = psutil.Process(store.pid)
            down(tmp_path, lambda words: None)
            assert not runs(left)
            assert not folder.exists()
        finally:
            store.kill()
