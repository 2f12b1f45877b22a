"""Golden scenarios: what the platform answers, in words that somebody who sells it can read.

A file of tests/golden/scenarios holds lines `> who does what`, each followed by what came of it. After a wanted change,
`python -m tests.simulation.test_golden` writes the outcomes anew: read the difference before committing it.
"""

import asyncio
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.kernel.names import User
from actors.ledger.money import yuan
from actors.wallet.commands import CreditSandbox, Send
from actors.wallet.rules import WalletRules
from tests.simulation.http import Http
from tests.simulation.loop import run
from tests.simulation.system import TENANT, System, ruled
from tests.unit.photo_site import UPLOAD
from tests.unit.test_http import recomputed

FOLDER = Path(__file__).resolve().parent.parent / "golden" / "scenarios"
CROWD = {"crowd_count_min": 20, "lane_count_max": 10}
"""A star's packet of twenty shares is in two lanes here."""
UNIT_MS = {"minute": 60_000, "hour": 3_600_000}


class Stage:
    """One scenario being played."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._packet_id = ""
        self._bursts: list[str] = []
        self._lishi_id = ""
        self._photo = ""
        self._start_ms = http.system.clock.ms

    @classmethod
    async def set(cls, photos: str = "") -> "Stage":
        """Set up an empty platform; `photos`: the folder where it keeps photos."""
        calm = {"queueing_ms_target": 1_000_000}
        system = await System.start(**ruled("wallet", sends=CROWD), overload=calm, photos_url=photos)
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
        await self._http.system.service.wallets.ask(CreditSandbox(TENANT, who.lower(), fen(amount)))
        return [await self._wallet(who)]

    async def sends(self, who: str, amount: str, count: str, kind: str, greeting: str) -> list[str]:
        body = {"kind": kind, "total_fen": fen(amount), "count": int(count), "greeting": greeting.strip()}
        return await self._send(who, f"{amount} {count}", body)

    async def sends_to(self, who: str, amount: str, whom: str) -> list[str]:
        body = {"kind": "direct", "total_fen": fen(amount), "count": 1, "addressee": whom.lower()}
        return await self._send(who, f"{amount} {whom}", body)

    async def sends_to_group(self, who: str, amount: str, count: str, group: str) -> list[str]:
        body = {"kind": "group", "total_fen": fen(amount), "count": int(count), "group": group}
        return await self._send(who, f"{amount} {group}", body)

    async def sends_for_phrase(self, who: str, amount: str, count: str, phrase: str) -> list[str]:
        body = {"kind": "password", "total_fen": fen(amount), "count": int(count), "passphrase": phrase}
        return await self._send(who, f"{amount} for a phrase", body)

    async def sends_to_public(
        self, who: str, amount: str, count: str, sponsor: str, hours: str, day_count: str
    ) -> list[str]:
        body = {
            "kind": "star",
            "total_fen": fen(amount),
            "count": int(count),
            "sponsor": sponsor,
            "opens_at_ms": self._http.system.clock.ms + int(hours) * UNIT_MS["hour"],
            "day_count_max": int(day_count),
        }
        return await self._send(who, f"{amount} {sponsor}", body)

    async def _send(self, who: str, key: str, body: dict[str, Any]) -> list[str]:
        response = await self._http.ask("POST", "/v1/packets", user=who.lower(), key=key, json=body)
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
        stream = self._http.system.service.wallets.stream_of(_user(who))
        [[funded]] = await self._http.system.directory.ask([(stream, [send])])
        self._packet_id = funded.funding.packet_id
        return ["nobody is told anything"]

    async def grabs(self, who: str) -> list[str]:
        return self._told(await self._http.grab(self._packet_id, who.lower()))

    async def grabs_in_group(self, who: str, group: str) -> list[str]:
        acting = {"scope": "gateway", "headers": {"x-acting-user": who.lower()}}
        return self._told(await self._http.grab(self._packet_id, "gate", json={"group": group}, **acting))

    async def says(self, who: str, phrase: str) -> list[str]:
        return self._told(await self._http.grab(self._packet_id, who.lower(), json={"passphrase": phrase}))

    async def fans_grab(self, number: str, first: str) -> list[str]:
        wanted = [{"packet_id": self._packet_id, "user": f"fan{int(first) + at}"} for at in range(int(number))]
        response = await self._http.ask("POST", "/v1/grabs/batch", scope="gateway", json={"grabs": wanted})
        results = response.json()["results"]
        shares = [result["amount_fen"] for result in results if "amount_fen" in result]
        codes = Counter(result["code"] for result in results if "code" in result)
        told = [f"{len(shares)} got {yuan(sum(shares))} yuan together"] if shares else []
        return told + [f"{count} heard {code}" for code, count in sorted(codes.items())]

    async def rains(self, who: str, bursts: str, amount: str, count: str, minutes: str) -> list[str]:
        begin_ms = self._http.system.clock.ms + int(minutes) * UNIT_MS["minute"]
        times = [begin_ms + burst * UNIT_MS["minute"] for burst in range(int(bursts))]
        wanted = [
            {"opens_at_ms": at, "ends_at_ms": at + UNIT_MS["minute"], "total_fen": fen(amount), "count": int(count)}
            for at in times
        ]
        response = await self._http.ask("POST", "/v1/rains", user=who.lower(), key="rain", json={"bursts": wanted})
        if response.status_code != 201:
            return [self._problem(response)]
        rain = response.json()
        self._bursts = [burst["packet_id"] for burst in rain["bursts"]]
        return [f"201 a rain of {yuan(rain['total_fen'])} yuan, {await self._wallet(who)}"]

    async def catches(self, who: str, burst: str) -> list[str]:
        self._packet_id = self._bursts[int(burst) - 1]
        return await self.grabs(who)

    async def looks_at_rain(self, who: str) -> list[str]:
        rain = (await self._http.ask("GET", f"/v1/rains/{self._bursts[0]}", user=who.lower())).json()
        return [
            f"burst {number} {burst['state']}: {yuan(burst['grabbed_fen'])} of {yuan(burst['total_fen'])} yuan taken, "
            f"{yuan(burst['rolled_out_fen'])} rolled on, {yuan(burst['refunded_fen'])} went back"
            for number, burst in enumerate(rain["bursts"], 1)
        ]

    async def asks(self, who: str, whom: str, again: str) -> list[str]:
        wish = {"asked": whom.lower(), "greeting": "恭喜发财, 利是逗来"}
        response = await self._http.ask("POST", "/v1/lishi", user=who.lower(), key=f"{whom}{again}", json=wish)
        if response.status_code != 201:
            return [self._problem(response)]
        self._lishi_id = response.json()["lishi_id"]
        return [f"201 {response.json()['state']}"]

    async def sees_who_asks(self, who: str) -> list[str]:
        told = (await self._http.ask("GET", "/v1/lishi", user=who.lower())).json()["lishi"]
        return [f"{lishi['asker'].title()} asks: {lishi['greeting']}" for lishi in told] or ["nobody asks"]

    async def gives(self, who: str, amount: str) -> list[str]:
        path, wish = f"/v1/lishi/{self._lishi_id}/accept", {"amount_fen": fen(amount), "greeting": ""}
        response = await self._http.ask("POST", path, user=who.lower(), key=f"give {amount}", json=wish)
        if response.status_code != 201:
            return [self._problem(response)]
        self._packet_id = response.json()["packet_id"]
        return [f"201 a packet for {response.json()['addressee'].title()}, {await self._wallet(who)}"]

    async def declines(self, who: str) -> list[str]:
        response = await self._http.ask("POST", f"/v1/lishi/{self._lishi_id}/decline", user=who.lower())
        return [f"200 {response.json()['state']}" if response.status_code == 200 else self._problem(response)]

    async def makes_photo(self, who: str, least: str, most: str) -> list[str]:
        band = {"price_fen_min": fen(least), "price_fen_max": fen(most)}
        response = await self._http.ask(
            "POST",
            "/v1/photos",
            user=who.lower(),
            key="photo",
            params=band,
            content=UPLOAD,
            headers={"content-type": "image/png"},
        )
        if response.status_code != 201:
            return [self._problem(response)]
        self._photo = f"/v1/photos/{response.json()['photo_id']}"
        return [f"201 a photo for {least} to {most} yuan"]

    async def looks_at_photo(self, who: str) -> list[str]:
        photo = (await self._http.ask("GET", self._photo, user=who.lower())).json()
        blurred = await self._http.ask("GET", f"{self._photo}/blurred", user=who.lower())
        paid = ", which is paid" if photo["paid"] else ""
        return [f"200 a blurred picture ({blurred.status_code}); clear it costs {yuan(photo['price_fen'])} yuan{paid}"]

    async def opens_photo(self, who: str) -> list[str]:
        response = await self._http.ask("GET", f"{self._photo}/clear", user=who.lower())
        if response.status_code != 200:
            return [self._problem(response)]
        return [f"200 the clear picture, {response.headers['cache-control']}"]

    async def pays_photo(self, who: str) -> list[str]:
        price_fen = (await self._http.ask("GET", self._photo, user=who.lower())).json()["price_fen"]
        wish = {"price_fen": price_fen}
        response = await self._http.ask("POST", f"{self._photo}/payments", user=who.lower(), key="pay", json=wish)
        if response.status_code != 201:
            return [self._problem(response)]
        again = ", the same answer again" if "idempotent-replayed" in response.headers else ""
        return [f"201 {yuan(response.json()['price_fen'])} yuan are paid{again}, {await self._wallet(who)}"]

    async def thanks(self, who: str, text: str) -> list[str]:
        path = f"/v1/packets/{self._packet_id}/note"
        response = await self._http.ask("POST", path, user=who.lower(), json={"text": text})
        return [f"200 {response.json()['text']}" if response.status_code == 200 else self._problem(response)]

    def _told(self, response: httpx.Response) -> list[str]:
        if response.status_code != 200:
            return [self._problem(response)]
        share = response.json()
        again = f", the same answer again, from {self._time(share['at_ms'])}" if share["replayed"] else ""
        return [f"200 share {share['rank']}: {yuan(share['amount_fen'])} yuan{again}"]

    async def looks(self, who: str) -> list[str]:
        user = "stranger" if who == "a stranger" else who.lower()
        response = await self._http.ask("GET", f"/v1/packets/{self._packet_id}", user=user)
        if response.status_code != 200:
            return [self._problem(response)]
        packet = response.json()
        told = [
            f"200 {packet['state']}: {packet['grabbed_count']} of {packet['count']} shares taken, "
            f"{yuan(packet['grabbed_fen'])} of {yuan(packet['total_fen'])} yuan, "
            f"{yuan(packet['refunded_fen'])} went back"
        ]
        for line in packet.get("grabs", ["the list is for its sender and its takers"]):
            told.append(f"    {line}" if isinstance(line, str) else f"    {self._share(line)}")
        told += [f"    {note['user'].title()} writes: {note['text']}" for note in packet.get("notes", [])]
        if "luckiest" in packet:
            told.append(f"    the luckiest is {packet['luckiest']['user'].title()}")
        return told

    async def wallet(self, who: str) -> list[str]:
        return [await self._wallet(who)]

    async def settles(self) -> list[str]:
        self._http.system.clock.ms += self._http.system.settings.rules(WalletRules).relay_after_ms
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
            "funded {} = paid {} + refunded {} + remaining {}".format(
                *(yuan(report.fen(f"{name}_fen")) for name in ("funded", "paid", "refunded", "remaining"))
            ),
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
    (rf"{NAME} sends {YUAN} to {NAME}", Stage.sends_to),
    (rf"{NAME} sends {YUAN} in (\d+) shares to the group (\w+)", Stage.sends_to_group),
    (rf"{NAME} sends {YUAN} in (\d+) shares to whoever says: (.*)", Stage.sends_for_phrase),
    (
        rf"{NAME} sends {YUAN} in (\d+) shares to everybody, with (\w+), in (\d+) hours, (\d+) a day",
        Stage.sends_to_public,
    ),
    (rf"{NAME} lets it rain (\d+) times {YUAN} in (\d+) shares, a minute each, in (\d+) minutes", Stage.rains),
    (rf"{NAME} grabs", Stage.grabs),
    (rf"{NAME} of the group (\w+) grabs", Stage.grabs_in_group),
    (rf"{NAME} says: (.*)", Stage.says),
    (r"(\d+) fans grab, from number (\d+) on", Stage.fans_grab),
    (rf"{NAME} grabs from burst (\d)", Stage.catches),
    (rf"{NAME} looks at the rain", Stage.looks_at_rain),
    (rf"{NAME} asks {NAME} for lishi( again|)", Stage.asks),
    (rf"{NAME} looks who asks", Stage.sees_who_asks),
    (rf"{NAME} gives {YUAN}", Stage.gives),
    (rf"{NAME} gives nothing", Stage.declines),
    (rf"{NAME} makes a photo for (\d+\.\d\d) to {YUAN}", Stage.makes_photo),
    (rf"{NAME} looks at the photo", Stage.looks_at_photo),
    (rf"{NAME} opens the clear photo", Stage.opens_photo),
    (rf"{NAME} pays for the photo", Stage.pays_photo),
    (rf"{NAME} thanks: (.*)", Stage.thanks),
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

    async def play(photos: str = "") -> list[str]:
        stage = await Stage.set(photos)
        told = []
        for line in scenario.splitlines():
            if line.startswith(("#", ">")):
                told.append(line)
            if line.startswith("> "):
                told += [f"    {outcome}" for outcome in await stage.play(line[2:])]
        return told

    if " photo" not in scenario:
        return "\n".join(run(play())) + "\n"
    with tempfile.TemporaryDirectory(prefix="hongbao-photos-") as folder:  # pictures are made in threads, in real time
        return "\n".join(asyncio.run(play(folder))) + "\n"


SCENARIOS = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_the_platform_answers_as_it_is_written(file: Path) -> None:
    written = file.read_text(encoding="utf-8")
    assert played(written) == written


def test_there_are_scenarios() -> None:
    kinds = {"direct", "group", "password", "star", "rain", "lishi", "notes"}
    assert {"drained", "expired", "gateway_dies", *kinds} <= {file.stem for file in SCENARIOS}


if __name__ == "__main__":
    for file in SCENARIOS:
        file.write_text(played(file.read_text(encoding="utf-8")), encoding="utf-8")
        print(file)
