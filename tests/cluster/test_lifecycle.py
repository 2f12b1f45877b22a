"""The life of a local system: it starts, resumes, heals, ends, and never meets another one.

Two systems run here, the shared one and `other`; Ray starts once more when its death in `other` is tested.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from cluster.config import keys_at
from cluster.local.bootstrap import UpFailed, down, status, up
from cluster.local.processes import is_named, runs
from cluster.local.record import SystemRecord, end_processes, is_ready, processes_of, read_record
from cluster.local.run_folder import run_root
from cluster.local.store_log import Durable, write_durable
from cluster.store import StoreUnusable, check_store, store_command, store_url_of
from cluster.tokens import mint
from tests.processes import as_child

BACK_SECONDS_MAX = 180.0
DOWN_SECONDS_MAX = 10.0


def until(holds: Callable[[], bool], seconds_max: float, what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds_max
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds_max} s"
        time.sleep(0.05)


@contextlib.contextmanager
def running_store(folder: Path, *settings: str) -> Iterator[str]:
    """Run a store by hand, as an earlier life or another operator would have."""
    folder.mkdir(parents=True, exist_ok=True)
    sockets = Path(tempfile.mkdtemp(prefix="hb-test-"))
    command = [*store_command(folder, sockets / "s"), *settings]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=as_child)
    try:
        url = store_url_of(sockets / "s")
        until((sockets / "s").exists, 10, "the store's socket")
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(sockets)


STARTER = """
import sys
from pathlib import Path
from cluster.local.bootstrap import up
up(Path(sys.argv[1]), owned="owned" in sys.argv, report=print)
print("served", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def starter(data: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a process that starts a system and stays, as its owner with the word "owned"; end both, whatever happens."""
    command, pipe = [sys.executable, "-c", STARTER, str(data), *words], subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, preexec_fn=as_child)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        down(data, print)


def serves(process: "subprocess.Popen[str]") -> bool:
    """Wait until a starter says that its system is served."""
    assert process.stdout is not None
    return any(line == "served\n" for line in process.stdout)


def ends_by_itself(record: SystemRecord) -> None:
    """Wait until nobody of a system is left, and nothing in its run folder."""
    until(lambda: status(record.data).state == "stopped", DOWN_SECONDS_MAX, "the end")
    until(lambda: not record.watchdog.alive(), DOWN_SECONDS_MAX, "the watchdog's end")
    assert processes_of(record.run_folder) == []
    assert not record.run_folder.exists()


@pytest.fixture(scope="module")
def other() -> Iterator[SystemRecord]:
    """A second system in its second life. In the first a user sent a packet and another opened it; it ended as its
    owner was killed with -9."""
    data = Path(tempfile.mkdtemp(prefix="hongbao-other-"))
    try:
        with starter(data, "owned") as owner:
            assert serves(owner)
            first = read_record(data)
            assert first is not None
            create = {"user": "boss", "tenant": "wechat", "balance_fen": 10_000}
            ask(first, "/sandbox/users", "boss", scope="operator", body=create)
            send = {"kind": "equal", "total_fen": 1_000, "count": 2}
            packet = ask(first, "/v1/packets", "boss", body=send, key="first life")
            ask(first, f"/v1/packets/{packet['packet_id']}/grabs", "mei", body={})
            assert len(processes_of(first.run_folder)) > 10
            owner.kill()
            ends_by_itself(first)
        yield up(data, owned=True, report=print)
    finally:
        down(data, print)
        shutil.rmtree(data, ignore_errors=True)


def ask(
    record: SystemRecord,
    path: str,
    user: str,
    *,
    scope: str = "user",
    body: dict[str, Any] | None = None,
    key: str = "",
) -> Any:
    """Ask a system over HTTP as a user: a POST if there is a body."""
    token = mint(
        keys_at(record.data / "keys.json"), user=user, tenant="wechat", scope=scope, now_s=int(time.time()), ttl_s=600
    )
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": key}
    content = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(record.url + path, content, headers), timeout=20) as answer:
        return json.load(answer)


def balances_are_there(record: SystemRecord) -> bool:
    """Tell whether the money of the first life is served and is where it was, the taker's share settled."""
    try:
        available = {user: ask(record, "/v1/wallet", user)["available_fen"] for user in ("boss", "mei")}
    except urllib.error.HTTPError as refused:
        if refused.code != 503:
            raise
        return False
    return available == {"boss": 9_000, "mei": 500}


def system_id_at(url: str) -> str:
    """Ask a system for its id, until it is ready: after an incident a stream may take up its work again later."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    answers: list[dict[str, Any]] = []

    def answered() -> bool:
        try:
            with opener.open(f"{url}/readyz", timeout=10) as answer:
                answers.append(json.load(answer))
        except urllib.error.HTTPError as unready:
            if unready.code != 503:
                raise
        return bool(answers)

    until(answered, BACK_SECONDS_MAX, "a ready system")
    return str(answers[-1]["system"])


def record_of(record: SystemRecord) -> SystemRecord:
    """Read the record as it is now."""
    found = read_record(record.data)
    assert found is not None
    return found


def is_back(record: SystemRecord, part: str, killed: int) -> bool:
    """Tell whether a part runs again under another pid and money can be served."""
    now = record_of(record)
    renewed = part in now.pids and now.pids[part].pid != killed
    return renewed and now.state == "ready" and is_ready(now.url)


def test_up_on_a_running_system_returns_the_running_one(system: SystemRecord) -> None:
    before = read_record(system.data)  # other tests may have killed a part of it
    assert before is not None
    again = up(system.data, report=print)
    assert (again.watchdog, again.url, again.pids) == (before.watchdog, before.url, before.pids)


def test_the_record_is_for_its_owner_only(system: SystemRecord) -> None:
    for name in ("system.json", "keys.json", "ray_token"):
        assert (system.data / name).stat().st_mode & 0o077 == 0
    assert system.run_folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_up_leaves_nothing_running(ending: signal.Signals, tmp_path: Path) -> None:
    with starter(tmp_path) as starting:
        until(lambda: "ray" in status(tmp_path).pids, 30, "the start of Ray")
        record = read_record(tmp_path)
        assert record is not None
        starting.send_signal(ending)
        starting.wait(DOWN_SECONDS_MAX)
        ends_by_itself(record)


def test_up_with_an_unreachable_store_says_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable) as failure:
        up(tmp_path, store_url="redis://li:secret@127.0.0.1:9/0", report=print)
    sentence = str(failure.value)
    assert "redis://127.0.0.1:9/0" in sentence
    assert "cannot be reached" in sentence
    assert "secret" not in sentence
    assert "\n" not in sentence
    assert status(tmp_path).state == "stopped"


def test_a_store_that_may_lose_money_is_refused_by_the_name_of_the_setting(tmp_path: Path) -> None:
    with running_store(tmp_path, "--appendfsync", "everysec") as url:
        with pytest.raises(StoreUnusable, match=r"set appendfsync always there"):
            check_store(url)
        with redis.Redis.from_url(url) as store:
            store.config_set("appendfsync", "always")
        check_store(url)


def test_a_store_that_hides_its_settings_is_accepted_with_a_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    with running_store(tmp_path, "--rename-command", "CONFIG", "") as url:
        check_store(url, warnings.append)
    assert len(warnings) == 1
    assert "appendfsync always" in warnings[0]


def test_up_says_which_port_is_taken(system: SystemRecord, tmp_path: Path) -> None:
    with pytest.raises(UpFailed, match=f"port {system.http_port} is in use"):
        up(tmp_path, port=system.http_port, report=print)


def test_stale_records_are_no_danger(system: SystemRecord, tmp_path: Path) -> None:
    """A record whose pids now belong to others ends none of them."""
    stranger = system.watchdog.model_copy(update={"started": system.watchdog.started - 360_000})
    stale = system.model_copy(
        update={"data": tmp_path, "watchdog": stranger, "run_folder": run_root() / "gone", "pids": {"ray": stranger}}
    )
    (tmp_path / "system.json").write_text(stale.model_dump_json())
    assert status(tmp_path).state == "broken"
    down(tmp_path, print)
    assert system.watchdog.alive()
    assert is_ready(system.url)
    assert status(tmp_path).state == "stopped"


def test_two_systems_never_answer_each_others_requests(system: SystemRecord, other: SystemRecord) -> None:
    first, second = system_id_at(system.url), system_id_at(other.url)
    assert first != second
    for _ in range(50):
        assert (system_id_at(system.url), system_id_at(other.url)) == (first, second)
    assert not set(system.ports.values()) & set(other.ports.values())


def test_a_second_up_on_the_same_data_resumes_every_balance(other: SystemRecord) -> None:
    until(lambda: balances_are_there(other), 30, "the balances of the first life")


def test_a_killed_store_comes_back_on_the_same_data(other: SystemRecord) -> None:
    before = system_id_at(other.url)
    killed = record_of(other).pids["store"].pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: is_back(other, "store", killed), 30, "the store")
    assert system_id_at(other.url) == before
    until(lambda: balances_are_there(other), 30, "the balances before the store was killed")


def test_while_the_store_is_gone_the_answer_is_journal_unavailable_and_service_resumes(other: SystemRecord) -> None:
    store = psutil.Process(record_of(other).pids["store"].pid)
    store.suspend()  # it neither answers nor dies, so that nobody starts it anew meanwhile
    try:
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(other, "/v1/wallet", "boss")
        problem = json.load(refused.value)
    finally:
        store.resume()
    assert (refused.value.code, problem["code"], problem["retryable"]) == (503, "journal_unavailable", True)
    assert refused.value.headers["Retry-After"]
    until(lambda: is_ready(other.url), 30, "the system after the store's pause")
    until(lambda: balances_are_there(other), 30, "the balances before the store's pause")


def test_a_killed_gcs_server_comes_back_with_everything_on_it(other: SystemRecord) -> None:
    before = system_id_at(other.url)
    killed = record_of(other).pids["ray"].pid
    left_behind = psutil.Process(killed).children(recursive=True)
    gcs = next(process for process in left_behind if is_named(process, "gcs_server"))
    gcs.kill()
    until(lambda: is_back(other, "ray", killed), BACK_SECONDS_MAX, "Ray")
    assert system_id_at(other.url) == before
    until(lambda: balances_are_there(other), 30, "the balances before Ray was killed")
    assert not [process for process in left_behind if runs(process)]


def test_down_leaves_no_process_and_no_socket(system: SystemRecord, other: SystemRecord) -> None:
    ports = set(other.ports.values()) - {0}
    block = range(min(ports), max(ports) + 1)
    watchdog = psutil.Process(other.watchdog.pid)
    ours = {watchdog, *watchdog.children(recursive=True), *processes_of(other.run_folder)}
    assert len(ours) > 10
    began = time.monotonic()
    down(other.data, print)
    assert time.monotonic() - began < DOWN_SECONDS_MAX
    assert not [process for process in ours if runs(process)]
    assert not [each for each in psutil.net_connections("tcp") if each.laddr.port in block and each.status == "LISTEN"]
    assert not other.run_folder.exists()
    assert status(other.data).state == "stopped"
    assert (other.data / "keys.json").exists()
    down(other.data, print)  # Again does nothing.
    assert is_ready(system.url)


def test_a_system_whose_watchdog_was_killed_can_still_be_ended(tmp_path: Path) -> None:
    """Without its watchdog nobody waits for `up`: the processes are found by their folder."""
    with starter(tmp_path) as starting:
        until(lambda: "ray" in status(tmp_path).pids, 30, "the start of Ray")
        record = read_record(tmp_path)
        assert record is not None
        starting.kill()
        starting.wait()
        os.kill(record.watchdog.pid, signal.SIGKILL)
        until(lambda: not record.watchdog.alive(), 5, "the watchdog's end")
    down(tmp_path, print)
    assert end_processes(record.run_folder)
    assert processes_of(record.run_folder) == []
    assert not record.run_folder.exists()


def test_a_store_with_a_padded_end_is_told_by_up_which_leaves_nothing_and_changes_nothing(tmp_path: Path) -> None:
    with running_store(tmp_path / "store") as url, redis.Redis.from_url(url) as store:
        store.set("key", "of an earlier life")
    [log] = (tmp_path / "store").rglob("*.incr.aof")
    log.write_bytes(log.read_bytes() + b"\0" * 4_096)
    padded = log.read_bytes()
    with pytest.raises(UpFailed, match=r"4,096 bytes of .* are not a command.*hongbao repair"):
        up(tmp_path, report=print)
    assert log.read_bytes() == padded
    assert status(tmp_path).state == "stopped"


def test_a_store_that_lacks_what_was_on_disk_is_not_started(tmp_path: Path) -> None:
    write_durable(tmp_path, Durable(file="appendonly.aof.1.incr.aof", size=1_000))
    with pytest.raises(UpFailed, match="are gone"):
        up(tmp_path, report=print)
    assert not (tmp_path / "store").exists()
