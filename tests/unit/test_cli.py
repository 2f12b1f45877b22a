"""Command line: run as its user runs it, in a process of its own, against the fake gateway."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from cluster.config import SERVE_ENVIRONMENT, keys_at
from cluster.keys import new_keys
from cluster.tokens import Verifier
from tests.processes import as_child
from tests.unit.fake_gateway import GATEWAY_TOKEN, OPERATOR_TOKEN, FakeGateway, serving

TOKENS = ("--operator-token", OPERATOR_TOKEN, "--gateway-token", GATEWAY_TOKEN)
SMALL = ("--seconds", "0.3", "--users", "40", "--connections", "8")
ANSWER_S_MAX = 30

# `cluster.local.bootstrap` as the command line needs it: the system is the fake gateway, its life is two files.
WITH_FAKE_BOOTSTRAP = """
import sys, time, types
from pathlib import Path
import cluster
from cluster.keys import new_keys

bootstrap = types.ModuleType("cluster.local.bootstrap")
life, url = Path(sys.argv.pop(1)), sys.argv.pop(1)

def up(data, *, report, **asked):
    report("store")
    new_keys(data / "keys.json")
    (life / "up").write_text(str(data))
    if not url:
        raise OSError("the store did not start,\\nsee its log")
    if url == "never":
        time.sleep(60)
    return types.SimpleNamespace(url=url, store_url="redis://:hunter2@store:6379/0", sandbox=True, data=data)

def down(data, report):
    (life / "down").write_text(str(data))

def status(data):
    facts = {"state": "ready", "url": url, "data": str(data)}
    return types.SimpleNamespace(model_dump=lambda mode: dict(facts), ready=bool(url), url=url, data=data)

