"""Bugs of the stream, each caught by its own tests."""

from tests.bugs import Mutant

STREAM, LINES, ENTRANCE = (
    "cluster/gateway/packet/stream.py",
    "cluster/gateway/packet/ndjson.py",
    "cluster/gateway/middleware/serve_hooks.py",
)
DOOR = "tests/unit/test_stream.py"
STREAMS = [
    Mutant(
        "a line of a stream is answered once, also if its outcome comes after the deadline",
        STREAM,
        "        if group.told:\n            return\n",
        "",
        (DOOR,),
    ),
    Mutant(
        "a stream holds no more unanswered lines than its bound",
        STREAM,
        "            self._unanswered += group.size\n",
        "",
        (DOOR,),
    ),
    Mutant(
        "an answered line makes room for the next of its stream",
        STREAM,
        "                self._unanswered -= lines\n",
        "",
        (DOOR,),
    ),
    Mutant(
        "a stream reads nothing more while its client does not read",
        STREAM,
        "            if self._writing:\n                self._written.clear()\n",
        "            if False:\n                self._written.clear()\n",
        (DOOR,),
    ),
    Mutant(
        "a stream that ends answers what is under way first",
        STREAM,
        "        while self._owed and not self._gone:",
        "        while False:",
        (DOOR,),
    ),
    Mutant(
        "nobody acts with a token that expired while his stream was open",
        STREAM,
        "        elif self._is_expired():\n            self._end = EXPIRED\n",
        "",
        (DOOR,),
    ),
    Mutant(
        "a request that Serve cancels ends, whatever else ends its stream",
        STREAM,
        "            if self._end is None or self._reader.uncancel() > 0:\n                raise",
        "            if False:\n                raise",
        (DOOR,),
    ),
    Mutant(
        "a stream of an old replica ends when Serve drains it",
        ENTRANCE,
        'return b"DRAINING" in body',
        "return False",
        (DOOR,),
    ),
    Mutant(
        "two grabs in one line of a stream are none",
        LINES,
        "        found = list(map(_GRAB.decode, lines))\n",
        '        found = _GRAB.decode_lines(b"\\n".join(lines))\n',
        (DOOR,),
    ),
    Mutant(
        "a line of a stream is whole, wherever the network cut it",
        LINES,
        "(self._rest + chunk).split",
        "chunk.split",
        (DOOR,),
    ),
]
