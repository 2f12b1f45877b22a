"""Keys: nobody decides with keys that are not the system's, and none are ever made for a system that exists."""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.kernel.errors import WrongKeys
from actors.kernel.metrics import Tally
from actors.packet.commands import View
from actors.packet.host import PacketShard
from actors.packet.kind import PACKET as KIND
from actors.packet.rules import PacketRules
from actors.wallet.commands import CreditSandbox, Send
from cluster.config import Keys, keys_at
from cluster.journal.codec import platform_codec
from cluster.keys import KeyedJournals, check_keys, fingerprint, keep_keys, keys_for, known_to, new_keys
from cluster.local.secret_files import make_private, read_private
from cluster.runtime.shards import services_of
from tests.simulation.loop import simulated
from tests.simulation.memory_journal import MemoryJournals
from tests.simulation.system import KEYS, TENANT, System

OTHER = KEYS.model_copy(update={"platform": {"k1": "cd" * 32}})
ROTATED = KEYS.model_copy(update={"current": "k2", "platform": {**KEYS.platform, "k2": "ef" * 32}})
RENAMED = KEYS.model_copy(update={"first": "k2", "current": "k2", "platform": {"k2": "ab" * 32}})
LATER = ROTATED.model_copy(update={"platform": {**KEYS.platform, "k2": "01" * 32}})


async def store_of(*keys: Keys) -> MemoryJournals:
    """Return the store of a system that was started with these keys, one after the other."""
    store = MemoryJournals(platform_codec())
    for one in keys:
        await keep_keys(store, one)
    await store.create_system({"packet": {"": 1}, "wallet": {"": 1}})
    return store


def written(path: Path, keys: Keys) -> Path:
    make_private(path, keys.model_dump_json().encode())
    return path


async def test_the_keys_of_a_new_system_are_made_once_and_stay(tmp_path: Path) -> None:
    store, path = MemoryJournals(platform_codec()), tmp_path / "data" / "keys.json"
    made = await keys_for(store, path)
    assert await keys_for(store, path) == made, "a start that died between file and fingerprint goes on with that file"
    await keep_keys(store, made)
    assert await keys_for(store, path) == made == keys_at(path)
    assert [name.name for name in path.parent.iterdir()] == ["keys.json"], "no draft is left"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("created", [True, False], ids=["created", "about to be created"])
async def test_lost_keys_of_a_system_are_never_made_anew(created: bool, tmp_path: Path) -> None:
    store = await store_of(KEYS) if created else MemoryJournals(platform_codec())
    await keep_keys(store, KEYS)
    with pytest.raises(WrongKeys, match=r"keys\.json does not exist, but the store holds a system: put the keys file"):
        await keys_for(store, tmp_path / "keys.json")
    assert os.listdir(tmp_path) == []


async def test_lost_keys_of_a_system_without_fingerprints_are_not_made_anew_either(tmp_path: Path) -> None:
    with pytest.raises(WrongKeys, match="the store holds a system"):
        await keys_for(await store_of(), tmp_path / "keys.json")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("earlier", "given", "says"),
    [
        ([KEYS], OTHER, "'k1' in the keys file is not the one of this system: put the keys file"),
        ([KEYS, ROTATED], KEYS, "'k2' of this system is not in the keys file"),
        ([KEYS, ROTATED], LATER, "'k2' in the keys file is not the one"),
        ([KEYS], ROTATED.model_copy(update={"first": "k2"}), "names 'k2' as first, .* made with 'k1': set it back"),
        (
            [KEYS],
            RENAMED,
            "names 'k2' as first",
        ),
    ],
)
async def test_keys_that_are_not_the_systems_are_refused_by_name_and_change_nothing(
    earlier: list[Keys], given: Keys, says: str, tmp_path: Path
) -> None:
    store = await store_of(*earlier)
    before = await known_to(store)
    for use in (lambda: keep_keys(store, given), lambda: keys_for(store, written(tmp_path / "k.json", given))):
        with pytest.raises(WrongKeys, match=says) as refused:
            await use()
        assert "\n" not in str(refused.value)
        assert not any(key in str(refused.value) for key in given.platform.values())
    assert await known_to(store) == before


async def test_a_further_key_is_legal_and_belongs_to_the_system_from_then_on(tmp_path: Path) -> None:
    store = await store_of(KEYS)
    assert await keys_for(store, written(tmp_path / "keys.json", ROTATED)) == ROTATED
    await keep_keys(store, ROTATED)
    assert await known_to(store) == {
        "first": "k1",
        "key:k1": fingerprint(b"\xab" * 32),
        "key:k2": fingerprint(b"\xef" * 32),
    }


async def test_token_keys_may_change_and_go_at_any_time() -> None:
    store = await store_of(new := KEYS.model_copy(update={"tokens": {}}))
    await keep_keys(store, new.model_copy(update={"tokens": {"platform": None}}))


