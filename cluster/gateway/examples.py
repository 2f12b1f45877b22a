"""Examples: requests and answers that the OpenAPI document shows. A test sends every request, and it is accepted.

Instants are those of the night of 2016-01-01 in China; ids have the shape of real ones.
"""

from typing import Any

_PACKET_ID = "aaaqaaz4gtsfmwxbmc3oy5dgzmwixzqp"
_NONCE_OF = "aaaqaau7ul5vh2wzd3iwkg6l24gzpc5a"
_AT_MS = 1_451_577_900_000
_DAY_MS = 86_400_000
_COMMITMENT = "6f1ed002ab5595859014ebf0951522d9a8d1f5d1d1f0d1a5c7b2b2e8f8c3a1d4"

Named = dict[str, Any]
"""Bodies by what they show."""

_STAR = {"opens_at_ms": _AT_MS + 60_000, "sponsor": "Tea House", "day_count_max": 5_000, "shares": "lucky"}
_BURSTS = [
    {"opens_at_ms": _AT_MS + 60_000, "ends_at_ms": _AT_MS + 120_000, "total_fen": 50_000, "count": 100},
    {"opens_at_ms": _AT_MS + 180_000, "ends_at_ms": _AT_MS + 240_000, "total_fen": 50_000, "count": 100},
]
_LEVERS: Named = {"pause": {"paused": True}, "resume": {"paused": False}}

REQUESTS: dict[str, Named] = {
    "send_packet": {
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
            **_STAR,
        },
    },
    "grab": {"phrase": {"passphrase": "芝麻开门"}, "nothing to say": {}},
    "grab_batch": {
        "two users": {
            "grabs": [
                {"packet_id": _PACKET_ID, "user": "mei"},
                {"packet_id": _PACKET_ID, "user": "小明", "group": "family"},
            ]
        }
    },
    "grab_stream": {"line": {"id": 1, "packet_id": _PACKET_ID, "user": "mei"}},
    "commit": {
        "packet": {"algorithm": "even/1"},
        "star packet": {"algorithm": "even/1", "star_count": 1_000},
        "rain": {"algorithm": "even/1", "bursts": 2},
    },
    "send_rain": {"two bursts": {"bursts": _BURSTS, "rest": "roll", "greeting": "新年快乐", "sponsor": "Tea House"}},
    "write_note": {"thanks": {"text": "谢谢老板"}},
    "ask_lishi": {"ask": {"asked": "bob", "greeting": "利是逗来"}},
    "accept_lishi": {"give": {"amount_fen": 888, "greeting": "学业进步"}},
    "pay_photo": {"price": {"price_fen": 100}},
    "set_sends_lever": _LEVERS,
    "set_grabs_lever": _LEVERS,
    "set_packet_lever": _LEVERS,
    "create_user": {"user": {"user": "mei", "tenant": "wechat", "balance_fen": 100_000}},
    "advance_clock": {"a day": {"advance_ms": _DAY_MS}},
}

_SENT = {
    "packet_id": _PACKET_ID,
    "kind": "lucky",
    "state": "open",
    "total_fen": 1_000,
    "count": 5,
    "greeting": "恭喜发财",
    "sender": "boss",
    "created_at_ms": _AT_MS,
    "expires_at_ms": _AT_MS + _DAY_MS,
    "algorithm": "even/1",
    "commitment": _COMMITMENT,
}
_SHARE = {"rank": 1, "user": "mei", "amount_fen": 231, "at_ms": _AT_MS + 5}

ANSWERS: dict[str, Any] = {
    "send_packet": _SENT,
    "read_packet": _SENT | {"grabbed_count": 1, "grabbed_fen": 231, "refunded_fen": 0, "grabs": [_SHARE], "notes": []},
    "commit": {
        "commitment_id": _NONCE_OF,
        "algorithm": "even/1",
        "commitment": _COMMITMENT,
        "expires_at_ms": _AT_MS + 600_000,
    },
    "grab": {"packet_id": _PACKET_ID, **_SHARE, "replayed": False},
    "grab_batch": {"results": [{"amount_fen": 231, "rank": 1, "replayed": False}, {"code": "not_member"}]},
    "read_wallet": {"available_fen": 99_000, "held_fen": 0},
    "read_statement": {
        "entries": [
            {
                "at_ms": _AT_MS,
                "kind": "packet_sent",
                "amount_fen": -1_000,
                "balance_fen": 99_000,
                "reference": _PACKET_ID,
            }
        ],
        "next_cursor": None,
        "older_lines_elsewhere": 0,
    },
    "alive": {"status": "alive"},
    "ready": {"status": "ready", "system": "8a1c0d5e2f7b4f0f9c3e6d1b5a7f2e4c"},
}
