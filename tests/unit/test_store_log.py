"""Store log: a cut write is told from damage, what was known to be on disk from what was not; nothing goes silently."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.local.store_log import (
    FOLDER,
    Durable,
    StoreDamaged,
    cuts_of,
    end_of,
    last_log,
    mend,
    missing_from,
    read_durable,
    repair,
    write_durable,
)

NAME = "appendonly.aof.3.incr.aof"


def command(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


APPEND = command(b"XADD", b"journal", b"1-1", b"e", b"an entry\r\n with a line")
TRANSACTION = command(b"MULTI") + APPEND + command(b"HSET", b"epochs", b"s", b"2") + command(b"EXEC")
REMARK = b"#TS:1795850898\r\n"
WHOLE = REMARK + APPEND + TRANSACTION + APPEND
LAST = len(APPEND)
ZEROS = b"\0" * 4_096
pieces = st.sampled_from([APPEND, TRANSACTION, command(b"SELECT", b"0"), REMARK])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose store has been rewritten twice and then written to."""
    folder = tmp_path / "store" / FOLDER
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text(
        "file appendonly.aof.3.base.rdb seq 3 type b\n"
        f"file appendonly.aof.2.incr.aof seq 2 type h\nfile {NAME} seq 3 type i\n"
    )
    (folder / NAME).write_bytes(WHOLE)
    return tmp_path


def log(data: Path) -> Path:
    path = last_log(data)
    assert path is not None
    return path


@given(st.lists(pieces, max_size=6), st.data())
def test_a_cut_write_is_cut_at_the_last_whole_command_wherever_it_was_cut(
    written: Sequence[bytes], draw: st.DataObject
) -> None:
    content = b"".join(written)
    at = draw.draw(st.integers(0, len(content)))
    ends = [len(b"".join(written[:number])) for number in range(len(written) + 1)]
    end = end_of(content[:at])
    assert (end.whole, end.size, end.cut) == (max(length for length in ends if length <= at), at, True)


@given(st.lists(pieces, min_size=1, max_size=4), st.data())
def test_zeros_behind_any_end_are_damage_and_everything_whole_stays(
    written: Sequence[bytes], draw: st.DataObject
) -> None:
    content = b"".join(written)
    at = draw.draw(st.integers(0, len(content)))
    whole = end_of(content[:at]).whole
    end = end_of(content[:at] + ZEROS)
    assert (end.whole, end.cut, end.followed) == (whole, False, False)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_fail(content: bytes) -> None:
    for found in (end_of(content), end_of(WHOLE + content)):
        assert found.whole <= found.size


@pytest.mark.parametrize("missing", [1, 10, 30])
def test_a_cut_write_is_cut_off_kept_and_told(missing: int, data: Path) -> None:
    log(data).write_bytes(WHOLE[:-missing])
    cut = mend(data)
    assert cut is not None
    assert (cut.whole, cut.cut_bytes, cut.answered) == (len(WHOLE) - LAST, LAST - missing, "not known")
    assert log(data).read_bytes() == WHOLE[:-LAST]
    assert (data / cut.kept_as).read_bytes() == APPEND[:-missing]
    assert "cannot be known" in cut.words()
    assert mend(data) is None
    assert cuts_of(data) == [cut]


def test_what_was_cut_behind_what_is_known_to_be_on_disk_was_of_the_last_second(data: Path) -> None:
    write_durable(data, Durable(file=NAME, size=len(WHOLE) - LAST))
    log(data).write_bytes(WHOLE[:-1])
    assert missing_from(data) == ""
    cut = mend(data)
    assert cut is not None
    assert cut.answered == "last second at most"


def test_nothing_is_cut_by_itself_where_something_is_missing_that_was_on_disk(data: Path) -> None:
    write_durable(data, Durable(file=NAME, size=len(WHOLE)))
    log(data).write_bytes(WHOLE[:-1])
    assert "what had been answered is missing" in missing_from(data)
    with pytest.raises(StoreDamaged, match=f"{LAST} bytes that had been on disk are missing.*hongbao repair"):
        mend(data)
    assert log(data).read_bytes() == WHOLE[:-1]
    assert cuts_of(data) == []


