"""NDJSON: the lines of a stream, both ways. Pure: bytes in, grabs out; replies in, bytes out.

A line is a grab, or it is answered by itself; where the network cuts a body makes no difference. JSON has no line
break inside a value, so a body can be cut into lines before it is read.
"""

from collections.abc import Mapping, Sequence
from itertools import count, repeat

import msgspec

from actors.kernel.messages import Refused
from actors.packet.replies import Shares, Takings, Won
from cluster.gateway.packet.contract import LineId, StreamCode, StreamEnd, StreamGrab, StreamShare
from cluster.gateway.packet.grab_items import Asked, is_sound, texts_of
from cluster.gateway.problems import Problem
from cluster.gateway.validation import NOT_JSON, RepeatedKeys, read_json, read_marked, texts_in


class _Named(msgspec.Struct):
    id: LineId | None = None


_GRAB = msgspec.json.Decoder(StreamGrab)
_NAMED = msgspec.json.Decoder(_Named)
_ENCODER = msgspec.json.Encoder()


class LineCutter:
    """Cuts a body into its lines. Once a line is too long, `overlong` is set and nothing behind it is looked at."""

    def __init__(self, line_bytes_max: int) -> None:
        self._line_bytes_max = line_bytes_max
        self._rest = b""
        self.overlong = False

    def cut(self, chunk: bytes, *, last: bool = False) -> list[bytes]:
        """Return the lines that `chunk` completes, without blank ones; the end of the body completes a line too."""
        if self.overlong:
            return []
        lines = (self._rest + chunk).split(b"\n")
        if last:
            lines.append(b"")
        if max(map(len, lines)) > self._line_bytes_max:
            self.overlong = True
            lines = lines[: next(i for i, line in enumerate(lines) if len(line) > self._line_bytes_max)]
        else:
            self._rest = lines.pop()
        return [line for line in lines if line and not line.isspace()]


def read_grabs(lines: list[bytes]) -> tuple[list[StreamGrab], list[StreamCode]]:
    """Return the grabs among the lines, and an answer for each line that is none."""
    bad: list[StreamCode] = []
    try:
        found = list(map(_GRAB.decode, lines))
        names = sum([1 + (type(grab.id) is str) for grab in found])
        sound = texts_in(b"\n".join(lines)) == names + texts_of(found)
    except NOT_JSON:
        sound = False
    if not sound:  # perhaps one of them is bad: look at each alone
        found = []
        for line in lines:
            try:
                grab = _GRAB.decode(line)
                read_json(line)  # for what msgspec does not refuse
            except (*NOT_JSON, Problem):
                bad.append(StreamCode(_id_of(line), "invalid"))
            else:
                found.append(grab)
    good = list(filter(is_sound, found))
    if len(good) < len(found):
        kept = set(map(id, good))
        bad += [StreamCode(grab.id, "invalid") for grab in found if id(grab) not in kept]
    return good, bad


def is_object(line: bytes) -> bool:
    """Tell whether a line is a JSON object, whatever it says."""
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except NOT_JSON:
        return False
    return True


def _id_of(line: bytes) -> LineId | None:
    try:
        name = _NAMED.decode(line).id
    except NOT_JSON:
        return None
    if b"\\" not in line and line.count(b'"id"') == 1:
        return name
    try:
        told = read_marked(line)
    except Problem:
        return None
    return (
        None if isinstance(told, RepeatedKeys) and "id" in told.keys else name
    )  # of two nobody knows which is its own


def write_crowds(ids: dict[Asked, list[LineId]], crowds: Mapping[Asked, Takings | Shares | Refused]) -> bytes:
    """Return the lines that answer grabs, given by packet: their ids, and what became of them in the same order."""
    lines: list[StreamShare | StreamCode] = []
    for asked, names in ids.items():
        crowd = crowds[asked]
        if isinstance(crowd, Shares):
            assert len(crowd.amounts_fen) == len(names), "everybody who asked is answered"
            lines += map(StreamShare, names, crowd.amounts_fen, count(crowd.first_rank), repeat(False))
        elif isinstance(crowd, Takings):
            lines += [_line(name, reply) for name, reply in zip(names, crowd.replies, strict=True)]
        else:
            lines += [StreamCode(name, crowd.code) for name in names]
    return _ENCODER.encode_lines(lines)


def _line(name: LineId, reply: Won | Refused) -> StreamShare | StreamCode:
    if type(reply) is Won:
        return StreamShare(name, reply.amount_fen, reply.rank, reply.replayed)
    assert type(reply) is Refused, "a grab is won or refused"
    return StreamCode(name, reply.code)


def write_codes(codes: Sequence[StreamCode]) -> bytes:
    """Return the lines that refuse."""
    return _ENCODER.encode_lines(codes)


def write_end(end: StreamEnd) -> bytes:
    """Return the last line."""
    return _ENCODER.encode(end) + b"\n"
