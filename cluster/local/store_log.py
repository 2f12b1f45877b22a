"""Store log: how the embedded store's files end after a crash, a power cut or damage, and how that is mended.

Valkey keeps `store/appendonlydir/`: a manifest, a base, and after it files of commands as clients sent them (RESP), of
which the last grows. An answer is given when that file is on disk (fsync). So its end tells:

| the file ends | is | then |
|---|---|---|
| with a whole command | as it should be, if it is not shorter than it is known to have been on disk | it is started |
| in the middle of a command | a write that was cut, as a power cut or kill -9 leaves one | cut off, kept, told |
| with anything else (zeros, for instance) | damage | not started; `hongbao repair` cuts it off |
| below what is known to have been on disk | damage: what had been answered is missing | the same |

What is known is `durable.json`, a length that a watchdog writes once a second and when the store has ended well. Which
answers of the last second before a crash were given is not known: only the process that crashed knew.
"""

import os
import re
import time
from collections.abc import Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from actors.kernel.errors import OperatingFailure

FOLDER = "appendonlydir"
HEAD_BYTES_MAX = 32
"""Of a line that says how many parts a command has, or how long one is."""

RESYNC_MAX = 1_000
"""Places behind a damage where a whole command is looked for."""

_PARTS, _LENGTH = re.compile(rb"\*([1-9]\d{0,9})\r\n").match, re.compile(rb"\$(\d{1,10})\r\n").match
_HEAD_BEGUN = re.compile(rb"([*$]\d{0,10}\r?)?")
_REFUSED = re.compile(r"(Unexpected end of file|Bad file format) reading the append only file")


class StoreDamaged(OperatingFailure):
    """The store's files miss what had been answered, or hold what nobody wrote. The message says what to do."""


class End(NamedTuple):
    """How a file of commands ends."""

    whole: int
    """Where its last whole command ends that is in no unfinished transaction."""
    size: int
    begun: bool = True
    """What comes last is the beginning of a command or transaction (or nothing); else it is what nobody wrote."""
    followed: bool = False
    """Whole commands come behind a broken one: then it is damage in the middle, not at the end."""

    @property
    def cut(self) -> bool:
        """Tell whether it is as a cut write leaves it, or whole."""
        return self.begun and not self.followed


class Durable(BaseModel):
    """A length that the store's last file is known to have had on disk, all of it written and synced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    size: int


class LogCut(BaseModel):
    """What was cut off the store's log, for people and for `verify`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_ms: int
    file: str
    whole: int
    """The length that was left."""
    cut_bytes: int
    """Kept in `kept_as`; 0 if the file was only shorter than it should be."""
    kept_as: str
    lost_bytes: int
    """Of what is known to have been on disk, and so may have been answered, so many are missing."""
    answered: Literal["lost", "not known", "last second at most"]
    """Whether answers are lost."""

    def words(self) -> str:
        """Say it in a sentence."""
        told = {
            "lost": f"{self.lost_bytes:,} bytes of it were known to be on disk: what had been answered is lost",
            "not known": "whether it had been answered cannot be known",
            "last second at most": "at most answers of the last second before the end are lost",
        }
        at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.at_ms / 1_000))
        kept = f", kept as {self.kept_as}" if self.kept_as else ""
        return (
            f"{at}: {self.cut_bytes:,} bytes behind {self.whole:,} of {self.file} were cut{kept}; {told[self.answered]}"
        )


# How a file ends


def end_of(content: "bytes | mmap") -> End:
    """Read a file of commands up to what is not a whole command, or its end."""
    size = len(content)
    at = whole = 0
    in_transaction = False
    while at < size:
        after, first = _command(content, at)
        if after <= 0:
            return End(whole, size, begun=after == 0, followed=_is_followed(content, at))
        at = after
        in_transaction = first == b"MULTI" or (in_transaction and first != b"EXEC")
        if not in_transaction:
            whole = at
    return End(whole, size)


