"""HTTP rows: grabs one a request, in batches, refused, and sends, beside peers and no-ops under the same client.

One round asks every system once, in turn; every other round goes backwards. Before and after each of ours everything is
settled, so that no round pays for the one before it, and each packet's payout is checked to the fen.
"""

from loadtest.bench.ground import BATCH_SIZE, CONNECTIONS, SHARES, WINDOW_S, Ground
from loadtest.bench.load import Load
from loadtest.bench.peers.no_op import ROUTE
from loadtest.bench.result import BenchRow, compare

LOSERS_A_PACKET = 50
LOSER_PACKETS = 200


class Doors:
    """One run of each system; `figures` collects items a second by system."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._drained: list[str] = []
        self.figures: dict[str, list[float]] = {}
        self.p50_ms: dict[str, list[float]] = {}

    async def round(self, turn: int) -> None:
        """Ask every system once."""
        order = [self.single, self.lua, self.no_op, self.uvicorn, self.postgres, self.batch, self.send]
        for ask in order[:: -1 if turn % 2 else 1]:
            await ask()
        await self.loser()
        await self._ground.bed.check()

    async def single(self) -> None:
        """Grab, one a request."""
        ground, bed = self._ground, self._ground.bed
        packets = await bed.open(bed.sends(ground.packets_for("single"), SHARES))
        requests = bed.single_grabs(packets, SHARES)
        seen = await ground.costed("single", 1, ground.drive("single", requests))
        self._note("single", seen)
        before = await bed.drain_rest(packets, SHARES)
        assert seen.answers <= before <= seen.answers + CONNECTIONS, f"{before} shares gone for {seen.answers} answers"
        self._drained = packets[:LOSER_PACKETS]

    async def loser(self) -> None:
        """Come too late for a drained packet, one a request."""
        ground, bed = self._ground, self._ground.bed
        late = [f"late-{number}" for number in range(LOSERS_A_PACKET)]
        requests = [bed.single_grab(packet_id, user) for user in late for packet_id in self._drained]
        # A first look at each packet is what its first loser pays; the peak is all after that one.
        await ground.drive("loser", requests, seconds=1.0, again=True, refused=True)
        seen = await ground.costed("loser", 1, ground.drive("loser", requests, again=True, refused=True))
        self._note("loser", seen)

    async def batch(self) -> None:
        """Grab, many a request."""
        ground, bed = self._ground, self._ground.bed
        packets = await bed.open(bed.sends(ground.packets_for("batch"), SHARES))
        requests = bed.batch_grabs(packets, SHARES, BATCH_SIZE)
        seen = await ground.costed("batch", BATCH_SIZE, ground.drive("batch", requests))
        self._note("batch", seen, BATCH_SIZE)
        await bed.drain_rest(packets, SHARES)

    async def send(self) -> None:
        """Send packets; then send each again, which must name one packet each."""
        ground, bed = self._ground, self._ground.bed
        requests = bed.sends(ground.count_for("send"), 1)
        seen = await ground.costed("send", 1, ground.drive("send", requests))
        self._note("send", seen)
        packets = await bed.open(requests[: seen.answers])
        assert len(set(packets)) == seen.answers, "every send is a packet of its own"

    async def lua(self) -> None:
        """Ask peer (a)."""
        await self._peer("lua", self._ground.lua())

    async def postgres(self) -> None:
        """Ask the peer with a row lock for each packet, if there is one."""
        peer = self._ground.postgres()
        if peer is not None:
            await self._peer("postgres", peer)

    async def _peer(self, name: str, peer: object) -> None:
        from loadtest.bench.peers.lua_http import LuaHttp
        from loadtest.bench.peers.postgres import Postgres

        assert isinstance(peer, LuaHttp | Postgres)
        ground = self._ground
        requests = await peer.fill(ground.packets_for("peer"), SHARES)
        seen = await ground.drive("peer", requests, url=peer.url)
        await peer.check(seen.answers, CONNECTIONS + 1)
        self._note(name, seen)

    async def no_op(self) -> None:
        """Ask Serve's no-op with the very requests of a single grab."""
        ground = self._ground
        requests = [ground.bed.single_grab("no-op", f"taker-{number}", ROUTE) for number in range(SHARES)]
        self._note("no-op", await ground.costed("no-op", 1, ground.drive("no-op", requests, again=True)))

    async def uvicorn(self) -> None:
        """Ask a plain uvicorn's no-op with the very requests of a single grab."""
        ground = self._ground
        requests = [ground.bed.single_grab("no-op", f"taker-{number}", ROUTE) for number in range(SHARES)]
        self._note("uvicorn", await ground.drive("uvicorn", requests, url=ground.uvicorn().url, again=True))

    def _note(self, name: str, seen: Load, each: int = 1) -> None:
        self.figures.setdefault(name, []).append(seen.per_second * each)
        self.p50_ms.setdefault(name, []).append(seen.p50_ms)
        self._ground.say(f"  {name} {seen.per_second * each:,.0f}/s, p50 {seen.p50_ms:.1f}, p99 {seen.p99_ms:.1f} ms")


async def rows(ground: Ground) -> list[BenchRow]:
    """Measure every door beside its peers."""
    doors = Doors(ground)
    for turn in range(ground.rounds):
        ground.say(f"http, round {turn + 1} of {ground.rounds}")
        await doors.round(turn)
    found = doors.figures
    single, lua, no_op = found["single"], found["lua"], found["no-op"]
    under_load = f"{CONNECTIONS} connections, {WINDOW_S:g} s each"
    made = [
        compare("HTTP batch of 200 / FastAPI + Redis Lua, single", found["batch"], lua, "grabs/s", at_least=25),
        compare("HTTP single / FastAPI + Redis Lua", single, lua, "grabs/s", at_least=1.2, note=under_load),
        compare("HTTP single / Serve raw ASGI no-op", single, no_op, "requests/s", at_least=0.75),
        compare("HTTP single / plain uvicorn no-op", single, found["uvicorn"], "requests/s"),
    ]
    if "postgres" in found:
        made.append(compare("HTTP single / FastAPI + PostgreSQL", single, found["postgres"], "grabs/s"))
    return [
        *made,
        compare("HTTP sends / single grabs", found["send"], single, "requests/s", at_least=0.6),
        compare("HTTP single, losers / Serve raw ASGI no-op", found["loser"], no_op, "requests/s", at_least=0.9),
    ]
