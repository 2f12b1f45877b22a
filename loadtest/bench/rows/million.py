"""Million rows: one packet with a million shares, drained in batches over HTTP, exact to the fen."""

import itertools

import msgspec

from loadtest.bench.bed import Wins
from loadtest.bench.ground import Ground
from loadtest.bench.result import Row, stated
from loadtest.bench.wire import drive_http, http_request

SHARES = 1_000_000
SHARE_FEN = 100
SIZE = 1_000
CONNECTIONS = 8
SECONDS_MAX = 120.0


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
    first = await drive_http(bed.url, iter(requests[:1]), connections=1, seconds=SECONDS_MAX, keep=True)
    rest = await drive_http(bed.url, iter(requests[1:]), connections=CONNECTIONS, seconds=SECONDS_MAX, keep=True)
    assert {**first.statuses, **rest.statuses} == {200: rest.statuses[200]}, f"{first.statuses} {rest.statuses}"
    decoder = msgspec.json.Decoder(Wins)
    wins = [win for body in first.bodies + rest.bodies for win in decoder.decode(body).results]
    assert len(wins) == SHARES, "everybody is answered"
    assert all(win.rank and not win.replayed for win in wins), "everybody takes a fresh share"
    assert len({win.rank for win in wins}) == SHARES, "a million distinct winners, each with a rank of his own"
    paid_fen = sum(win.amount_fen for win in wins)
    assert paid_fen == SHARES * SHARE_FEN, f"a packet pays exactly its total, not {paid_fen}"
    await bed.check()
    seconds = first.seconds + rest.seconds
    note = f"exact: {paid_fen:,} fen to {SHARES:,} users in {seconds:.1f} s, the split {first.seconds:.1f} s of it"
    return [stated("one packet with 1 M shares, drained by batch over HTTP", SHARES / seconds, "grabs/s", note)]
