"""Archive on a real system: it seals while it serves, and what it sealed answers for every fen, running or stopped."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.transfers.ids import Layout, wallet_index_of, wallet_stream
from cluster.config import keys_at, load
from cluster.journal.archive import manifest_of
from cluster.local.bootstrap import UpFailed, down, up
from cluster.local.record import SystemRecord
from cluster.offline.sources import ledger_of, sources_of
from tests.cluster.platform import TENANT, Platform, asked
from tests.contract.stores import flipped
from tests.processes import as_child

SMALL = {
    "HONGBAO_TIMING__SNAPSHOT_EVENTS": "40",
    "HONGBAO_PACKET__STREAMS": "2",
    "HONGBAO_WALLET__STREAMS": "2",
}
USERS = 12
SENDS_MIN, SENDS_MAX = 60, 600
"""More than the lines that a shard keeps; less than the sender's money."""
COMMAND_S_MAX = 120


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """A folder for a system of these tests' own, whose streams are maintained every few events."""
    folder = Path(tempfile.mkdtemp(prefix="hongbao-archive-"))
    os.environ.update(SMALL)
    try:
        yield folder
    finally:
        for name in SMALL:
            del os.environ[name]
        down(folder, print)
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def serving(record: SystemRecord) -> AsyncIterator[Platform]:
    async with asked(record, keys_at(record.data / "keys.json")) as platform:
        yield platform


async def command(*arguments: str) -> tuple[int, Any, str]:
    """Run `hongbao`; return its exit code, what it printed last as JSON, and what it said."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cluster.cli", *arguments, "--json", stdout=pipe, stderr=pipe, preexec_fn=as_child
    )
    try:
        async with asyncio.timeout(COMMAND_S_MAX):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    told = stderr.decode()
    assert "Traceback" not in told, told
    return process.returncode, json.loads(stdout.splitlines()[-1]) if stdout else None, told


async def spend_until_sealed(platform: Platform, stream: str) -> tuple[str, int]:
    """Let a user send packets that everybody takes from until his stream has a sealed part.

    Return his token and how many he has sent.
    """
    boss = await platform.user("boss", 1_000_000)
    for sent in range(1, SENDS_MAX + 1):
        packet = await platform.send(boss, f"key-{sent}", 1_200, USERS, "equal")
        grabs = [{"packet_id": packet["packet_id"], "user": f"user-{i}"} for i in range(USERS)]
        status, answer = await platform.insist("POST", "/v1/grabs/batch", platform.gateway, {"grabs": grabs})
        assert status == 200, answer
        if sent >= SENDS_MIN and sent % 10 == 0 and (await sealed_parts(platform.record))[stream]:
            return boss, sent
    raise AssertionError(f"nothing was sealed in {SENDS_MAX} sends")


async def sealed_parts(record: SystemRecord) -> dict[str, int]:
    """Count the sealed parts of every stream."""
    settings = load(record.config, store_url=record.store_url)
    async with sources_of(settings) as sources:
        streams = settings.streams
        return {stream: len(await manifest_of(sources.journals, stream)) for stream in streams}


async def change_last(data: Path, stream: str) -> tuple[str, list[Any]]:
    """Flip a bit of the last entry of a stopped system's stream; return its id, and the elements as they are now."""
    with ledger_of(data, "local", None, None, print) as ledger:
        async with sources_of(ledger.settings) as sources:
            store: Any = sources.journals
            client = store._client
            key = f"{ledger.settings.store_prefix}:journal:{stream}"
            elements = await client.xrange(key)
            last = str(await sources.journals.last_position(stream))
            await client.delete(key)
            for element, fields in elements:
                damaged = element.decode() == last
                await client.xadd(key, {b"e": flipped(fields[b"e"]) if damaged else fields[b"e"]}, id=element)
            return last, await client.xrange(key)


async def elements_of(data: Path, stream: str) -> list[Any]:
    with ledger_of(data, "local", None, None, print) as ledger:
        async with sources_of(ledger.settings) as sources:
            store: Any = sources.journals
            client = store._client
            return list(await client.xrange(f"{ledger.settings.store_prefix}:journal:{stream}"))


async def test_a_system_seals_while_it_serves_and_its_files_answer_for_every_fen_running_or_stopped(
    data: Path,
) -> None:
    record = await asyncio.to_thread(up, data, owned=True, report=print)
    folder = ("--data", str(data))
    stream = wallet_stream(wallet_index_of(TENANT, "boss", Layout.of(load(record.config).layout).wallet))
    async with serving(record) as platform:
        boss, sent = await spend_until_sealed(platform, stream)
        await platform.settled()
        code, verified, told = await command("verify", *folder)
        assert (code, verified["whole"]) == (0, True), told
        assert sum(one["sealed_elements"] for one in verified["streams"]) > 0
        code, audited, told = await command("audit", "--offline", *folder)
        assert (code, audited["difference_fen"], audited["in_flight_fen"]) == (0, 0, 0), told
        live = await platform.audit()
        assert audited["totals_fen"]["sent"] == live["funded_fen"] + live["paid_fen"] + live["refunded_fen"]
        code, whole, told = await command("statement", "boss", "--tenant", TENANT, *folder)
        assert code == 0, told
        assert len(whole["entries"]) == sent + 1, "a line a packet, more than a shard keeps, and the first"
        code, nobody, told = await command("statement", "typo", "--tenant", TENANT, *folder)
        assert (code, nobody["entries"]) == (1, []), told
        assert "nobody was ever called typo" in told
        status, page = await platform.insist("GET", "/v1/wallet/statement?limit=50", boss)
        assert status == 200
        assert whole["entries"][:50] == page["entries"]
        assert whole["available_fen"] == page["entries"][0]["balance_fen"]
    await asyncio.to_thread(down, data, print)
    code, again, told = await command("audit", "--offline", *folder)
    assert (code, again["balances_sha256"]) == (0, audited["balances_sha256"]), told
    assert (await command("verify", *folder))[0] == 0


async def test_a_start_on_a_damaged_tail_stops_in_one_line_and_leaves_everything_as_it_was(data: Path) -> None:
    last, elements = await change_last(data, "packet-000")
    with pytest.raises(UpFailed, match=f"journal packet-000: (entry|fence) {last} is damaged"):
        await asyncio.to_thread(up, data, owned=True, report=print)
    assert await elements_of(data, "packet-000") == elements, "no fence, nothing"
    code, verified, _ = await command("verify", "--data", str(data), "--stream", "packet-000")
    assert (code, verified["streams"][0]["bad"]["entry"]) == (1, last)


async def test_a_folder_without_a_system_is_said_in_one_line(tmp_path: Path) -> None:
    for arguments in (("verify",), ("statement", "mei"), ("audit", "--offline")):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "cluster.cli", *arguments, "--data", str(tmp_path)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=as_child,
        )
        stdout, stderr = await process.communicate()
        assert (process.returncode, stdout) == (2, b"")
        assert stderr.decode().count("\n") == 1
        assert "holds no system" in stderr.decode()