def _command(content: "bytes | mmap", at: int) -> tuple[int, bytes]:
    """Return where a command ends, and its first part; 0 if the file ends before it does, -1 if it is none."""
    if content[at : at + 1] == b"#":  # a remark of the store's, up to the end of its line
        end = content.find(b"\r\n", at, at + HEAD_BYTES_MAX)
        return (end + 2, b"#") if end > 0 else (0 if len(content) - at < HEAD_BYTES_MAX else -1, b"")
    parts = _PARTS(content, at)
    if parts is None:
        return _begun(content, at, b"*"), b""
    at, first = parts.end(), b""
    for number in range(int(parts[1])):
        length = _LENGTH(content, at)
        if length is None:
            return _begun(content, at, b"$"), b""
        end = length.end() + int(length[1])
        if content[end : end + 2] != b"\r\n":
            return (0 if end + 2 > len(content) else -1), b""
        if number == 0:
            first = content[length.end() : end]
        at = end + 2
    return at, first


def _begun(content: "bytes | mmap", at: int, mark: bytes) -> int:
    """Tell where the head of a command or part should be: 0 if the file ends in it, -1 if something else is there."""
    line = content[at : at + HEAD_BYTES_MAX]
    begun = at + len(line) == len(content) and line[:1] in (b"", mark) and _HEAD_BEGUN.fullmatch(line)
    return 0 if begun else -1


def _is_followed(content: "bytes | mmap", at: int) -> bool:
    for _ in range(RESYNC_MAX):
        at = content.find(b"\r\n*", at) + 2
        if at < 2:
            return False
        if _command(content, at)[0] > 0:
            return True
    return True


# The files of a data folder


def last_log(data: Path) -> Path | None:
    """Return the file of commands that grows, None if the store has never run there. Raises StoreDamaged."""
    folder = data / "store" / FOLDER
    manifests = list(folder.glob("*.manifest"))
    if not manifests:
        return None
    try:
        lines = [line.split() for line in manifests[0].read_text().splitlines()]
        files = [dict(zip(words[::2], words[1::2], strict=True)) for words in lines if words]
        logs = [found["file"] for found in files if found["type"] == "i"]
    except (ValueError, KeyError):
        raise StoreDamaged(f"{manifests[0]} is damaged; restore a backup") from None
    return folder / logs[-1] if logs else None


def read_durable(data: Path) -> Durable | None:
    """Return what is known to have been on disk; None if nothing is."""
    try:
        return Durable.model_validate_json((data / "durable.json").read_bytes())
    except (OSError, ValidationError):
        return None  # lost or damaged by the same power cut: then nothing is known


def write_durable(data: Path, durable: Durable, *, sync: bool = False) -> None:
    """Replace what is known in one step. Raises OSError."""
    draft = data / "durable.json.new"
    with os.fdopen(_for_owner(draft, os.O_TRUNC), "wb") as file:
        file.write(durable.model_dump_json().encode())
        if sync:
            file.flush()
            os.fsync(file.fileno())
    draft.replace(data / "durable.json")


def durable_now(data: Path) -> Durable | None:
    """Return how long the last file is now; it is known to be on disk once the store has answered after that."""
    path = last_log(data)
    return None if path is None or not path.exists() else Durable(file=path.name, size=path.stat().st_size)


def missing_from(data: Path) -> str:
    """Say what the store's files lack of what is known to have been on disk; empty if nothing. Reads no commands."""
    known = read_durable(data)
    if known is None:
        return ""
    try:
        path = last_log(data)
    except StoreDamaged as damage:
        return str(damage)
    if path is None or not path.exists():
        return (
            f"the store's files in {data / 'store' / FOLDER} are gone: put them back or restore a backup; "
            "for a new system take a new data folder"
        )
    size = path.stat().st_size
    if (path.name == known.file and size < known.size) or _number(path.name) < _number(known.file):
        return (
            f"{path} has {size:,} bytes; {known.file} had {known.size:,} on disk: what had been answered is missing; "
            "restore a backup, or go on without it: `hongbao repair`"
        )
    return ""