bootstrap.up, bootstrap.down, bootstrap.status = up, down, status
cluster.local.bootstrap = sys.modules["cluster.local.bootstrap"] = bootstrap
from cluster.cli import main
main()
"""


def exists(folder: str) -> bool:
    return Path(folder).exists()


async def start(
    *arguments: str, python: tuple[str, ...] = ("-m", "cluster.cli"), before: Callable[[], None] = as_child
) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, "COLUMNS": "200"}
    return await asyncio.create_subprocess_exec(
        sys.executable, *python, *arguments, stdout=pipe, stderr=pipe, env=environment, preexec_fn=before
    )


async def run(*arguments: str, python: tuple[str, ...] = ("-m", "cluster.cli")) -> tuple[int, str, str]:
    process = await start(*arguments, python=python)
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(), ANSWER_S_MAX)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    assert "Traceback" not in stderr.decode(), stderr.decode()
    return process.returncode, stdout.decode(), stderr.decode()


async def test_it_refuses_to_run_without_assertions() -> None:
    code, _, stderr = await run("--help", python=("-O", "-m", "cluster.cli"))
    assert code != 0
    assert "without assertions" in stderr


async def test_help_answers_without_loading_the_heavy_libraries() -> None:
    heavy = "import sys, cluster.cli; sys.exit(any(name in sys.modules for name in ('ray', 'aiohttp', 'pydantic')))"
    assert (await run(python=("-c", heavy)))[0] == 0


@pytest.mark.parametrize("scope", ["user", "gateway", "operator"])
async def test_a_minted_token_is_one_the_gateway_accepts(scope: str, tmp_path: Path) -> None:
    keys = new_keys(tmp_path / "keys.json")
    code, stdout, _ = await run("token", "--user", "li", "--tenant", "qq", "--scope", scope, "--data", str(tmp_path))
    claims = Verifier(keys, 1).verify(stdout.strip(), int(time.time()))
    assert (code, claims.user, claims.tenant, claims.scope) == (0, "li", "qq", scope)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("token", "--user", "li", "--tenant", "qq"), "keys.json does not exist"),
        (("token",), "--user and --tenant"),
        (("audit", "--url", "http://127.0.0.1:9"), "--token"),
        (("demo", "--data", "x"), "go with --url"),
        (("demo", "--advance-clock-of-running-system"), "go with --url"),
        (("pause", "packet"), "named by its id"),
        (("pause", "sends", "a" * 32), "no id"),
        (("resume", "packet", "p1"), "'p1' is not a packet id"),
        (("pause", "grabs", "--url", "http://127.0.0.1:9"), "--token"),
        (("pause", "grabs", "--data", "/nowhere/at/all"), "no system runs on"),
        (("audit", "--offline", "--url", "http://127.0.0.1:9"), "not with --url"),
        (("audit", "--balances", "b.parquet"), "go with --offline"),
        (("verify", "--store-url", "redis://127.0.0.1:9"), "cannot be reached"),
        (("statement", "li", "--data", "x", "--store-url", "redis://127.0.0.1:9"), "without --data"),
        (("statement", "li mei"), "names no user"),
        (("repair", "--data", "/nowhere/at/all"), "holds no store"),
        (("demo", "--url", "http://127.0.0.1:9"), "--operator-token"),
        (("serve-config",), "--store-url"),
        (("serve-config", "--config", "nowhere"), "no configuration 'nowhere'"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_line(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    where = ("--data", str(tmp_path)) if arguments[0] == "token" else ()
    code, stdout, stderr = await run(*arguments, *where)
    assert (code, stdout) == (2, "")
    assert says in stderr
    assert stderr.count("\n") == 1


async def test_a_token_beyond_the_rules_is_refused_in_one_line(tmp_path: Path) -> None:
    new_keys(tmp_path / "keys.json")
    code, _, stderr = await run("token", "--user", "li", "--tenant", "qq", "--scope", "root", "--data", str(tmp_path))
    assert (code, stderr.count("\n")) == (2, 1)
    assert "'root' is not a scope" in stderr


async def test_the_serve_configuration_is_yaml_that_names_the_typed_builder(tmp_path: Path) -> None:
    keys_file = tmp_path / "my keys.json"
    code, stdout, _ = await run(
        "serve-config", "--store-url", "redis://10.0.0.1:6379/0", "--keys-file", str(keys_file), "--port", "8100"
    )
    configuration = yaml.safe_load(stdout)
    assert code == 0
    assert configuration["http_options"] == {"host": "0.0.0.0", "port": 8100}
    assert configuration["applications"] == [
        {
            "name": "hongbao",
            "route_prefix": "/",
            "import_path": "cluster.gateway.app:app",
            "args": {
                "store_url": "redis://10.0.0.1:6379/0",
                "config": "cluster",
                "sandbox": False,
                "keys_file": str(keys_file),
            },
        }
    ]
    assert f"Set these {len(SERVE_ENVIRONMENT)} variables on every node" in stdout
    assert [name for name, value in SERVE_ENVIRONMENT.items() if f"{name}={value}" not in stdout] == []


@pytest.mark.parametrize(("fault", "code"), [((), 0), (("books_differ",), 1)])
async def test_the_audit_ends_with_the_verdict_as_its_exit_code(fault: tuple[str, ...], code: int) -> None:
    async with serving(FakeGateway(*fault)) as url:
        shown = await run("audit", "--url", url, "--token", OPERATOR_TOKEN)
        printed = await run("audit", "--url", url, "--token", OPERATOR_TOKEN, "--json")
    assert (shown[0], printed[0]) == (code, code)
    assert "packet-000" in shown[1]
    assert json.loads(printed[1].splitlines()[-1])["difference_fen"] == code


async def test_what_is_paused_is_told_by_whoever_pauses_and_resumes() -> None:
    gateway = FakeGateway()
    async with serving(gateway) as url:
        where = ("--url", url, "--token", OPERATOR_TOKEN)
        paused = await run("pause", "grabs", *where)
        again = await run("pause", "sends", *where, "--json")
        resumed = await run("resume", "grabs", *where)
        nothing = await run("resume", "sends", *where)
    assert [one[0] for one in (paused, again, resumed, nothing)] == [0, 0, 0, 0]
    assert paused[1].startswith("Paused now: grabs since 20")
    assert " by operator" in paused[1]
    assert [lever["lever"] for lever in json.loads(again[1].splitlines()[-1])["paused"]] == ["grabs", "sends"]
    assert resumed[1].startswith("Paused now: sends since")
    assert nothing[1] == "Paused now: nothing.\n"
    assert gateway.levers == {}


async def test_the_status_of_a_ready_system_says_what_is_paused_and_that_of_another_does_not_ask(
    tmp_path: Path,
) -> None:
    new_keys(tmp_path / "keys.json")
    data = ("--data", str(tmp_path))
    async with serving(FakeGateway()) as url:
        fake = (str(tmp_path), url)
        before = await run(*fake, "status", *data, "--json", python=("-c", WITH_FAKE_BOOTSTRAP))
        await run(*fake, "pause", "grabs", *data, python=("-c", WITH_FAKE_BOOTSTRAP))
        shown = await run(*fake, "status", *data, python=("-c", WITH_FAKE_BOOTSTRAP))
    stopped = await run(str(tmp_path), "", "status", *data, "--json", python=("-c", WITH_FAKE_BOOTSTRAP))
    assert json.loads(before[1].splitlines()[-1])["paused"] == "nothing"
    [line] = [line for line in shown[1].splitlines() if "paused" in line]
    assert "grabs since 20" in line
    assert stopped[0] == 1
    assert "paused" not in json.loads(stopped[1].splitlines()[-1])


async def test_a_packet_that_cannot_be_paused_is_one_line() -> None:
    async with serving(FakeGateway()) as url:
        code, _, stderr = await run("pause", "packet", "a" * 32, "--url", url, "--token", OPERATOR_TOKEN)
        forbidden = await run("pause", "grabs", "--url", url, "--token", "somebody")
    assert code == forbidden[0] == 2
    assert "packet_not_found (status 404)" in stderr
    assert "forbidden (status 403)" in forbidden[2]


async def test_an_audit_that_is_not_allowed_is_one_line() -> None:
    async with serving(FakeGateway()) as url:
        code, _, stderr = await run("audit", "--url", url, "--token", "somebody")
    assert code == 2
    assert "forbidden (status 403)" in stderr


@pytest.mark.parametrize(("fault", "code"), [((), 0), (("same_rank",), 1)])
async def test_the_demo_prints_its_figures_last_and_ends_with_the_verdict(fault: tuple[str, ...], code: int) -> None:
    async with serving(FakeGateway(*fault)) as url:
        ended, stdout, stderr = await run("demo", "--url", url, *TOKENS, *SMALL, "--json")
    figures = json.loads(stdout.splitlines()[-1])
    assert ended == code
    assert figures["packets"] > 0
    assert (figures["over_issued"] > 0) == bool(fault)
    assert "opens for each send" in stderr


async def test_the_demo_starts_its_own_system_and_ends_it(tmp_path: Path) -> None:
    async with serving(FakeGateway()) as url:
        code, stdout, _ = await run(str(tmp_path), url, "demo", *SMALL, python=("-c", WITH_FAKE_BOOTSTRAP))
    assert code == 0
    assert "Clean: every fen is accounted for." in stdout
    folder = (tmp_path / "up").read_text()
    assert (tmp_path / "down").read_text() == folder
    assert not exists(folder)


async def test_a_demo_whose_system_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    code, _, stderr = await run(str(tmp_path), "", "demo", *SMALL, python=("-c", WITH_FAKE_BOOTSTRAP))
    assert code == 2
    assert "hongbao: the store did not start, see its log\n" in stderr
    assert not exists((tmp_path / "down").read_text())


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_demo_ends_its_system(ending: signal.Signals, tmp_path: Path) -> None:
    gateway = FakeGateway()
    async with serving(gateway) as url:
        process = await start(
            str(tmp_path), url, "demo", "--seconds", "60", "--users", "40", python=("-c", WITH_FAKE_BOOTSTRAP)
        )
        async with asyncio.timeout(ANSWER_S_MAX):
            await gateway.first_packet.wait()
            process.send_signal(ending)
            _, stderr = await process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in stderr.decode()
    assert (tmp_path / "down").read_text() == (tmp_path / "up").read_text()


def ignored(pid: int) -> set[int]:
    """Return the signals that a process ignores."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.partition("SigIgn:")[2].split()[0], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def as_nohup() -> None:
    """Between fork and exec: what a terminal sends is ignored."""
    as_child()
    for ending in (signal.SIGHUP, signal.SIGINT):
        signal.signal(ending, signal.SIG_IGN)