@pytest.mark.parametrize("content", [WHOLE[:-1], WHOLE[:-LAST], b""], ids=["in an entry", "a whole entry", "all of it"])
def test_a_repair_goes_on_without_what_is_missing_and_says_how_much_that_is(content: bytes, data: Path) -> None:
    write_durable(data, Durable(file=NAME, size=len(WHOLE)))
    log(data).write_bytes(content)
    cut = repair(data)
    assert cut is not None
    assert (cut.answered, cut.lost_bytes) == ("lost", len(WHOLE) - cut.whole)
    assert "what had been answered is lost" in cut.words()
    assert missing_from(data) == ""
    assert repair(data) is None
    assert cuts_of(data) == [cut], "it is told for ever"


@pytest.mark.parametrize("tail", [ZEROS, b"\0", APPEND[:-3] + ZEROS, b"garbage", b"*0\r\n", command(b"MULTI") + ZEROS])
def test_a_damaged_end_is_left_to_a_repair_which_cuts_it_off_and_keeps_it(tail: bytes, data: Path) -> None:
    log(data).write_bytes(WHOLE + tail)
    with pytest.raises(StoreDamaged, match="hongbao repair"):
        mend(data)
    assert log(data).read_bytes() == WHOLE + tail
    cut = repair(data)
    assert cut is not None
    assert log(data).read_bytes() == WHOLE
    assert (data / cut.kept_as).read_bytes() == tail
    assert (data / cut.kept_as).stat().st_mode & 0o077 == 0
    assert repair(data) is None


@pytest.mark.parametrize("damage", [b"\0", b"\0\0", b"9" * 4])
def test_a_damage_with_whole_entries_behind_it_is_not_cut_without_a_word(damage: bytes, data: Path) -> None:
    at = len(REMARK) + 1  # the first command's head
    content = WHOLE[:at] + damage + WHOLE[at + len(damage) :]
    log(data).write_bytes(content)
    for attempt in (mend, repair):
        with pytest.raises(StoreDamaged):
            attempt(data)
    assert log(data).read_bytes() == content
    cut = repair(data, lose_what_follows=True)
    assert cut is not None
    assert log(data).read_bytes() == REMARK
    assert (data / cut.kept_as).read_bytes() == content[len(REMARK) :]


@pytest.mark.parametrize("calls", range(4))
def test_a_repair_that_is_killed_is_done_by_the_next_one(
    calls: int, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(data).write_bytes(WHOLE + ZEROS)
    left, fsync = [calls], os.fsync

    def dies(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", dies)
        with pytest.raises(KeyboardInterrupt):
            repair(data)
    repair(data)
    assert log(data).read_bytes() == WHOLE
    [cut] = cuts_of(data)
    assert (data / cut.kept_as).read_bytes() == ZEROS


def test_files_that_are_older_than_what_is_known_are_told_and_taken_only_by_a_repair(data: Path) -> None:
    write_durable(data, Durable(file="appendonly.aof.4.incr.aof", size=70))
    assert "what had been answered is missing" in missing_from(data)
    cut = repair(data)
    assert cut is not None
    assert cut.answered == "lost"
    assert missing_from(data) == ""


def test_a_log_that_was_rewritten_since_is_no_damage(data: Path) -> None:
    write_durable(data, Durable(file="appendonly.aof.2.incr.aof", size=1_000_000))
    assert missing_from(data) == ""
    assert mend(data) is None


def test_a_store_whose_files_are_gone_is_not_begun_anew(data: Path) -> None:
    write_durable(data, Durable(file=NAME, size=len(WHOLE)))
    for path in (data / "store" / FOLDER).iterdir():
        path.unlink()
    assert "are gone" in missing_from(data)
    with pytest.raises(StoreDamaged, match="are gone"):
        repair(data)


def test_a_manifest_that_is_damaged_is_told(data: Path) -> None:
    write_durable(data, Durable(file=NAME, size=1))
    (data / "store" / FOLDER / "appendonly.aof.manifest").write_bytes(b"\0" * 80)
    assert "restore a backup" in missing_from(data)


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"{}"])
def test_knowledge_that_a_power_cut_has_damaged_is_none(content: bytes, data: Path) -> None:
    (data / "durable.json").write_bytes(content)
    (data / "cuts.ndjson").write_bytes(content)
    assert read_durable(data) is None
    assert missing_from(data) == ""
    assert cuts_of(data) == []
