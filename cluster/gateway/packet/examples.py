"""Examples of packets over HTTP: requests and answers that the OpenAPI document shows.

Instants are those of the night of 2016-01-01 in China; ids have the shape of real ones.
"""

from typing import Any

PACKET_ID = "aaaqaaz4gtsfmwxbmc3oy5dgzmwixzqp"
AT_MS = 1_451_577_900_000
DAY_MS = 86_400_000
_COMMITMENT = "6f1ed002ab5595859014ebf0951522d9a8d1f5d1d1f0d1a5c7b2b2e8f8c3a1d4"

Named = dict[str, Any]
"""Bodies by what they show."""

SENDS: Named = {
    "lucky": {"kind": "lucky", "total_fen": 1_000, "count": 5, "greeting": "恭喜发财"},
    "equal": {"kind": "equal", "total_fen": 1_000, "count": 5},
    "direct": {"kind": "direct", "total_fen": 888, "count": 1, "addressee": "mei"},
    "group": {"kind": "group", "total_fen": 1_000, "count": 5, "group": "family", "shares": "lucky"},
    "password": {"kind": "password", "total_fen": 1_000, "count": 5, "passphrase": "芝麻开门", "shares": "equal"},
    "star": {
        "kind": "star",
        "total_fen": 100_000,
        "count": 1_000,
        "share_fen_min": 1,
        "share_fen_max": 500,
        "opens_at_ms": AT_MS + 60_000,
        "sponsor": "Tea House",
        "day_count_max": 5_000,
        "shares": "lucky",
    },
}
GRABS: Named = {"phrase": {"passphrase": "芝麻开门"}, "nothing to say": {}}
BATCHES: Named = {
    "two users": {
        "grabs": [
            {"packet_id": PACKET_ID, "user": "mei"},
            {"packet_id": PACKET_ID, "user": "小明", "group": "family"},
        ]
    }
}
LINES: Named = {"line": {"id": 1, "packet_id": PACKET_ID, "user": "mei"}}
COMMITS: Named = {
    "packet": {"algorithm": "even/1"},
    "star packet": {"algorithm": "even/1", "star_count": 1_000},
    "rain": {"algorithm": "even/1", "bursts": 2},
}
_BURSTS = [
    {"opens_at_ms": AT_MS + 60_000, "ends_at_ms": AT_MS + 120_000, "total_fen": 50_000, "count": 100},
    {"opens_at_ms": AT_MS + 180_000, "ends_at_ms": AT_MS + 240_000, "total_fen": 50_000, "count": 100},
]
RAINS: Named = {
    "two bursts": {"bursts": _BURSTS, "rest": "roll", "greeting": "新年快乐", "sponsor": "Tea House"},
}
NOTES: Named = {"thanks": {"text": "谢谢老板"}}
PAYMENTS: Named = {"price": {"price_fen": 100}}

SENT = {
    "packet_id": PACKET_ID,
    "kind": "lucky",
    "state": "open",
    "total_fen": 1_000,
    "count": 5,
    "greeting": "恭喜发财",
    "sender": "boss",
    "created_at_ms": AT_MS,
    "expires_at_ms": AT_MS + DAY_MS,
    "algorithm": "even/1",
    "commitment": _COMMITMENT,
}
_TAKER = {"rank": 1, "user": "mei", "amount_fen": 231, "at_ms": AT_MS + 5}
PACKET = SENT | {"grabbed_count": 1, "grabbed_fen": 231, "refunded_fen": 0, "grabs": [_TAKER], "notes": []}
COMMITTED = {
    "commitment_id": "aaaqaau7ul5vh2wzd3iwkg6l24gzpc5a",
    "algorithm": "even/1",
    "commitment": _COMMITMENT,
    "expires_at_ms": AT_MS + 600_000,
}
SHARE = {"packet_id": PACKET_ID, **_TAKER, "replayed": False}
BATCH = {"results": [{"amount_fen": 231, "rank": 1, "replayed": False}, {"code": "not_member"}]}
