"""Golden scenarios: what the platform answers, in words that somebody who sells it can read.

A file of tests/golden/scenarios holds lines `> who does what`, each followed by what came of it. After a wanted change,
`python -m tests.simulation.test_golden` writes the outcomes anew: read the difference before committing it.
"""

import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.ids import User
from actors.money import yuan
from actors.wallet.messages import CreditSandbox, Send
from tests.simulation.http import Http
from tests.simulation.loop import run
from tests.simulation.system import TENANT, System
from tests.unit.test_http import recomputed

FOLDER = Path(__file__).resolve().parent.parent / "golden" / "scenarios"
UNIT_MS = {"minute": 60_000, "hour": 3_600_000}


class Stage:
    """One scenario being played."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._packet_id = ""
        self._start_ms = http.system.clock.ms

    @classmethod
    async def set(cls) -> "Stage":
        """Set up an empty platform."""
        system = await System.start()
        await system.tick()
        return cls(Http(system))

    async def play(self, line: str) -> list[str]:
        """Do what a line says and tell what came of it."""
        for pattern, act in ACTS:
            found = re.fullmatch(pattern, line)
            if found:
                return await act(self, *found.groups())
        raise AssertionError(f"nobody knows how to play: {line}")

    async def given(self, who: str, amount: str) -> list[str]:
        await self._http.system.service.wallet(CreditSandbox(TENANT, who.lower(), fen(amount)))
        return [await self._wallet(who)]

    async def sends(self, who: str, amount: str, count: str, kind: str, greeting: str) -> list[str]:
        body = {"kind": kind, "total_fen": fen(amount), "count": int(count), "greeting": greeting.strip()}
        response = await self._http.ask("POST", "/v1/packets", user=who.lower(), key=f"{amount} {count}", json=body)
        if response.status_code != 201:
            return [self._problem(response)]
        packet = response.json()
        self._packet_id = packet["packet_id"]
        again = ", the same answer again" if "idempotent-replayed" in response.headers else ""
        hours = (packet["expires_at_ms"] - packet["created_at_ms"]) / 3_600_000
        return [
            f"201 packet {packet['packet_id']} is {packet['state']} for {hours:.0f} hours{again}",
            f"    committed to {packet['commitment'][:16]}…, {await self._wallet(who)}",
        ]

    async def pays(self, who: str, amount: str, count: str, kind: str) -> list[str]:
        send = Send(TENANT, who.lower(), f"{amount} {count}", kind, fen(amount), int(count), "")  # type: ignore[arg-type]
        stream = self._http.system.service.wallet_stream_of(_user(who))
        [[funded]] = await self._http.system.directory.ask([(stream, [send])])
        self._packet_id = funded.funding.packet_id
        return ["nobody is told anything"]

    async def grabs(self, who: str) -> list[str]:
        response = await self._http.grab(self._packet_id, who.lower())
        if response.status_code != 200:
            return [self._problem(response)]
        share = response.json()
        again = f", the same answer again, from {self._time(share['at_ms'])}" if share["replayed"] else ""
        return [f"200 share {share['rank']}: {yuan(share['amount_fen'])} yuan{again}"]

    async def looks(self, who: str) -> list[str]:
        user = "stranger" if who == "a stranger" else who.lower()
        packet = (await self._http.ask("GET", f"/v1/packets/{self._packet_id}", user=user)).json()
        told = [
            f"200 {packet['state']}: {packet['grabbed_count']} of {packet['count']} shares taken, "
            f"{yuan(packet['grabbed_fen'])} of {yuan(packet['total_fen'])} yuan, "
            f"{yuan(packet['refunded_fen'])} went back"
        ]
        for line in packet.get("grabs", ["the list is for its sender and its takers"]):
            told.append(f"    {line}" if isinstance(line, str) else f"    {self._share(line)}")
        if "luckiest" in packet:
            told.append(f"    the luckiest is {packet['luckiest']['user'].title()}")
        return told

    async def wallet(self, who: str) -> list[str]:
        return [await self._wallet(who)]

    async def settles(self) -> list[str]:
        self._http.system.clock.ms += self._http.system.settings.timing.relay_after_ms
        await self._http.system.settle()
        report = await self._http.system.audit()
        return [f"{yuan(report.in_flight_fen)} yuan are still under way"]

    async def passes(self, number: str, unit: str) -> list[str]:
        self._http.system.clock.ms += int(number) * UNIT_MS[unit]
        return [f"it is {self._time(self._http.system.clock.ms)} after the beginning"]

    async def proves(self) -> list[str]:
        proof = (await self._http.ask("GET", f"/v1/packets/{self._packet_id}/proof", user="stranger")).json()
        if "seed" not in proof:
            return [f"200 {proof['state']}: committed to {proof['commitment'][:16]}…, no seed before the end"]
        shares = (
            recomputed(proof)
            if proof["algorithm"] == "even/1"
            else [proof["total_fen"] // proof["count"]] * proof["count"]
        )
        assert shares == proof["shares_fen"], "anybody can recompute the shares"
        assert [line["amount_fen"] for line in proof["grabs"]] == shares[: len(proof["grabs"])]
        written = ", ".join(map(yuan, shares))
        return [f"200 {proof['state']}: seed {proof['seed'][:16]}… gives {written}, as committed"]

    async def reads_statement(self, who: str) -> list[str]:
        page = (await self._http.ask("GET", "/v1/wallet/statement", user=who.lower())).json()
        return [
            f"{self._time(entry['at_ms'])} {entry['kind']}: {yuan(entry['amount_fen'])} yuan, "
            f"then {yuan(entry['balance_fen'])}"
            for entry in page["entries"]
        ]

    async def audits(self) -> list[str]:
        report = await self._http.system.audit()
        return [
            f"funded {yuan(report.funded_fen)} = paid {yuan(report.paid_fen)} + refunded {yuan(report.refunded_fen)} "
            f"+ remaining {yuan(report.remaining_fen)}",
            f"under way {yuan(report.in_flight_fen)}, difference {yuan(report.difference_fen)} yuan",
        ]

    async def _wallet(self, who: str) -> str:
        body = (await self._http.ask("GET", "/v1/wallet", user=who.lower())).json()
        return f"{who} has {yuan(body['available_fen'])} yuan"

    def _share(self, line: dict[str, Any]) -> str:
        return f"{line['rank']}. {line['user'].title()} {yuan(line['amount_fen'])} yuan"

    def _time(self, at_ms: int) -> str:
        minutes, seconds = divmod((at_ms - self._start_ms) // 1_000, 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"

    def _problem(self, response: httpx.Response) -> str:
        body = response.json()
        fields = "".join(f"; {name}: {why}" for name, why in body.get("fields", {}).items())
        return f"{response.status_code} {body['code']}{fields}"


def fen(amount: str) -> int:
    """Read yuan, e.g. "10.00", as fen."""
    whole, _, cents = amount.partition(".")
    return int(whole) * 100 + int(cents)


def _user(who: str) -> User:
    return User(TENANT, who.lower())


NAME, YUAN = r"([A-Z][a-z]+)", r"(\d+\.\d\d) yuan"
ACTS: list[tuple[str, Callable[..., Coroutine[Any, Any, list[str]]]]] = [
    (rf"{NAME} is given {YUAN}", Stage.given),
    (rf"{NAME} sends {YUAN} in (\d+) (lucky|equal) shares, greeting:(.*)", Stage.sends),
    (rf"{NAME} pays {YUAN} for (\d+) (lucky|equal) shares, and the gateway dies", Stage.pays),
    (rf"{NAME} grabs", Stage.grabs),
    (rf"(a stranger|{NAME[1:-1]}) looks at the packet", Stage.looks),
    (rf"{NAME} looks at (?:his|her) wallet", Stage.wallet),
    (r"the money settles", Stage.settles),
    (r"(\d+) (minute|hour)s? pass(?:es)?", Stage.passes),
    (r"a stranger checks the proof", Stage.proves),
    (rf"{NAME} reads (?:his|her) statement", Stage.reads_statement),
    (r"the auditor looks", Stage.audits),
]


def played(scenario: str) -> str:
    """Play a scenario's lines; return them with what came of each."""

    async def play() -> list[str]:
        stage = await Stage.set()
        told = []
        for line in scenario.splitlines():
            if line.startswith(("#", ">")):
                told.append(line)
            if line.startswith("> "):
                told += [f"    {outcome}" for outcome in await stage.play(line[2:])]
        return told

    return "\n".join(run(play())) + "\n"


SCENARIOS = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_the_platform_answers_as_it_is_written(file: Path) -> None:
    written = file.read_text(encoding="utf-8")
    assert played(written) == written


def test_there_are_scenarios() -> None:
    assert {"drained", "expired", "gateway_dies"} <= {file.stem for file in SCENARIOS}


if __name__ == "__main__":
    for file in SCENARIOS:
        file.write_text(played(file.read_text(encoding="utf-8")), encoding="utf-8")
        print(file)
