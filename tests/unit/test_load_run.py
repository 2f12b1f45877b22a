"""Load: real locust processes against a fake platform; an honest one is found clean, a lying one is not."""

import asyncio
import io
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from rich.console import Console

from cluster.commands.terminal import Failure
from loadtest.load import LoadOptions, Result, load
from loadtest.scenarios.load_profile import Bursts, Clients, Profile
from loadtest.scenarios.schedule import arrivals
from loadtest.scenarios.summary import as_json, show
from loadtest.target import Target
from tests.unit.fake_gateway import GATEWAY_TOKEN, OPERATOR_TOKEN, FakeGateway, serving

PROFILE = Profile(
    title="a little rain",
    users=60,
    connections=20,
    view_share=0.1,
    bursts=Bursts(
        first_s=0.6,
        every_s=0.6,
        times=2,
        packets=5,
        lead_s=0.5,
        shares=10,
        people=37,
        spread_s=0.6,
        batched_share=0.3,
        batch_size=5,
    ),
    clients=Clients(slow_share=0.15, slow_connections=10, slow_hold_s=0.4, attempts_max=10),
)

MAY_LOSE = ("", "requests without an answer or with 5xx: below 1 %")
"""What is found of a platform that loses answers and tells no lie."""


async def run_against(gateway: FakeGateway, profile: Profile, folder: Path, workers: int = 0) -> Result:
    """Load a fake platform. Whether this machine keeps the pace is no question here."""
    async with serving(gateway) as url:
        target = Target(url, OPERATOR_TOKEN, GATEWAY_TOKEN, fresh=True)
        options = LoadOptions("rain", workers, folder, allow_behind=True)
        return await load(target, profile, options, Console(file=io.StringIO()))


def broken(result: Result) -> str:
    return "; ".join(check.sentence for check in result.verdict.checks if not check.holds)


class Runs(NamedTuple):
    """Two runs beside each other: most of their time goes to starting and waiting."""

    honest: Result
    platform: FakeGateway
    folder: Path
    lying: Result


@pytest.fixture(scope="module")
async def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Load an honest platform that loses answers through streams, from two workers, and a lying one over HTTP."""
    clients = msgspec.structs.replace(PROFILE.clients, door="stream", streams=2, stream_inflight_max=20)
    streaming = msgspec.structs.replace(PROFILE, clients=clients)
    platform = FakeGateway("answer_lost", "overloaded", "stream_cut", "stream_drains")
    liar = FakeGateway("half_taken", "credit_lost", "books_differ")
    folders = [tmp_path_factory.mktemp(name) for name in ("honest", "lying")]
    honest, lying = await asyncio.gather(
        run_against(platform, streaming, folders[0], workers=2), run_against(liar, PROFILE, folders[1])
    )
    return Runs(honest, platform, folders[0], lying)


def test_an_honest_platform_is_found_clean_although_answers_are_lost_and_streams_cut(runs: Runs) -> None:
    tally = runs.honest.tally
    assert broken(runs.honest) in MAY_LOSE, runs.honest.verdict.violations
    assert len(runs.platform.packets) == len(tally.opened) == 10
    assert runs.honest.verdict.wins == sum(len(packet.grabs) for packet in runs.platform.packets.values()) == 100
    assert tally.shed > 0
    assert tally.repeats > 0


def test_two_workers_together_ask_everything_once(runs: Runs) -> None:
    pace = runs.honest.verdict.pace
    assert pace.never == pace.without_packet == 0
    assert pace.on_time + pace.late == pace.scheduled == len(list(arrivals(runs.honest.profile)))
    assert runs.platform.lines > 150


def test_a_run_leaves_reports_and_says_what_it_found(runs: Runs) -> None:
    profile, tally, verdict = runs.honest
    for name in ("report.html", "rain_stats.csv", "answers-0.ndjson", "answers-1.ndjson"):
        assert (runs.folder / name).stat().st_size > 0
    paper = io.StringIO()
    show("rain", profile, tally, verdict, runs.folder, Console(file=paper, width=120))
    assert "a share; then" in paper.getvalue()
    assert as_json("rain", profile, tally, verdict, runs.folder)["opened"] == 100


@pytest.mark.parametrize("words", ["every book", "wallets", "contract promises"])
def test_every_lie_of_a_platform_is_found_out(runs: Runs, words: str) -> None:
    assert words in broken(runs.lying)
    assert not runs.lying.verdict.clean


async def test_a_platform_without_the_fast_door_is_not_loaded_through_it(tmp_path: Path) -> None:
    async with serving(FakeGateway()) as url:
        target = Target(url, OPERATOR_TOKEN, "no gateway's", fresh=True)
        profile = msgspec.structs.replace(PROFILE, clients=Clients(door="stream"))
        with pytest.raises(Failure, match="grabs/stream"):
            await load(target, profile, LoadOptions("rain", folder=tmp_path), Console(file=io.StringIO()))
