"""Sight on the real system: whatever dashboard, alerts, `top` and logs speak of is there, and is true."""

import asyncio
import json
import os
import subprocess
import sys
import time
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.platform import Platform, kill, until
from tests.queries import expressions, used

RAY_LABELS = {"WorkerId", "NodeAddress"}


STREAMS = {"packet-shard-0": 8, "packet-shard-1": 2, "packet-shard-2": 2, "wallet-shard-0": 8}


def streams_of(seen: Any) -> dict[str, int]:
    """Return how many streams each shard is seen with."""
    return {shard["host"]: shard["streams"] for shard in seen["shards"]}


async def traffic(platform: Platform, grabs: int = 3) -> None:
    """Send a packet of one share less than there are grabs, and have them made one by one and in a batch."""
    name = f"sight-{time.time_ns()}"
    packet = await platform.send(await platform.user(name, 10_000), name, 100, grabs - 1)
    items = [{"packet_id": packet["packet_id"], "user": f"{name}-{i}"} for i in range(grabs)]
    await platform.insist("POST", "/v1/grabs/batch", platform.gateway, {"grabs": items[:-1]})
    path = f"/v1/packets/{packet['packet_id']}/grabs"
    await platform.insist("POST", path, platform.token(items[-1]["user"]), {})


async def figures(platform: Platform) -> dict[str, Any]:
    """Read the figures."""
    return dict((await platform.insist("GET", "/v1/figures", platform.operator))[1])


async def scrape(platform: Platform) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Read Ray's metrics page as Prometheus does: name -> labels -> value."""
    url = f"http://127.0.0.1:{platform.record.ports['metrics']}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        text = await response.text()
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("ray_hongbao_"):
                found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def total(series: dict[frozenset[tuple[str, str]], float], **labels: str) -> float:
    """Add up the series that have these labels."""
    return sum(value for tags, value in series.items() if labels.items() <= dict(tags).items())


async def test_every_query_of_dashboard_and_alerts_finds_its_metrics_and_labels_on_the_running_system(
    platform: Platform,
) -> None:
    await traffic(platform)
    wanted = {where: used(expression) for where, expression in expressions().items()}

    async def missing() -> list[str]:
        found = await scrape(platform)
        labels = {name: {label for tags in series for label, _ in tags} for name, series in found.items()}
        return [
            f"{where}: {one.metric} {sorted(one.labels - labels.get(one.metric, set()))}"
            for where, selectors in wanted.items()
            for one in selectors
            if one.metric not in labels or not one.labels <= labels[one.metric]
        ]

    assert await until(missing, lambda left: not left) == []
    found = await scrape(platform)
    assert set(found["ray_hongbao_conservation_difference_fen"].values()) == {0}
    assert set(found["ray_hongbao_store_ready"].values()) == {1}
    assert {label for tags in found["ray_hongbao_streams"] for label, _ in tags} >= RAY_LABELS


async def test_what_is_scraped_is_what_was_answered_also_when_supervisor_and_shard_have_died(
    platform: Platform,
) -> None:
    async def exported() -> dict[str, float]:
        grabs = (await scrape(platform)).get("ray_hongbao_grabs_total", {})
        return {outcome: total(grabs, outcome=outcome) for outcome in ("accepted", "drained")}

    async def quiet() -> dict[str, float]:
        """Wait until what is exported is all that was counted."""
        counted = (await until(lambda: figures(platform), lambda seen: seen["gateways"] > 0))["counts"]["grabs"]
        return dict(await until(exported, lambda seen: seen["accepted"] >= counted.get("accepted", 0)))

    await traffic(platform)
    before = await quiet()
    [supervisor] = platform.pids("ray::Supervisor")
    kill(supervisor)
    await platform.insist("GET", "/readyz", platform.operator)
    await until(lambda: figures(platform), lambda seen: len(seen["shards"]) == 4 and seen["audit"] is not None)
    await traffic(platform, grabs=5)
    after = await until(exported, lambda seen: seen["accepted"] >= before["accepted"] + 4)
    assert after["accepted"] == before["accepted"] + 4, "nothing is counted twice"
    assert after["drained"] == before["drained"] + 1


async def test_top_prints_one_glance_for_people_and_for_programs(platform: Platform) -> None:
    await traffic(platform)
    command = [sys.executable, "-m", "cluster.cli", "top", "--once", "--data", str(platform.record.data)]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)

    people, programs = await asyncio.gather(asyncio.to_thread(run), asyncio.to_thread(run, "--json"))
    assert "THE SHARDS" in people.stdout, people.stderr
    glance = json.loads(programs.stdout.splitlines()[-1])
    assert streams_of(glance) == STREAMS
    assert glance["store"]["ready"]
    assert glance["fsync_share"] is not None, "the embedded store says what its log costs"


async def test_a_shard_that_died_leaves_a_line_of_json_that_names_it(platform: Platform) -> None:
    log_folder = platform.record.run_folder / "r" / "session_latest" / "logs"

    async def lines() -> list[dict[str, Any]]:
        files = await asyncio.to_thread(lambda: [path.read_text() for path in log_folder.glob("worker-*.err")])
        return [json.loads(line) for text in files for line in text.splitlines() if line.startswith("{")]

    victim = platform.pids("ray::ShardActor")[0]
    os.kill(victim, 0)
    kill(victim)
    said = await until(lines, lambda found: any("does not report" in line["event"] for line in found))
    [told, *_] = [line for line in said if "does not report" in line["event"]]
    assert (told["component"], told["level"], told["logger"]) == ("supervisor", "warning", "cluster.runtime.supervisor")
    await platform.insist("GET", "/readyz", platform.operator)
    await until(lambda: figures(platform), lambda found: sum(found["counts"].get("restarts", {}).values()) > 0)
    await until(lambda: figures(platform), lambda found: streams_of(found) == STREAMS)
    secrets = json.loads((platform.record.data / "keys.json").read_text())
    text = json.dumps(said)
    assert secrets["platform"]["k1"] not in text
    assert platform.operator not in text
