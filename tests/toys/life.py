"""Life: what a copy of the tree with the toys in it must show. Run there: `python -m tests.toys.life`.

Prints one line for each promise that was kept; the first that is not ends it.
"""

import asyncio
from typing import Any

from actors.allowance.kind import DAY_MS, OpenPot, PotTold  # type: ignore[import-not-found]
from actors.counter.kind import COUNTS as COUNTING  # type: ignore[import-not-found]
from actors.counter.kind import Count, CountTold

from actors.kernel.messages import Done
from actors.kernel.switches import ReadSwitches, SetSwitch
from actors.wallet.commands import ReadWallet
from cluster.commands.top import view
from cluster.config import keys_in
from cluster.journal.archive import Archive
from cluster.journal.codec import platform_codec
from cluster.journal.sealing import PartBounds
from cluster.observability.metrics_snapshot import Gatherer
from cluster.observability.prometheus import samples
from cluster.observability.summary import summarize
from cluster.offline import backup
from cluster.offline.audit import OfflineAudit, audit_of, sum_stream
from cluster.offline.backup import Places
from cluster.offline.stream_reader import Sources
from cluster.runtime.maintenance import maintain
from tests.simulation.http import Http
from tests.simulation.memory_journal import Fault, MemoryJournals
from tests.simulation.system import KEYS, TENANT, System

POTS, COUNTS = "allowance-000", "counter-000"
USERS = ["u1", "u2", "u3"]


async def offline(system: System, archive: Archive) -> OfflineAudit:
    """Add up every line of the journals and the archive."""
    sources = Sources(system.journals, system.journals.codec, archive)
    cut = await system.journals.cut(0)
    return audit_of([await sum_stream(sources, stream, stood) for stream, stood in sorted(cut.streams.items())])[0]


async def ask(system: System, stream: str, command: Any) -> Any:
    """Ask one stream."""
    [[reply]] = await system.directory.ask([(stream, [command])])
    return reply


async def balance(system: System, user: str) -> int:
    """Return what a user has in their wallet."""
    return int((await system.service.wallets.ask(ReadWallet(TENANT, user))).available_fen)


async def audited(system: System, archive: Archive, pots_fen: int) -> None:
    """Audit live and offline."""
    live, told = await system.audit(), await offline(system, archive)
    assert live.clean, live
    assert live.fen("pot_fen") == pots_fen, live
    assert told.difference_fen == 0, told


async def live(folder: str) -> None:
    """Show everything."""
    calm = {"queueing_ms_target": 1_000_000}  # one process is also its own client, so its loop is late without any load
    system, archive = await System.start(overload=calm), Archive(f"{folder}/archive")
    await system.tick()
    told = [await ask(system, POTS, OpenPot(TENANT, user, 30)) for user in USERS]
    assert told == [PotTold(30)] * 3
    assert await ask(system, COUNTS, Count(TENANT, "u1")) == CountTold(1)
    print("asked")
    for day in range(1, 5):
        system.clock.ms += DAY_MS
        system.journals.fail("append", Fault.LOST_AFTER) if day == 2 else None
        for _ in range(3):  # the answer waits for what the clock brought about
            await system.tick()
            await ask(system, POTS, OpenPot(TENANT, "u1", 30))
        assert await ask(system, POTS, OpenPot(TENANT, "u1", 30)) == PotTold(30 - day)
        await system.replace("allowance-shard-0").stop()
        await system.tick()
        await system.settle()
        for stream in (POTS, COUNTS):
            await maintain(system.journals, system.directory, system.settings, KEYS, stream, archive)
    assert [await balance(system, user) for user in USERS] == [4, 4, 4]
    assert len(await system.journals.sealed_parts(POTS)) > 0
    print("paid a fen a day over restarts and faults, snapshotted, sealed")
    await audited(system, archive, 3 * 26)
    print("audited live and offline")
    system = await restored(system, folder, archive)
    await system.tick()
    await audited(system, Archive(f"{folder}/new"), 3 * 26)
    print("backed up and restored")
    gathered = Gatherer(0, 1)
    for host, member in system.members.items():
        gathered.take_streams(host, await member.report(audit=False), 1_000)
        gathered.take_shard(host, member.tally.figures())
    figures = gathered.figures(1_000)
    shards = {dict(sample.labels).get("shard") for sample in samples(figures)}
    assert {"allowance-shard-0", "counter-shard-0"} <= shards
    assert view(summarize(figures, figures), "http://here", 120, 50)
    print("shown in top and metrics")
    system.clock.ms += 60 * DAY_MS
    await system.tick()
    assert await ask(system, POTS, OpenPot(TENANT, "u4", 1)) == PotTold(1)
    await system.settle()
    assert [await balance(system, user) for user in USERS] == [30, 30, 30]
    await audited(system, Archive(f"{folder}/new"), 1)
    print("ended, and gave the rest back")
    await asked_over_http(system)
    await audited(system, Archive(f"{folder}/new"), 1 + 7)
    print("asked over HTTP")


async def asked_over_http(system: System) -> None:
    """Ask through the gateway's routes; `Http` judges every answer by the OpenAPI document."""
    http, pots, counts = Http(system), "/v1/pots", "/v1/counts"
    document = (await http.client.get("/openapi.json")).json()
    assert {"post"} == set(document["paths"][pots]) == set(document["paths"][counts])
    for amount_fen in (7, 9):
        assert (await http.ask("POST", pots, user="u5", json={"amount_fen": amount_fen})).json() == {"left_fen": 7}
    counted = await http.ask("POST", counts)
    assert counted.json() == {"count": 2}, counted.text
    switches = await ask(system, COUNTS, ReadSwitches())
    assert await ask(system, COUNTS, SetSwitch(COUNTING, True, "chen", switches.epoch, switches.asked)) == Done()
    refused = {
        (401, "unauthenticated"): await http.ask("POST", pots, headers={"authorization": ""}, json={"amount_fen": 7}),
        (403, "forbidden"): await http.ask("POST", pots, scope="operator", json={"amount_fen": 7}),
        (405, "method_not_allowed"): await http.ask("DELETE", pots),
        (422, "invalid"): await http.ask("POST", pots, json={"amount_fen": system.settings.limits.total_fen_max + 1}),
        (503, "paused"): await http.ask("POST", counts),
    }
    for problem, response in refused.items():
        assert (response.status_code, response.json()["code"]) == problem, response.text


async def restored(system: System, folder: str, archive: Archive) -> System:
    """Back the system up, and make it again in another store."""
    journals, kept = MemoryJournals(platform_codec()), Archive(f"{folder}/backup")
    keys = KEYS.model_dump_json().encode()
    assert keys_in(keys, "keys") == KEYS
    places = Places(system.journals, system.journals.codec, archive, kept)
    await backup.make(places, keys, PartBounds(50, 1_000_000), 60_000, lambda _: None)
    places = Places(journals, journals.codec, Archive(f"{folder}/new"), kept)
    await backup.restore(places, backup.read_index(kept), keys, lambda _: None)
    again = System(system.settings, journals)
    again.clock.ms = system.clock.ms
    for host in system.members:
        again.replace(host)
    return again


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        asyncio.run(live(made))