def cuts_of(data: Path) -> list[LogCut]:
    """Return everything that was ever cut off, oldest first."""
    try:
        lines = (data / "cuts.ndjson").read_bytes().splitlines()
    except OSError:
        return []
    found: dict[tuple[str, int, int], LogCut] = {}
    for line in lines:
        try:
            cut = LogCut.model_validate_json(line)
        except ValidationError:
            continue  # written while the power went: it was cut, and told, again
        found[cut.file, cut.whole, cut.cut_bytes] = cut
    return list(found.values())


def refuses_files(lines: Sequence[str]) -> bool:
    """Tell whether the store's last words are that it cannot read how its files end."""
    return any(_REFUSED.search(line) for line in lines)


# Mending


def mend(data: Path) -> LogCut | None:
    """Cut an unfinished command off, as every crash may leave one; None if there is none.

    Raises StoreDamaged: it is damage, or what had been answered is missing; nothing was changed.
    """
    path = last_log(data)
    if path is None:
        return None
    end = _end_of_file(path)
    lost = _lost_bytes(data, path, end)
    if end.whole == end.size and not lost:
        return None
    if end.cut and not lost:
        return _cut(data, path, end, 0)
    raise StoreDamaged(
        f"the last {end.size - end.whole:,} bytes of {path} are not a command of the store, as after a power cut"
        + (f", and {lost:,} bytes that had been on disk are missing" if lost else "")
        + "; end the system, then `hongbao repair` cuts them off, keeps them and says what was lost"
    )


def repair(data: Path, *, lose_what_follows: bool = False) -> LogCut | None:
    """Cut everything behind the last whole command off, and go on without what is missing; None if all is well.

    No store may run there. Raises StoreDamaged: the damage is not at the file's end, or it is in another file.
    """
    path = last_log(data)
    if path is None or not path.exists():
        raise StoreDamaged(missing_from(data) or f"{data} holds no store of `hongbao up`; --data names another folder")
    end = _end_of_file(path)
    if end.followed and not lose_what_follows:
        raise StoreDamaged(
            f"{path} is damaged behind byte {end.whole:,} and whole commands follow: they would be lost with it; "
            "restore a backup, or cut there all the same with --lose-what-follows"
        )
    lost = _lost_bytes(data, path, end)
    if end.whole == end.size and not lost:
        return None
    return _cut(data, path, end, lost)


def _end_of_file(path: Path) -> End:
    if path.stat().st_size == 0:
        return End(0, 0)
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return end_of(content)


def _lost_bytes(data: Path, path: Path, end: End) -> int:
    known = read_durable(data)
    if known is None or _number(known.file) < _number(path.name):
        return 0
    return known.size if known.file != path.name else max(0, known.size - end.whole)


def _cut(data: Path, path: Path, end: End, lost: int) -> LogCut:
    """Keep what is cut, note it, cut it: killed in between, the next attempt does it all again."""
    known = read_durable(data)
    kept_as = ""
    if end.size > end.whole:
        kept = data / "damaged" / f"{path.name}.{end.whole}-{end.size}"
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        with path.open("rb") as source, os.fdopen(_for_owner(kept, os.O_TRUNC), "wb") as target:
            source.seek(end.whole)
            while piece := source.read(1 << 20):
                target.write(piece)
            target.flush()
            os.fsync(target.fileno())
        kept_as = str(kept.relative_to(data))
    seen = known is not None and known.file == path.name
    cut = LogCut(
        at_ms=time.time_ns() // 1_000_000,
        file=path.name,
        whole=end.whole,
        cut_bytes=end.size - end.whole,
        kept_as=kept_as,
        lost_bytes=lost,
        answered="lost" if lost else "last second at most" if seen else "not known",
    )
    with os.fdopen(_for_owner(data / "cuts.ndjson", os.O_APPEND), "ab") as notes:
        notes.write(cut.model_dump_json().encode() + b"\n")
        notes.flush()
        os.fsync(notes.fileno())
    with path.open("rb+") as file:
        file.truncate(end.whole)
        os.fsync(file.fileno())
    write_durable(data, Durable(file=path.name, size=end.whole), sync=True)
    return cut


def _number(name: str) -> int:
    """Return the number in a file's name; the store gives each file a greater one."""
    return int(next((word for word in name.split(".") if word.isdigit()), 0))


def _for_owner(path: Path, flag: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | flag, 0o600)
