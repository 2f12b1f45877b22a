"""Sources: give a command the journals and the archive of a system, whether it runs or not, to read only.

Of a running system its own store is read. On the folder of a stopped one the embedded store is started for the time of
the command, under the lock that a watchdog takes, so that `hongbao up` cannot start meanwhile. It ends with the
command, also if that is killed. As at every start, a last write that was cut is cut off: `cluster.local.store_log`.
"""

import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from actors.kernel.errors import OperatingFailure
from cluster.config import Settings, load
from cluster.journal.archive import Archive
from cluster.local.processes import end_with_parent
from cluster.local.record import WATCHDOG_LOCK, SystemRecord, read_record, tail_of
from cluster.local.run_folder import new_run_folder, remove_run_folder
from cluster.local.store_log import mend, refuses_files
from cluster.offline.stream_reader import Sources
from cluster.store import check_store, store_answers, store_command, store_url_of

STORE_START_SECONDS_MAX = 600.0
STORE_END_SECONDS_MAX = 5.0
POLL_S = 0.05
LOG_LINES = 20


class LedgerUnavailable(OperatingFailure):
    """There is nothing to read, or not now. The message says what to do."""


class Ledger(NamedTuple):
    """Where everything is. `record` is that of the running system, None if it is stopped or somewhere else."""

    settings: Settings
    record: SystemRecord | None


@contextlib.contextmanager
def ledger_of(
    data: Path, config: str, store_url: str | None, archive_url: str | None, report: Callable[[str], None]
) -> Iterator[Ledger]:
    """Open the system of a data folder, or with `store_url` the one in that store, whose archive is then named too.

    Raises LedgerUnavailable, cluster.store.StoreUnusable: one line each.
    """
    if archive_url and "://" not in archive_url:
        archive_url = str(Path(archive_url).absolute())
    named = {"archive_url": archive_url} if archive_url else {}
    if store_url:
        check_store(store_url, report)
        yield Ledger(load(config, store_url=store_url, **named), None)
        return
    record = read_record(data)
    if record is not None and store_answers(record.store_url):  # also if its watchdog was killed: no second server here
        runs = record if record.watchdog.alive() else None
        yield Ledger(_settings(data, record.config, record.store_url, named), runs)
        return
    settings = _settings(data, config, "", named)
    if settings.store_url:
        raise LedgerUnavailable(f"the system of {data} has its store elsewhere; give --store-url {settings.store_url}")
    with _embedded_store(data, report) as url:
        yield Ledger(settings.model_copy(update={"store_url": url}), None)


def _settings(data: Path, config: str, store_url: str, named: dict[str, str]) -> Settings:
    override = {"store_url": store_url} if store_url else {}
    settings = load(config, **override, **named)
    if settings.archive_url:
        return settings
    return settings.model_copy(update={"archive_url": str(data / "archive")})


@contextlib.contextmanager
def _embedded_store(data: Path, report: Callable[[str], None]) -> Iterator[str]:
    """Run the store of a stopped system and yield its address."""
    folder = data / "store"
    if not folder.is_dir():
        raise LedgerUnavailable(f"{data} holds no system; `hongbao up` makes one, --data names another folder")
    try:
        lock = FileLock(data / WATCHDOG_LOCK, timeout=0, mode=0o600).acquire()
    except Timeout:
        why = "the system is just starting or ending, or another command reads it"
        raise LedgerUnavailable(f"{data} is in use: {why}; try again in a minute") from None
    run_folder = new_run_folder()
    try:
        report("starting the store of a stopped system")
        process = _start(folder, run_folder)
        try:
            if _refused(process, run_folder) and (cut := mend(data)) is not None:
                report(cut.words())
                process = _start(folder, run_folder)
            _wait(process, run_folder)
            yield store_url_of(run_folder / "store.sock")
        finally:
            process.terminate()
            try:
                process.wait(STORE_END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        remove_run_folder(run_folder)
        lock.lock.release()


def _start(folder: Path, run_folder: Path) -> "subprocess.Popen[bytes]":
    with _log_of(run_folder).open("wb") as output:
        return subprocess.Popen(
            [*store_command(folder, run_folder / "store.sock"), "--auto-aof-rewrite-percentage", "0"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=run_folder / "work",
            preexec_fn=end_with_parent,  # no second server ever meets this one on the same files
        )


def _log_of(run_folder: Path) -> Path:
    return run_folder / "work" / "store.log"


def _refused(process: "subprocess.Popen[bytes]", run_folder: Path) -> bool:
    """Wait until the store answers or ends; tell whether it ended because of how its files end."""
    try:
        _wait(process, run_folder)
    except LedgerUnavailable:
        if not refuses_files(tail_of(_log_of(run_folder), LOG_LINES)):
            raise
        return True
    return False


def _wait(process: "subprocess.Popen[bytes]", run_folder: Path) -> None:
    deadline = time.monotonic() + STORE_START_SECONDS_MAX
    while not store_answers(store_url_of(run_folder / "store.sock")):
        if process.poll() is not None:
            last = " ".join(tail_of(_log_of(run_folder), 1)) or "it said nothing"
            raise LedgerUnavailable(f"the store ended with code {process.returncode}: {last}")
        if time.monotonic() > deadline:
            raise LedgerUnavailable(f"the store did not read its files within {STORE_START_SECONDS_MAX:.0f} s")
        time.sleep(POLL_S)


@contextlib.asynccontextmanager
async def sources_of(settings: Settings) -> AsyncIterator[Sources]:
    """Connect to the journals and the archive of a configuration."""
    from cluster.runtime.shards import open_journals  # brings Ray, which reads its environment when it is imported

    journals = open_journals(settings)
    try:
        yield Sources(journals, journals.codec, Archive(settings.archive_url))
    finally:
        await journals.close()
