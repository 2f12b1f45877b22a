"""Golden events: one sample of every event type, and the files that hold their bytes for ever.

`python -m tests.golden.events.write` writes the files that are missing. It never changes one: a journal written years
ago holds those bytes. A sample that gained a field (at the end, with a default) gets a new file; the old one is kept as
`<tag>.1.json`, and so on, and is still read.
"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from actors.kernel.messages import SnapshotTaken
from actors.kernel.switches import SwitchSet
from actors.ledger.holds import Held, HoldExpired, HoldPosted, HoldVoided
from actors.ledger.transfer import Settled
from actors.packet.events import Expired, GrabbedMany, Opened, OpeningReturned, Passivated, PhraseMissed
from actors.packet.switches import packet_switch
from actors.transfers.funding import PacketFunded
from actors.transfers.payout import PayoutRun
from actors.wallet.events import (
    Committed,
    LishiAsked,
    LishiClosed,
    LishiCounted,
    Noted,
    PhotoKept,
    RunsReceived,
    SandboxCredited,
)

FOLDER = Path(__file__).parent
COMMAND = "python -m tests.golden.events.write"

_AT_MS = 1_451_577_900_000  # 2016-01-01 00:05 in Beijing
_PACKET = "aabaaayv5vchwqj5hkvfxk2pzmy4rlsb"
_LISHI = "aabwxm4d2f7hqv3ck5tzr6ysgnlejopi"
_FUNDING = PacketFunded(
    number=7,
    packet_stream="packet-002",
    packet_id=_PACKET,
    tenant="wechat",
    sender="李雷",
    key="new-year-1",
    kind="lucky",
    total_fen=8_888,
    count=10,
    share_fen_min=1,
    share_fen_max=20_000,
    greeting="恭喜发财",
    at_ms=_AT_MS,
    expires_at_ms=_AT_MS + 86_400_000,
    algorithm="split-1",
    key_id="k1",
    commitment=bytes(range(32)),
)

SAMPLES: tuple[msgspec.Struct, ...] = (
    _FUNDING,
    RunsReceived(
        source="packet-002",
        runs=[
            PayoutRun(1, "share", "wechat", _PACKET, ["韩梅梅", "林涛"], [1_234, 1], _AT_MS + 100),
            PayoutRun(3, "refund", "wechat", _PACKET, ["李雷"], [7_653], _AT_MS + 150),
            PayoutRun(4, "returned", "wechat", _PACKET, ["李雷"], [8_888], _AT_MS + 160),
        ],
        at_ms=_AT_MS + 200,
    ),
    Settled(destination="wallet-005", number=2),
    SnapshotTaken(epoch=3, seq=41),
    Opened(source="wallet-001", funding=_FUNDING),
    OpeningReturned(source="wallet-001", funding=_FUNDING, to_wallet=1, number=9),
    GrabbedMany(
        packet_id=_PACKET,
        tenant="wechat",
        first_rank=8,
        users=["韩梅梅", "林涛", "小明"],
        amounts_fen=[1_234, 1, 20_000],
        at_ms=_AT_MS + 100,
        to_wallets=[5, 0, 5],
        numbers={5: 3, 0: 1},
        seed=bytes(range(32, 64)),
    ),
    Expired(
        packet_id=_PACKET,
        amount_fen=7_654,
        at_ms=_AT_MS + 86_400_000,
        to_wallet=1,
        number=2,
        seed=bytes(range(32, 64)),
    ),
    Passivated(packet_ids=[_PACKET]),
    SandboxCredited(tenant="wechat", user="李雷", amount_fen=1_000_000, at_ms=_AT_MS),
    Held(hold_id="photo-1", tenant="wechat", user="李雷", amount_fen=500, at_ms=_AT_MS, expires_at_ms=_AT_MS + 60_000),
    HoldExpired(hold_id="photo-3", tenant="wechat", user="李雷", amount_fen=500, at_ms=_AT_MS + 60_000),
    HoldPosted(hold_id="photo-1", tenant="wechat", user="李雷", amount_fen=500, at_ms=_AT_MS + 1),
    HoldVoided(hold_id="photo-2", tenant="wechat", user="李雷", amount_fen=300, at_ms=_AT_MS + 2),
    SwitchSet(switch=packet_switch(_PACKET), paused=True, at_ms=_AT_MS + 3, by="operator"),
    PhraseMissed(packet_id=_PACKET, users=["韩梅梅", "tom", "tom"], at_ms=_AT_MS + 4),
    Committed(
        packet_id=_PACKET,
        tenant="wechat",
        user="李雷",
        algorithm="even/1",
        key_id="k1",
        commitment=bytes(range(32)),
        at_ms=_AT_MS,
        expires_at_ms=_AT_MS + 600_000,
        star_count=1_000_000,
        further=[bytes(32), bytes([255]) * 32],
    ),
    LishiCounted(tenant="wechat", asker="小明", asked="李雷", key="利是一", at_ms=_AT_MS + 4),
    LishiAsked(_LISHI, "wechat", "小明", "李雷", "老板，利是！", _AT_MS + 5, _AT_MS + 86_400_005, _AT_MS + 4),
    LishiClosed(lishi_id=_LISHI, outcome="accepted", at_ms=_AT_MS + 6, packet_id=_PACKET),
    PhotoKept(photo_id="aaafoto", tenant="wechat", user="李雷", size_bytes=123_456, at_ms=_AT_MS + 8),
    Noted(packet_id=_PACKET, user="韩梅梅", text="谢谢老板", at_ms=_AT_MS + 7, tenant="wechat"),
)


def tag_of(event_type: type[msgspec.Struct]) -> str:
    """Return the tag that names the type in the journal."""
    return str(event_type.__struct_config__.tag)


def golden(event: msgspec.Struct) -> str:
    """Return what the file of this event must hold."""
    fields = {"tag": tag_of(type(event)), "hex": msgspec.msgpack.encode(event).hex(), "fields": _readable(event)}
    return json.dumps(fields, ensure_ascii=False, indent=2) + "\n"


def _readable(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return {name: _readable(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_readable(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _readable(part) for name, part in value.items()}
    return value


def main() -> int:
    """Write the missing files; return 1 if one that exists does not hold its sample any more."""
    changed = 0
    for event in SAMPLES:
        file = FOLDER / f"{tag_of(type(event))}.json"
        if not file.exists():
            file.write_text(golden(event), encoding="utf-8")
            print(f"wrote {file}")
        elif file.read_text(encoding="utf-8") != golden(event):
            print(f"{file} holds other bytes than its sample and was left as it is")
            changed = 1
    return changed


if __name__ == "__main__":
    sys.exit(main())
