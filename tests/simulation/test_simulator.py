"""Simulator: fixed seeds and a fresh one hold every promise, the same seed is the same run, every await is survived."""

import asyncio
import json
import os
import secrets
import subprocess
import sys

import pytest

from actors.wallet.commands import Send
from actors.wallet.rules import WalletRules
from tests.simulation.asking import Asking
from tests.simulation.campaign import main, shorten, story
from tests.simulation.clients import Clients
from tests.simulation.faults import GAP_S
from tests.simulation.finale import everything_ends_well
from tests.simulation.holders import Holders
from tests.simulation.run import quietly_end, simulate
from tests.simulation.world import TENANT, World

SEEDS = range(40)
"""Together they meet every kind of fault."""

SEND = Send(TENANT, "u0", "k", "lucky", 900, 3, "")


def check(seed: int) -> dict[str, int]:
    outcome = simulate(seed)
    if outcome.violation:
        pytest.fail(story(shorten(outcome)), pytrace=False)
    assert outcome.lives, "nothing was sent"
    return dict(outcome.faults)


def test_whatever_goes_wrong_every_answer_is_explained_and_everything_ends_well() -> None:
    met: set[str] = set()
    for seed in SEEDS:
        met |= check(seed).keys()
    assert met == set(GAP_S), "the fixed seeds meet every kind of fault"


def test_a_fresh_seed_holds_every_promise_too() -> None:
    check(secrets.randbits(40))


def test_the_same_seed_is_the_same_run() -> None:
    assert simulate(7).digest == simulate(7).digest != simulate(8).digest


def test_a_run_does_not_depend_on_hash_seeds_of_python() -> None:
    code = "from tests.simulation.run import simulate; print(simulate(11).digest)"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert digests == {simulate(11).digest + "\n"}


def test_a_longer_run_begins_as_the_shorter_one() -> None:
    short, long = simulate(3, 20), simulate(3, 40)
    calm = next(index for index, facts in enumerate(short.trace) if facts[1] == "calm")
    assert repr(short.trace[:calm]) == repr(long.trace[:calm])


async def small_life(world: World, clients: Clients, dying: str, step: int) -> bool:
    """Play a packet's whole life; one process dies at one of its callbacks. Tell whether it got so far."""
    await world.start()
    await clients.begin()
    [process] = [process for process in world.loop.processes if process.name == dying]
    process.dies_at = process.steps + step
    await clients.persist(lambda: clients.send_once(SEND))
    for user in ("u1", "u2"):
        for packet_id in list(world.auditor.fundings):
            await clients.grab(packet_id, user)
    await asyncio.sleep(1.0)  # settlement goes round
    await clients.move_clock(world.settings.rules(WalletRules).sends.packet_lifetime_ms)
    await asyncio.sleep(1.0)
    for packet_id, user in list(clients.told_shares):
        await clients.grab(packet_id, user)
    process.dies_at = 0
    died = not process.alive
    await everything_ends_well(world, clients, Asking(clients), Holders(clients))
    return died


def dies(dying: str, step: int) -> bool:
    """Play the small life; tell whether the process got as far as that step."""
    world = World(dying)
    clients = Clients(world)
    try:
        died = bool(world.loop.run_until_complete(small_life(world, clients, dying, step)))
    finally:
        quietly_end(world)
    if world.violations:
        raise AssertionError(f"{dying} dies at {step}: {world.violations[0]}") from world.violations[0]
    return died


@pytest.mark.parametrize("dying", ["wallet-shard-0", "packet-shard-0", "packet-shard-1", "gateway-0", "gateway-1"])
def test_a_process_may_die_at_any_await_of_a_packets_life(dying: str) -> None:
    step = 1
    while dies(dying, step):
        step += 1
    assert step > 5, "it was killed at each of its steps"


def test_the_command_replays_a_run_and_refuses_faults_that_there_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "7", "--steps", "20", "--without", "clock_jumps", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["seed"], told["steps"], told["without"], told["violation"]) == (7, 20, ["clock_jumps"], None)
    with pytest.raises(SystemExit):
        main(["--without", "nothing"])
    assert "is not a kind of fault" in capsys.readouterr().err
