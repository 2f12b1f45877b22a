"""Star rows: a star's packet in 1, 2 and 4 lanes, with a fifth more users than shares, by batch over HTTP, exact.

The packet of a million shares has four lanes; those of fewer lanes have as many shares a lane.
"""

import itertools
import time

import msgspec

from loadtest.bench.bed import Wins
from loadtest.bench.ground import Ground
from loadtest.bench.result import Row, stated
from loadtest.bench.wire import http_request

LANES = (1, 2, 4)
SHARE_FEN = 100
SIZE = 1_000
CONNECTIONS = 8


class _Sent(msgspec.Struct):
    packet_id: str
    lanes: int = 1


async def rows(ground: Ground) -> list[Row]:
    """Drain a packet of each number of lanes, round after round, and add everything up every time."""
    rates: dict[int, list[float]] = {lanes: [] for lanes in LANES}
    for turn in range(ground.rounds):
        for lanes in LANES[:: -1 if turn % 2 else 1]:
            rates[lanes].append(await drained(ground, lanes, turn))
    medians = {lanes: sorted(found)[len(found) // 2] for lanes, found in rates.items()}
    per_lane = ground.settings.bounds.lane_count_max
    note = "exact: every rank once, nobody twice, the total to the fen; this machine's cores are shared by all"
    return [
        stated(f"star packet in {lanes} lanes: {lanes * per_lane:,} shares, a fifth more users", rate, "grabs/s", note)
        for lanes, rate in medians.items()
    ]


async def drained(ground: Ground, lanes: int, turn: int) -> float:
    """Send one packet and let everybody grab; return grabs a second, those told `drained` among them."""
    bed = ground.bed
    shares = lanes * ground.settings.bounds.lane_count_max
    body = msgspec.json.encode({"kind": "star", "total_fen": shares * SHARE_FEN, "count": shares})
    key = f"{ground.run}-star-{lanes}-{turn}"
    sender = {"X_Acting_User": f"sender-{ground.run}-{turn}", "Idempotency_Key": key}
    [answer] = await bed.carry([http_request("POST", "/v1/packets", bed.gateway_token, body, **sender)], 201)
    packet = msgspec.json.decode(answer, type=_Sent)
    assert packet.lanes == lanes, f"{shares} shares are {lanes} lanes, not {packet.lanes}"
    names = [f"fan-{number}" for number in range(shares + shares // 5)]
    requests = []
    users = iter(names)
    while chunk := list(itertools.islice(users, SIZE)):
        grabs = msgspec.json.encode({"grabs": [{"packet_id": packet.packet_id, "user": user} for user in chunk]})
        requests.append(http_request("POST", "/v1/grabs/batch", bed.gateway_token, grabs))
    began_s = time.perf_counter()
    bodies = await bed.carry(requests, 200, CONNECTIONS)
    seconds = time.perf_counter() - began_s
    decoder = msgspec.json.Decoder(Wins)
    results = [result for told in bodies for result in decoder.decode(told).results]
    assert len(results) == len(names), "everybody is answered"
    wins = [result for result in results if result.rank]
    assert len(wins) == shares, f"{len(wins)} users have won {shares} shares"
    assert len({win.rank for win in wins}) == shares, "every rank is taken once"
    assert {result.code for result in results if not result.rank} == {"drained"}, "nobody else is told anything else"
    paid_fen = sum(win.amount_fen for win in wins)
    assert paid_fen == shares * SHARE_FEN, f"a packet pays exactly its total, not {paid_fen}"
    await bed.check()
    ground.say(f"  {lanes} lanes: {len(names):,} users in {seconds:.1f} s, {shares:,} winners, {paid_fen:,} fen")
    return len(names) / seconds
