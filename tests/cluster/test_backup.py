"""Backup and restore of a real system, through the command line: the restored one tells the same, also in photos."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.config import Keys
from cluster.deploy import check_system
from cluster.keys import new_keys
from cluster.local.bootstrap import down, up
from cluster.local.record import SystemRecord
from tests.cluster.gallery import Gallery
from tests.cluster.platform import Platform, asked

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
    async with asked(system, keys) as platform:
        sender = await platform.user("backup-sender", 10_000)
        taker = await platform.user("backup-taker")
        packet = await platform.send(sender, "backup-1", 500, 2)
        await platform.insist("POST", f"/v1/packets/{packet['packet_id']}/grabs", taker)
        await platform.settled()
    made = hongbao("backup", str(folder / "backup"), "--data", str(system.data))
    assert (folder / "backup").stat().st_mode & 0o777 == 0o700
    restored = hongbao("restore", str(folder / "backup"), "--data", str(folder / "data"))
    assert restored["balances_sha256"] == made["balances_sha256"]
    assert restored["system"] == made["system"]
    again = hongbao("backup", str(folder / "again"), "--data", str(folder / "data"))
    assert again["balances_sha256"] == made["balances_sha256"], "a stopped system's folder can be backed up, too"
    assert again["events"] == made["events"]
    assert hongbao("verify", "--data", str(folder / "data"))["whole"]
    kept = (folder / "data" / "keys.json").stat()
    assert (kept.st_mode & 0o777, kept.st_size) == (0o600, (system.data / "keys.json").stat().st_size)


def test_a_backup_into_the_live_folder_or_over_something_is_refused_and_touches_nothing(
    system: SystemRecord, folder: Path
) -> None:
    (folder / "theirs").write_text("theirs")
    folder.chmod(0o755)
    for target, says in (
        (system.data, "would lie in one another"),
        (system.data / "backup", "would lie in one another"),
        (folder, "is not empty"),
    ):
        command = [sys.executable, "-m", "cluster.cli", "backup", str(target), "--data", str(system.data)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX)
        assert ended.returncode == 2
        assert says in ended.stderr.splitlines()[-1]
    assert [path.name for path in folder.iterdir()] == ["theirs"]
    assert folder.stat().st_mode & 0o777 == 0o755
    assert not (system.data / "backup").exists()


@pytest.mark.parametrize("lost", [True, False])
def test_a_system_whose_keys_are_lost_or_others_is_not_deployed_and_gets_no_new_ones(
    lost: bool, system: SystemRecord, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not lost:
        new_keys(folder / "keys.json")
    before = sorted(folder.iterdir())
    with pytest.raises(SystemExit) as refused:
        check_system(system.model_copy(update={"data": folder}))
    assert refused.value.code == os.EX_DATAERR
    [line] = capsys.readouterr().err.splitlines()
    assert ("does not exist, but the store holds a system" if lost else "'k1' in the keys file is not the one") in line
    assert sorted(folder.iterdir()) == before


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
        async with asked(record, keys) as platform:
            gallery.platform = platform
            again = [await gallery.clear(path, reader) for reader in ("owner", "bob", "carol")]
            assert [(status, content) for status, content, _ in again[:2]] == [told[:2] for told in pictures]
            assert again[2][0] == 402
            assert await gallery.pay(path, "bob", "another key") == (201, paid)
            assert (await gallery.platform.settled())["clean"]
            assert await gallery.money("bob") == 10_000 - paid["price_fen"]
    finally:
        down(folder / "data", print)
