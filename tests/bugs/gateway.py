"""Bugs of the gateway's hot path."""

from tests.bugs import SERVICE, Mutant

ENDED, HOT, SENDS = (
    f"cluster/gateway/{name}.py" for name in ("dispatch/ended_packet_cache", "fast_routes", "packet/send_bodies")
)
ENDED_TESTS, HOT_TESTS = "tests/unit/test_ended.py", "tests/unit/test_hot.py"
HEADS, HEADS_TESTS, IDS_TESTS = "cluster/gateway/headers.py", "tests/unit/test_heads.py", "tests/unit/test_ids.py"
ENTRANCE, ENTRANCE_TESTS = "cluster/gateway/middleware/serve_hooks.py", "tests/unit/test_entrance.py"
STRICT, STRICT_TESTS = "cluster/gateway/middleware/validation.py", "tests/unit/test_strict.py"
REFUSALS = "tests/unit/test_http_refusals.py"
GATEWAY = [
    Mutant(
        "a winner is never told from a gateway's memory that a packet is empty",
        ENDED,
        "        return place < len(winners) and winners[place] == wanted\n",
        "        return place + 1 < len(winners) and winners[place] == wanted\n",
        (ENDED_TESTS,),
    ),
    Mutant(
        "another tenant is never answered from a gateway's memory",
        ENDED,
        "return None if ended is None or ended.tenant != tenant else ended",
        "return ended",
        (ENDED_TESTS,),
    ),
    Mutant(
        "a 404 is never kept as an end",
        ENDED,
        "        if type(reply) is PacketEnd and reply.state in _REFUSED:\n",
        "        reply = reply if type(reply) is PacketEnd else PacketEnd('drained', b'')\n        if reply:\n",
        (ENDED_TESTS,),
    ),
    Mutant(
        "what a gateway remembers of ended packets is bounded in bytes",
        ENDED,
        "FairCache(packets, sizes)",
        "FairCache(packets, sizes._replace(whole=10**9, tenant=10**9))",
        (ENDED_TESTS,),
    ),
    Mutant(
        "a crowd of losers asks once how a packet ended",
        ENDED,
        "        self._asking.add(packet_id)\n",
        "        pass\n",
        (ENDED_TESTS,),
    ),
    Mutant(
        "in a batch, those who may have won are asked about and the others told in their places",
        SERVICE,
        "    return Takings([next(told) if was_asked else ended.refused for was_asked in asked])\n",
        "    return Takings([*told, *[ended.refused] * asked.count(False)])\n",
        (ENDED_TESTS,),
    ),
    Mutant(
        "shares in columns keep their ranks",
        HOT,
        "count(reply.first_rank)",
        "count(1)",
        (HOT_TESTS,),
    ),
    Mutant(
        "every bad field of a send is named",
        SENDS,
        "                fields[name] = str(failure)\n",
        "                return Problem('invalid', '', {name: str(failure)})\n",
        (HOT_TESTS,),
    ),
    Mutant(
        "a packet over the product's limits is refused before money moves",
        SENDS,
        "    if count > count_max:\n",
        "    if False:\n",
        (REFUSALS,),
    ),
    Mutant(
        "a length beside chunks proves nothing",
        "cluster/gateway/middleware/body_reader.py",
        'counted = not told.isdigit() or b"transfer-encoding" in headers',
        "counted = not told.isdigit()",
        (HOT_TESTS,),
    ),
    Mutant(
        "a header's bytes name whom a token's text names",
        HEADS,
        "user = _unescaped(value).decode()",
        'user = _unescaped(value).decode("latin-1")',
        (HEADS_TESTS,),
    ),
    Mutant(
        "who acts is said once",
        HEADS,
        "if names.count(name) > 1:",
        "if names.count(name) > 2:",
        (HEADS_TESTS,),
    ),
    Mutant(
        "users who look the same are the same",
        "actors/transfers/ids.py",
        ' or not unicodedata.is_normalized("NFC", text)',
        "",
        (IDS_TESTS,),
    ),
    Mutant(
        "Serve obeys no header of a client",
        ENTRANCE,
        "if header[0] not in READ_BY_SERVE]",
        "if header]",
        (ENTRANCE_TESTS,),
    ),
    Mutant(
        "what Serve says by itself is a problem with a request id",
        ENTRANCE,
        'message["status"] >= 400 and',
        'message["status"] >= 600 and',
        (ENTRANCE_TESTS,),
    ),
    Mutant(
        "nothing is written into an answer that has begun",
        "cluster/gateway/middleware/http_protocol.py",
        "if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:",
        "if self.cycle:",
        (ENTRANCE_TESTS,),
    ),
    Mutant(
        "a key of a body is said once",
        STRICT,
        "    if len(told) == len(pairs):\n",
        "    if pairs:\n",
        (STRICT_TESTS,),
    ),
    Mutant(
        "a quote within a text is not counted for one around it",
        STRICT,
        """return -1 if b'\\\\"' in body else""",
        "return -1 if False else",
        (STRICT_TESTS,),
    ),
    Mutant(
        "a body is of the type that the route takes",
        STRICT,
        'if told.decode("latin-1") not in accepted or',
        "if",
        (STRICT_TESTS,),
    ),
    Mutant(
        "a method not allowed is told every one that is",
        "cluster/gateway/problems.py",
        'for method in ("DELETE", "GET", "PATCH", "POST", "PUT")',
        'for method in ("GET", "PATCH", "PUT")',
        (STRICT_TESTS,),
    ),
]
