"""Store log, on the real server: what it refuses is mended or told; it then holds all that was whole, and no more."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from filelock import FileLock

from cluster.local.lifeline import Plan
from cluster.local.ports import PortBlock
from cluster.local.run_folder import new_run_folder, remove_run_folder
from cluster.local.store_log import (
    Durable,
    StoreDamaged,
    cuts_of,
    durable_now,
    last_log,
    missing_from,
    read_durable,
    repair,
    write_durable,
)
from cluster.local.watchdog import STORE_FAILURES_MAX, Watchdog
from cluster.offline.sources import ledger_of
from cluster.store import store_answers, store_command, store_url_of
from tests.processes import as_child

ENTRIES = 5
WAIT_S = 20
Damage = Callable[[bytes], bytes]


@contextlib.contextmanager
def served(data: Path, run_folder: Path) -> Iterator["redis.Redis[bytes]"]:
    """Run the store of a data folder, as the watchdog does, and end it well."""
    socket = run_folder / "store.sock"
    command = store_command(data / "store", socket)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=as_child)
    try:
        until(lambda: process.poll() is not None or store_answers(store_url_of(socket)))
        assert process.poll() is None
        with redis.Redis(unix_socket_path=str(socket)) as client:
            yield client
    finally:
        process.terminate()
        process.wait()


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def run_folder() -> Iterator[Path]:
    folder = new_run_folder()
    yield folder
    remove_run_folder(folder)


@pytest.fixture
def data(tmp_path: Path, run_folder: Path) -> Path:
    """A data folder in whose store entries were written; it ended well, and nobody noted how long its log is."""
    for name in ("store", "logs"):
        (tmp_path / name).mkdir()
    with served(tmp_path, run_folder) as client:
        for number in range(1, ENTRIES + 1):
            client.xadd("journal", {"e": b"x" * 40}, id=f"1-{number}")
    return tmp_path


@pytest.fixture
def watchdog(data: Path, run_folder: Path) -> Iterator[Watchdog]:
    """A watchdog of which only the store is used."""
    plan = Plan(port=0, config="local", store_url="")
    watchdog = Watchdog(data, plan, PortBlock(20_000, FileLock(data / "block")), run_folder)
    yield watchdog
    watchdog.store.kill()


def watch(watchdog: Watchdog) -> bool:
    """Let the watchdog look after its store until it serves or is taken for damaged; tell which."""

    def settled() -> bool:
        watchdog._watch_store()
        return watchdog.store_ready or watchdog.record.damaged

    until(settled)
    return watchdog.store_ready


def damage(data: Path, change: Damage) -> Path:
    """Change the end of the store's log."""
    path = last_log(data)
    assert path is not None
    path.write_bytes(change(path.read_bytes()))
    return path


def entries(watchdog: Watchdog) -> int:
    with redis.Redis.from_url(watchdog.record.store_url) as client:
        return int(client.xlen("journal"))


@pytest.mark.parametrize("missing", [1, 17, 30])
def test_a_cut_write_is_cut_off_by_the_watchdog_and_told_for_ever(missing: int, data: Path, watchdog: Watchdog) -> None:
    damage(data, lambda content: content[:-missing])
    assert watch(watchdog)
    assert entries(watchdog) == ENTRIES - 1
    [cut] = cuts_of(data)
    assert cut.answered == "not known"


@pytest.mark.parametrize(
    ("change", "left"),
    [(lambda content: content + b"\0" * 4_096, ENTRIES), (lambda content: content[:-9] + b"\0" * 512, ENTRIES - 1)],
    ids=["zeros", "zeros over the last entry"],
)
def test_a_padded_end_is_told_at_once_and_the_store_starts_after_a_repair(
    change: Damage, left: int, data: Path, watchdog: Watchdog
) -> None:
    path = damage(data, change)
    damaged = path.read_bytes()
    assert not watch(watchdog)
    assert "hongbao repair" in watchdog.record.trouble
    assert path.read_bytes() == damaged, "nothing is cut without being asked for"
    assert repair(data) is not None
    watchdog.store.due_s = 0.0
    watching: Any = watchdog._watch_store
    until(lambda: watching() or watchdog.store_ready)
    assert entries(watchdog) == left
    assert not watchdog.record.damaged


def test_what_a_watchdog_knows_to_be_on_disk_is_missed_by_the_next_one(data: Path, watchdog: Watchdog) -> None:
    assert watch(watchdog)
    with redis.Redis.from_url(watchdog.record.store_url) as client:
        client.xadd("journal", {"e": b"the last"}, id="2-1")
    watchdog._note_durable()
    known, path = read_durable(data), last_log(data)
    assert path is not None
    assert known == Durable(file=path.name, size=path.stat().st_size)
    watchdog.store.kill()
    watchdog.store_ready = False
    damage(data, lambda content: content[:-1])
    assert not watch(watchdog)
    assert "what had been answered is missing" in watchdog.record.trouble


def test_a_store_that_does_not_answer_tells_nothing_about_its_disk(data: Path, watchdog: Watchdog) -> None:
    assert watch(watchdog)
    watchdog.store.kill()
    watchdog._note_durable()
    assert read_durable(data) is None


def test_a_store_that_ends_well_leaves_its_length_behind(data: Path, watchdog: Watchdog) -> None:
    assert watch(watchdog)
    watchdog.end()
    assert read_durable(data) == durable_now(data)
    damage(data, lambda content: content[:-30])
    assert "what had been answered is missing" in missing_from(data)


def test_a_base_that_is_damaged_is_told_after_a_few_attempts(data: Path, watchdog: Watchdog) -> None:
    [base] = (data / "store").rglob("*.base.rdb")
    base.write_bytes(b"\0" * base.stat().st_size)
    assert not watch(watchdog)
    assert watchdog.store.deaths_in_a_row == STORE_FAILURES_MAX
    assert watchdog.record.trouble
    assert cuts_of(data) == []


def test_a_command_that_reads_a_stopped_system_mends_and_tells_as_well(data: Path) -> None:
    told: list[str] = []
    damage(data, lambda content: content[:-5])
    with ledger_of(data, "local", None, None, told.append) as ledger:
        client = redis.Redis.from_url(ledger.settings.store_url)
        assert client.xlen("journal") == ENTRIES - 1
        client.close()
    assert any("cannot be known" in words for words in told)


def test_a_command_that_reads_a_stopped_system_leaves_damage_to_a_repair(data: Path) -> None:
    path = damage(data, lambda content: content + b"\0")
    before = path.read_bytes()
    with (
        pytest.raises(StoreDamaged, match="hongbao repair"),
        ledger_of(data, "local", None, None, lambda words: None),
    ):
        raise AssertionError("it must not be opened")
    assert path.read_bytes() == before


def test_a_system_that_knows_of_more_can_still_be_read(data: Path) -> None:
    path = damage(data, lambda content: content)
    write_durable(data, Durable(file=path.name, size=path.stat().st_size + 1))
    with ledger_of(data, "local", None, None, lambda words: None):
        assert missing_from(data)