async def test_of_two_nodes_that_create_one_system_with_different_keys_only_one_does() -> None:
    store = MemoryJournals(platform_codec())
    gate = store.hold("shelf", stream="keys", applied=True)
    slow = asyncio.ensure_future(keep_keys(store, KEYS))
    await gate.reached()  # it has seen that there are none
    await keep_keys(store, OTHER)
    gate.release()
    with pytest.raises(WrongKeys):
        await slow
    await check_keys(store, OTHER)


async def test_a_fingerprint_tells_keys_apart_and_is_no_seed() -> None:
    assert fingerprint(b"a" * 32) != fingerprint(b"b" * 32)
    assert len(fingerprint(b"a" * 32)) == 32, "what was kept once stays comparable"


@simulated
async def test_a_shard_with_other_keys_activates_nothing_and_answers_that_it_is_unavailable() -> None:
    system = await System.start()
    await keep_keys(system.journals, KEYS)
    await system.service.wallets.ask(CreditSandbox(TENANT, "alice", 1_000))
    funded = (await system.service.wallets.send(Send(TENANT, "alice", "key", "lucky", 500, 2, ""))).funding
    before = {stream: stored.last for stream, stored in system.journals.stored.items()}
    settings = system.settings
    for keys, fits in ((OTHER, False), (KEYS, True)):
        journals = KeyedJournals(system.journals, Tally(0), keys)
        services, rules = services_of(settings, keys), settings.rules(PacketRules)
        shard = PacketShard("packet-shard-0", KIND, [funded.packet_stream], journals, system.clock, services, rules)
        [answer] = await shard.serve(funded.packet_stream, [View(funded.packet_id, TENANT)])
        assert (type(answer).__name__, getattr(answer, "code", "")) == (
            ("PacketView", "") if fits else ("Refused", "shard_unavailable")
        )
        fenced = {stream: stored.last for stream, stored in system.journals.stored.items()} != before
        assert fenced is fits, "nobody is fenced out by who has no right to be there"


# The file.


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o666, 0o677])
def test_a_keys_file_that_others_may_use_is_refused_naming_the_command_that_mends_it(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    new_keys(path)
    path.chmod(mode)
    with pytest.raises(PermissionError) as refused:
        keys_at(path)
    assert f"(mode {mode:04o}); chmod 600 {path}" in str(refused.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_keys_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    new_keys(path)
    os.chown(path, 12_345, -1)
    with pytest.raises(PermissionError, match=r"belongs to another user \(uid 12345\)"):
        keys_at(path)


def _pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(path))


@pytest.mark.parametrize("make", [_pipe, Path.mkdir, _socket])
def test_what_is_no_plain_file_is_refused_and_holds_nobody_up(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "k")
    with pytest.raises(OSError, match="k"):
        read_private(tmp_path / "k")


def test_a_mounted_secret_is_a_link_and_is_judged_by_what_it_leads_to(tmp_path: Path) -> None:
    made = new_keys(tmp_path / "real.json")
    (tmp_path / "keys.json").symlink_to("real.json")
    assert keys_at(tmp_path / "keys.json") == made
    (tmp_path / "real.json").chmod(0o644)
    with pytest.raises(PermissionError):
        keys_at(tmp_path / "keys.json")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not a keys file"),
        ("[]", "is not a keys file"),
        ('{"first": "k1", "current": "k1", "platform": {"k1": "5ec2e7"}, "tokens": {}}', "at least 16 bytes in hex"),
        ('{"first": "k1", "current": "k9", "platform": {"k1": "%s"}, "tokens": {}}' % ("5ec2e7" * 11), "'k9' is named"),
        (
            '{"first": "k1", "current": "k1", "platform": {"k1": "%s"}, "tokens": {}, "x": "5ec2e7"}' % ("ab" * 32),
            "Extra",
        ),
        (
            '{"first": "k1", "current": "k1", "platform": {"k1": "%s"}, "tokens": {"t": {"algorithm": "none", '
            '"key": "5ec2e7", "tenant": "*", "scopes": []}}}' % ("5ec2e7" * 11),
            "tokens.t.algorithm",
        ),
    ],
)
def test_what_is_wrong_in_a_keys_file_is_one_line_without_a_secret(content: str, says: str, tmp_path: Path) -> None:
    make_private(tmp_path / "keys.json", content.encode())
    with pytest.raises(ValueError, match="is not a keys file") as refused:
        keys_at(tmp_path / "keys.json")
    line = str(refused.value)
    assert says in line
    assert "\n" not in line
    assert "5ec2e7" not in line


def test_a_private_file_is_never_replaced(tmp_path: Path) -> None:
    make_private(tmp_path / "f", b"first")
    with pytest.raises(FileExistsError):
        make_private(tmp_path / "f", b"second")
    assert read_private(tmp_path / "f") == b"first"
    assert len(list(tmp_path.iterdir())) == 1
