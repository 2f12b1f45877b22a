"""Million rows: one packet with a million shares, drained in batches over HTTP, exact to the fen."""

import itertools
import time

import msgspec

from loadtest.bench.bed import Wins
from loadtest.bench.ground import Ground
from loadtest.bench.result import Row, stated
from loadtest.bench.wire import http_request

SHARES = 1_000_000
SHARE_FEN = 100
SIZE = 1_000
CONNECTIONS = 8


async def rows(ground: Ground) -> list[Row]:
    """Drain it, then add everything up."""
    bed = ground.bed
    ground.say(f"one packet with {SHARES:,} shares")
    [packet_id] = await bed.open(bed.sends(1, SHARES))
    users = (f"crowd-{number}" for number in range(SHARES))
    requests = []
    while chunk := list(itertools.islice(users, SIZE)):
        body = msgspec.json.encode({"grabs": [{"packet_id": packet_id, "user": user} for user in chunk]})
        requests.append(http_request("POST", "/v1/grabs/batch", bed.gateway_token, body))
    # The first grab makes the split of the whole packet: it goes alone, and its time is part of the rate.
    began_s = time.perf_counter()
    bodies = await bed.carry(requests[:1], 200, 1)
    split_s = time.perf_counter() - began_s
    bodies += await bed.carry(requests[1:], 200, CONNECTIONS)
    seconds = time.perf_counter() - began_s
    decoder = msgspec.json.Decoder(Wins)
    wins = [win for body in bodies for win in decoder.decode(body).results]
    assert len(wins) == SHARES, "everybody is answered"
    assert all(win.rank and not win.replayed for win in wins), "everybody takes a fresh share"
    assert len({win.rank for win in wins}) == SHARES, "a million distinct winners, each with a rank of his own"
    paid_fen = sum(win.amount_fen for win in wins)
    assert paid_fen == SHARES * SHARE_FEN, f"a packet pays exactly its total, not {paid_fen}"
    await bed.check()
    note = f"exact: {paid_fen:,} fen to {SHARES:,} users in {seconds:.1f} s, the split {split_s:.1f} s of it"
    return [stated("one packet with 1 M shares, drained by batch over HTTP", SHARES / seconds, "grabs/s", note)]
