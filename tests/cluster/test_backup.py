"""Backup and restore of a real system, through the command line: the restored one tells the same, also in photos."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cluster.bootstrap import down, up
from cluster.config import Keys
from cluster.system import SystemRecord
from tests.cluster.gallery import Gallery
from tests.cluster.platform import Platform

COMMAND_SECONDS_MAX = 120


def hongbao(*arguments: str) -> dict[str, Any]:
    """Run a command and return what it printed last."""
    command = [sys.executable, "-m", "cluster.cli", *arguments, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX)
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout.splitlines()[-1]))


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="hongbao-backup-"))
    yield path
    shutil.rmtree(path)


async def test_a_backup_of_a_running_system_restores_to_the_same_balances(
    system: SystemRecord, keys: Keys, folder: Path
) -> None:
    async with aiohttp.ClientSession() as session:
        platform = Platform(system, keys, session)
        sender = await platform.user("backup-sender", 10_000)
        taker = await platform.user("backup-taker")
        packet = await platform.send(sender, "backup-1", 500, 2)
        await platform.insist("POST", f"/v1/packets/{packet['packet_id']}/grabs", taker)
        await platform.settled()
    made = hongbao("backup", str(folder / "backup"), "--data", str(system.data))
    restored = hongbao("restore", str(folder / "backup"), "--data", str(folder / "data"))
    assert restored["balances_sha256"] == made["balances_sha256"]
    assert restored["system"] == made["system"]
    again = hongbao("backup", str(folder / "again"), "--data", str(folder / "data"))
    assert again["balances_sha256"] == made["balances_sha256"], "a stopped system's folder can be backed up, too"
    assert again["events"] == made["events"]
    assert hongbao("verify", "--data", str(folder / "data"))["whole"]
    kept = (folder / "data" / "keys.json").stat()
    assert (kept.st_mode & 0o777, kept.st_size) == (0o600, (system.data / "keys.json").stat().st_size)


async def test_who_has_paid_for_a_photo_sees_it_on_the_system_that_was_made_of_a_backup(
    platform: Platform, keys: Keys, folder: Path
) -> None:
    gallery = Gallery(platform)
    await platform.user(gallery.name("bob"), 10_000)
    path = await gallery.upload(1)
    status, paid = await gallery.pay(path, "bob")
    assert status == 201
    pictures = [await gallery.clear(path, reader) for reader in ("owner", "bob")]
    made = hongbao("backup", str(folder / "backup"), "--data", str(platform.record.data))
    restored = hongbao("restore", str(folder / "backup"), "--data", str(folder / "data"))
    assert made["photo_files"] == restored["photo_files"] >= 3
    try:
        record = up(folder / "data", owned=True, report=print)
        async with aiohttp.ClientSession() as session:
            gallery.platform = Platform(record, keys, session)
            again = [await gallery.clear(path, reader) for reader in ("owner", "bob", "carol")]
            assert [(status, content) for status, content, _ in again[:2]] == [told[:2] for told in pictures]
            assert again[2][0] == 402
            assert await gallery.pay(path, "bob", "another key") == (201, paid)
            assert (await gallery.platform.settled())["clean"]
            assert await gallery.money("bob") == 10_000 - paid["price_fen"]
    finally:
        down(folder / "data", print)
