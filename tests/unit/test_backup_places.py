"""Places: a backup and a restore write where nobody's files are, and read what a backup holds, whatever it names."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.errors import JournalCorrupt, JournalUnavailable, WrongKeys
from actors.kernel.kind import UnknownKind
from cluster.journal.archive import Archive, NameRefused, SealedPart, manifest_of
from cluster.journal.codec import platform_codec
from cluster.keys import keep_keys
from cluster.offline import backup
from cluster.offline.backup import NotRestorable
from cluster.offline.folder_claim import NotYours, claim, claimed
from tests.simulation.loop import simulated
from tests.simulation.memory_journal import MemoryJournals
from tests.simulation.system import KEYS
from tests.unit.test_backup import KEYS_JSON, Bench

SECRET = b"not of this place"
PARTS = st.sampled_from(["..", ".", "", "a", "link", "journal", "x\0y", "...", "etc"])


# Names.


@given(st.lists(PARTS, min_size=1, max_size=5))
def test_whatever_a_name_says_nothing_outside_the_place_is_read_or_written(parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outside, root = Path(folder), Path(folder) / "root"
        root.mkdir()
        (outside / "a").write_bytes(SECRET)
        (root / "link").symlink_to(outside)
        place, name = Archive(str(root)), "/".join(parts)
        before = sorted(path for path in outside.rglob("*") if root not in path.parents)
        for touch in (place.read, lambda at: place.write(at, b"w"), lambda at: place.create(at, b"c"), place.delete):
            with contextlib.suppress(NameRefused, JournalUnavailable):
                assert touch(name) != SECRET
        assert (outside / "a").read_bytes() == SECRET
        assert sorted(path for path in outside.rglob("*") if root not in path.parents) == before


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "x/../../a", "", ".", "x//y", "link/a", "a\0b", "link"])
def test_a_name_that_leads_out_is_refused_by_every_way_in(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "a").write_bytes(SECRET)
    (root / "link").symlink_to(tmp_path)
    ways: list[Callable[[Archive], Any]] = [
        lambda place: place.read(name),
        lambda place: place.opened(name),
        lambda place: place.write(name, b""),
        lambda place: place.create(name, b""),
        lambda place: place.delete(name),
    ]
    if name:
        ways.append(lambda place: place.listed(name))
    for url in (str(root), f"file://{root}"):
        for way in ways:
            with pytest.raises(NameRefused):
                way(Archive(url))


def test_a_file_url_is_a_folder_like_any_other(tmp_path: Path) -> None:
    Archive(f"file://{tmp_path}/place").write("x/y", b"told to nobody")
    written = tmp_path / "place" / "x" / "y"
    assert (written.read_bytes(), written.stat().st_mode & 0o777) == (b"told to nobody", 0o600)


async def test_a_manifest_that_names_another_file_than_the_parts_own_is_damaged() -> None:
    part = SealedPart(1, "", "2016-01-01", (1, 0), (1, 1), 0, 1, bytes(32), b"c" * 32, 0, 2, 10, b"s" * 32)
    for path, day in (("../../x", part.day), ("/etc/passwd", part.day), ("journal/day=../x", "../x"), ("", "../x")):
        store = MemoryJournals(platform_codec())
        forged = msgspec.structs.replace(part, path=path, day=day)
        await store.add_sealed_parts("packet-000", 0, [forged.encode()])
        with pytest.raises(JournalCorrupt, match="where no part of it is put"):
            await manifest_of(store, "packet-000")


def _forgeries(saved: dict[str, Any]) -> list[Callable[[dict[str, Any]], None]]:
    """Return a change for every kind of name in an index."""
    stream = next(name for name, one in saved["streams"].items() if one["records"] and one["snapshot"])

    def part(index: dict[str, Any]) -> None:
        index["streams"][stream]["parts"][0][1] = "../../../tmp/x"

    def snapshot(index: dict[str, Any]) -> None:
        index["streams"][stream]["snapshot"]["path"] = "/etc/passwd"

    def record(index: dict[str, Any]) -> None:
        index["streams"][stream]["records"][0]["path"] = "records/../../x"

    def photos(index: dict[str, Any]) -> None:
        index["photos"] = [{"path": "../photos-000000.parquet", "sha256": "aa=="}]

    def name(index: dict[str, Any]) -> None:
        index["streams"]["../" + stream] = index["streams"].pop(stream)

    def another(index: dict[str, Any]) -> None:
        index["streams"]["bank-000"] = index["streams"].pop(stream)

    def more(index: dict[str, Any]) -> None:
        index["layout"]["packet"][""] += 1

    return [part, snapshot, record, photos, name, another, more]


@simulated
async def test_an_index_that_names_what_no_backup_does_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    await bench.make()
    whole = bench.backup.read(backup.INDEX)
    assert whole is not None
    for forge in _forgeries(msgspec.json.decode(whole)):
        index = msgspec.json.decode(whole)
        forge(index)
        bench.backup.write(backup.INDEX, msgspec.json.encode(index))
        with pytest.raises(NotRestorable, match="not of a backup: it names"):
            backup.read_index(bench.backup)
    index = msgspec.json.decode(whole)
    index["layout"]["bank"] = {"": 1}
    bench.backup.write(backup.INDEX, msgspec.json.encode(index))
    with pytest.raises(UnknownKind, match="'bank' is not a kind of actor"):
        backup.read_index(bench.backup)


@simulated
async def test_a_restore_never_replaces_what_another_system_keeps_in_its_place(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    photo = "wechat/one/photo.json"
    bench.photos.write(photo, b"{}")
    saved = await bench.make()
    for taken in (photo, next(one.parts[0].path for one in saved.streams.values() if one.sealed)):
        archive, photos = Archive(str(tmp_path / taken[-5:] / "a")), Archive(str(tmp_path / taken[-5:] / "p"))
        (photos if taken == photo else archive).write(taken, b"another's")
        places = bench.places(MemoryJournals(platform_codec()), archive)._replace(photos=photos)
        with pytest.raises(NotRestorable, match=r"another file .* is where"):
            await backup.restore(places, saved, KEYS_JSON, print)
        assert (photos if taken == photo else archive).read(taken) == b"another's"
        assert await places.store.system_id() == ""


# Keys.


@simulated
async def test_a_backup_and_a_restore_take_the_systems_own_keys_only(tmp_path: Path) -> None:
    bench = await Bench.start(tmp_path)
    await keep_keys(bench.system.journals, KEYS)
    other = KEYS.model_copy(update={"platform": {"k1": "cd" * 32}}).model_dump_json().encode()
    places = bench.places(bench.system.journals, bench.archive)
    with pytest.raises(WrongKeys):
        await backup.make(places, other, msgspec.UNSET, 1, print)  # type: ignore[arg-type]
    assert bench.backup.listed() == []
    saved = await bench.make()
    journals = MemoryJournals(platform_codec())
    places = bench.places(journals, Archive(str(tmp_path / "new")))
    with pytest.raises(WrongKeys):
        await backup.restore(places, saved, other, print)
    assert await journals.is_empty()
    await backup.restore(places, saved, KEYS_JSON, print)
    with pytest.raises(WrongKeys):
        await keep_keys(journals, KEYS.model_copy(update={"platform": {"k1": "cd" * 32}}))


@simulated
async def test_keys_in_a_backup_that_others_may_read_are_refused_naming_the_command_that_mends_it(
    tmp_path: Path,
) -> None:
    bench = await Bench.start(tmp_path)
    await bench.make()
    path = tmp_path / "backup" / "keys.json"
    assert backup.keys_of(bench.backup) == KEYS_JSON
    path.chmod(0o644)
    with pytest.raises(PermissionError, match=f"chmod 600 {path}"):
        backup.keys_of(bench.backup)
    path.unlink()
    with pytest.raises(NotRestorable, match=r"no keys\.json in the backup"):
        backup.keys_of(bench.backup)


# Folders.


def test_a_folder_is_made_for_its_owner_alone_and_an_empty_one_keeps_its_mode(tmp_path: Path) -> None:
    assert claim(tmp_path / "a" / "new", "journal", [])
    assert (tmp_path / "a" / "new").stat().st_mode & 0o777 == 0o700
    (tmp_path / "empty").mkdir(mode=0o755)
    (tmp_path / "empty").chmod(0o755)
    assert not claim(tmp_path / "empty", "journal", [])
    assert (tmp_path / "empty").stat().st_mode & 0o777 == 0o755


def _full(folder: Path) -> None:
    folder.mkdir()
    (folder / "theirs").write_bytes(SECRET)


def _look(folder: Path) -> tuple[int, int, int, list[str]]:
    """Return what somebody may have changed: mode, owner, time of the last change, and names."""
    found = folder.lstat()
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return found.st_mode, found.st_uid, found.st_mtime_ns, names


def _open_to_all(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_full, "is not empty, and what is there stays"),
        (lambda folder: folder.write_bytes(SECRET), "is not a folder"),
        (lambda folder: folder.symlink_to(folder.parent / "nowhere"), "is not a folder"),
        (_open_to_all, "chmod 700"),
        (lambda folder: claim(folder, "journal", []), "is not empty"),
    ],
)
def test_a_folder_that_is_somebodys_is_refused_and_not_touched(
    make: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    folder = tmp_path / "f"
    make(folder)
    before = _look(folder)
    with pytest.raises(NotYours, match=says):
        claim(folder, "journal", [])
    assert _look(folder) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_another_users_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    os.chown(tmp_path / "f", 12_345, -1)
    with pytest.raises(NotYours, match="another user"):
        claim(tmp_path / "f", "journal", [])


@pytest.mark.parametrize("where", ["data", "data/backup", "data/x/../y", "link/backup", "."])
def test_a_backup_never_lies_in_a_live_place_nor_around_it(where: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("data")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(NotYours, match="would lie in one another"):
        claim(tmp_path / where, "journal", [tmp_path / "data"])
    assert sorted(tmp_path.rglob("*")) == before


def test_of_two_restores_into_one_folder_the_second_takes_nothing_of_the_first_away(tmp_path: Path) -> None:
    with claimed(tmp_path / "d", "store", []):
        (tmp_path / "d" / "keys.json").write_bytes(b"of the first")
        with pytest.raises(NotYours, match="not empty"), claimed(tmp_path / "d", "store", []):
            raise AssertionError("never got here")
    assert (tmp_path / "d" / "keys.json").read_bytes() == b"of the first"


@pytest.mark.parametrize("made", [True, False])
def test_what_fails_takes_away_what_it_put_there_and_nothing_else(made: bool, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    if not made:
        folder.mkdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_bytes(SECRET)

    def fail() -> None:
        with claimed(folder, "store", []):
            (folder / "keys.json").write_bytes(b"k")
            (folder / "link").symlink_to(tmp_path / "theirs")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert folder.exists() is not made
    assert made or os.listdir(folder) == []
    assert (tmp_path / "theirs" / "file").read_bytes() == SECRET