async def test_a_demo_under_nohup_ends_by_no_signal_of_a_terminal_and_by_a_termination(tmp_path: Path) -> None:
    gateway = FakeGateway()
    async with serving(gateway) as url:
        arguments = (str(tmp_path), url, "demo", "--seconds", "60", "--users", "40")
        process = await start(*arguments, python=("-c", WITH_FAKE_BOOTSTRAP), before=as_nohup)
        async with asyncio.timeout(ANSWER_S_MAX):
            await gateway.first_packet.wait()
            for ending in (signal.SIGHUP, signal.SIGINT):
                process.send_signal(ending)
            assert ignored(process.pid) >= {signal.SIGHUP, signal.SIGINT}
            process.send_signal(signal.SIGTERM)
            await process.communicate()
    assert process.returncode == 130
    assert (tmp_path / "down").read_text() == (tmp_path / "up").read_text()


async def test_up_prints_what_a_program_needs_in_its_last_line(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    started = (str(tmp_path), "http://127.0.0.1:9", "up", "--json", "--data", str(folder))
    code, stdout, _ = await run(*started, "--with-tokens", python=("-c", WITH_FAKE_BOOTSTRAP))
    printed = json.loads(stdout.splitlines()[-1])
    assert code == 0
    assert list(printed) == ["url", "store_url", "data", "operator_token", "gateway_token"]
    verifier = Verifier(keys_at(folder / "keys.json"), 2)
    assert verifier.verify(printed["operator_token"], int(time.time())).scope == "operator"
    gateway = verifier.verify(printed["gateway_token"], int(time.time()))
    assert (gateway.scope, gateway.tenant) == ("gateway", "wechat")


async def test_a_repair_is_refused_while_the_folder_is_in_use_and_says_what_it_did(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "a.manifest").write_text("file a.1.incr.aof seq 1 type i\n")
    (folder / "a.1.incr.aof").write_bytes(b"*1\r\n$4\r\nPING\r\n" + b"\0" * 10)
    with FileLock(tmp_path / "watchdog.lock"):
        code, _, stderr = await run("repair", "--data", str(tmp_path))
        assert code == 2
        assert "is in use" in stderr
    code, stdout, _ = await run("repair", "--data", str(tmp_path), "--json")
    told = json.loads(stdout)
    assert (code, told["repaired"], told["whole"], told["cut_bytes"]) == (0, True, 14, 10)
    code, stdout, _ = await run("repair", "--data", str(tmp_path))
    assert (code, stdout.startswith("Nothing to repair")) == (0, True)


async def test_up_prints_no_secret_unless_it_is_asked_for_by_name(tmp_path: Path) -> None:
    started = (str(tmp_path), "http://127.0.0.1:9", "up", "--data", str(tmp_path / "my [/x]'s"))
    shown = await run(*started, python=("-c", WITH_FAKE_BOOTSTRAP))
    printed = await run(*started, "--json", python=("-c", WITH_FAKE_BOOTSTRAP))
    assert list(json.loads(printed[1].splitlines()[-1])) == ["url", "store_url", "data"]
    for code, stdout, stderr in (shown, printed):
        assert (code, "hunter2" in stdout + stderr, "eyJ" in stdout + stderr) == (0, False, False)
    assert "my [/x]'\"'\"'s'" in shown[1], "what is to be pasted into a shell is quoted for it"


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_an_interrupted_start_says_what_it_left(ending: signal.Signals, code: int, tmp_path: Path) -> None:
    process = await start(
        str(tmp_path), "never", "up", "--data", str(tmp_path / "data"), python=("-c", WITH_FAKE_BOOTSTRAP)
    )
    assert process.stderr is not None
    async with asyncio.timeout(ANSWER_S_MAX):
        await process.stderr.readline()  # it is under way
        process.send_signal(ending)
        _, stderr = await process.communicate()
    assert process.returncode == code
    assert "Interrupted. Nothing was left running" in stderr.decode()
    assert "Traceback" not in stderr.decode()


async def test_an_address_where_nobody_is_does_not_answer() -> None:
    where = ("--url", "http://127.0.0.1:9", "--token", "x")
    for command in (("audit",), ("pause", "sends"), ("verify-packet", "a" * 32)):
        code, _, stderr = await run(*command, *where)
        assert code == 2
        assert "does not answer" in stderr
        assert "status 0" not in stderr
