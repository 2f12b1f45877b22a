"""Load: runs one locust scenario against a system and says whether the system, the answers and the load were as asked.

    python -m loadtest.load midnight                      a system of its own, in a temporary folder
    python -m loadtest.load rain --rate 4 --seconds 20    other packets a second, another length
    python -m loadtest.load soak --workers 2              two locust processes and a master that collects
    python -m loadtest.load hot --url http://127.0.0.1:8000 --data FOLDER

- Scenarios are profiles in loadtest/profiles/ (`loadtest.scenarios.load_profile`); every choice follows from the seed.
- Open loop: the schedule is made beforehand and does not wait for answers. Latencies count from the scheduled instant,
  and the run fails if it could not keep to the schedule (--allow-behind: it says so and goes on).
- Exit code 0 only if the audit is clean, no two answers contradict each other, every packet and wallet is what its
  people were told, and the asked rate was achieved. 2: it could not be carried out.
- Bounded by the profile: users, connections, requests, seconds. Only this machine is loaded, unless told otherwise.

Distributed: `--workers N` starts a master and N workers on loopback, each with its part of the packets (by number, so
the whole is the same whatever N is). Locust runs in processes of its own; they are told what to do by one file.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import ipaddress
import math
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
import msgspec
from rich.console import Console

from cluster.client import ApiProblem, Client
from cluster.commands.terminal import Failure
from cluster.local.processes import end_with_parent
from cluster.screen import Screen
from loadtest.display import ProgressLine, Rates
from loadtest.finale import AT_ONCE
from loadtest.recorder import create_users
from loadtest.scenarios.load_profile import Profile, ProfileUnusable, load_profile, names
from loadtest.scenarios.orders import Orders, answers_path, read_answers, user_name, write_orders
from loadtest.scenarios.schedule import arrivals
from loadtest.scenarios.summary import as_json, show
from loadtest.scenarios.tally import LoadTally
from loadtest.scenarios.verdict import BALANCE_FEN, Verdict, judge
from loadtest.target import Target, own_target, running_target

ROOT = Path(__file__).resolve().parent.parent
LOCUST_FILE = ROOT / "loadtest" / "scenarios" / "visitors.py"
TAIL_S = 2.0
"""After the last instant: repeats."""

STOP_S = 15.0
LATE_END_S = 60.0
UNUSABLE, INTERRUPTED = 2, 130


class LoadOptions(NamedTuple):
    """How a run is carried out."""

    scenario: str
    workers: int = 0
    """0: one locust process that is its own master."""
    folder: Path = Path("load-results")
    allow_behind: bool = False


class Result(NamedTuple):
    """A run that was carried out."""

    profile: Profile
    tally: LoadTally
    verdict: Verdict


async def load(target: Target, profile: Profile, options: LoadOptions, console: Console) -> Result:
    """Load the target with a scenario and judge it. Raises Failure, TimeoutError."""
    if importlib.util.find_spec("locust") is None:
        raise Failure("locust is not installed: pip install 'hongbao[load]', or `make load`")
    options.folder.mkdir(parents=True, exist_ok=True)
    run = secrets.token_hex(4)
    parts = max(options.workers, 1)
    progress = _Progress(options.folder, parts)
    async with Client(target.url, target.operator_token, connections_max=AT_ONCE) as operator:
        with (
            ProgressLine(console, progress.words) as line,
            tempfile.TemporaryDirectory(prefix="hongbao-load-") as secret,
        ):
            if isinstance(found := await operator.ready(), ApiProblem):
                raise Failure(f"{target.url} is not ready: it {found.told}")
            if profile.clients.door == "stream":
                await _check_stream(target)
            balances = {user_name(run, person): BALANCE_FEN for person in range(profile.users)}
            tokens = await line.during("users", None, create_users(operator, balances, AT_ONCE))
            orders = Orders(
                profile=profile,
                url=target.url,
                run=run,
                parts=parts,
                folder=str(options.folder),
                gateway_token=target.gateway_token,
                user_tokens=list(tokens.values()),
            )
            path = Path(secret) / "orders.json"
            write_orders(path, orders)
            run_s = run_seconds(profile)
            await line.during(options.scenario, run_s, _locust(path, target, profile, options, run_s))
            tally = LoadTally(run)
            for told in read_answers(options.folder, parts):
                tally.told(told)
            judging = judge(target, orders, tally, progress.say, allow_behind=options.allow_behind)
            verdict = await line.during("checks", None, judging)
    return Result(profile, tally, verdict)


async def _check_stream(target: Target) -> None:
    """Make sure that the system has the fast door. Raises Failure."""
    headers = {"Authorization": f"Bearer {target.gateway_token}", "Content-Type": "application/x-ndjson"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{target.url}/v1/grabs/stream", data=b"", headers=headers) as response,
    ):
        if response.status != 200:
            raise Failure(f"{target.url} has no POST /v1/grabs/stream: it answers {response.status}")


def run_seconds(profile: Profile) -> int:
    """Return how long the locust processes ask: to the schedule's last instant, and for some repeats."""
    last_ms = 0
    for arrival in arrivals(profile):
        last_ms = arrival.due_ms
    return math.ceil(last_ms / 1_000 + TAIL_S)


async def _locust(orders: Path, target: Target, profile: Profile, options: LoadOptions, run_s: int) -> None:
    """Run the locust processes to their end. Raises Failure."""
    folder = options.folder
    clients = profile.clients
    visitors = profile.connections + clients.slow_connections + (clients.streams if clients.door == "stream" else 0)
    common = ["-f", str(LOCUST_FILE), "--orders", str(orders), "--host", target.url, "--headless"]
    leading = [
        *("-u", str(visitors), "-r", str(visitors), "--run-time", f"{run_s}s"),
        *("--stop-timeout", f"{STOP_S:.0f}", "--exit-code-on-error", "0", "--only-summary"),
        *("--html", str(folder / "report.html"), "--csv", str(folder / options.scenario)),
    ]
    if not options.workers:
        commands = {"locust": [*common, *leading, "--part", "0"]}
    else:
        port = str(_free_port())
        master = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
        waiting = ["--expect-workers", str(options.workers), "--expect-workers-max-wait", "60"]
        commands = {"master": [*common, *leading, *master, *waiting]}
        for part in range(options.workers):
            worker = ["--worker", "--master-host", "127.0.0.1", "--master-port", port, "--part", str(part)]
            commands[f"worker-{part}"] = [*common[:4], *worker]
    bound_s = run_s + STOP_S + LATE_END_S
    async with contextlib.AsyncExitStack() as ended:
        running = {
            name: await ended.enter_async_context(_started(command, folder / f"{name}.log"))
            for name, command in commands.items()
        }
        try:
            async with asyncio.timeout(bound_s):
                codes = dict(zip(running, await asyncio.gather(*(one.wait() for one in running.values())), strict=True))
        except TimeoutError:
            raise Failure(f"locust did not end within {bound_s:.0f} s; see {folder}") from None
    for name, code in codes.items():
        if code:
            raise Failure(f"locust ended with code {code}; see {folder / name}.log")


@contextlib.asynccontextmanager
async def _started(arguments: list[str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start one locust process, apart from our terminal's signals, and end it with us."""
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "locust", *arguments),
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Progress:
    """Counts what the locust processes have written so far."""

    def __init__(self, folder: Path, parts: int) -> None:
        self._paths = [answers_path(folder, part) for part in range(parts)]
        self._read = [0] * parts
        self._answers = 0
        self._phase = ""
        self._rates = Rates()

    def say(self, phase: str) -> None:
        """Note what is being done."""
        self._phase = f", {phase}"

    def words(self) -> str:
        """Say how far the run is."""
        for part, path in enumerate(self._paths):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                file.seek(self._read[part])
                fresh = file.read()
                self._read[part] += len(fresh)
                self._answers += fresh.count(b"\n")
        rate, _ = self._rates.of(self._answers, 0)
        return f"{self._answers:,} answers, {rate:,.0f}/s{self._phase}" if self._answers else ""


# The command


def is_loopback(url: str) -> bool:
    """Tell whether an address is on this machine for certain."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _target_of(arguments: argparse.Namespace, console: Console) -> contextlib.AbstractContextManager[Target]:
    """Return the system that the caller names, or one of the run's own. Raises Failure."""
    if arguments.url is None:
        return own_target("load", lambda words: console.print(words, highlight=False))
    if not is_loopback(arguments.url) and not arguments.i_own_this_system:
        raise Failure(f"{arguments.url} is not on this machine: give --i-own-this-system if you may load it")
    target = running_target(arguments.url, arguments.operator_token, arguments.gateway_token, arguments.data)
    return contextlib.nullcontext(target)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loadtest.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", choices=names())
    parser.add_argument("--rate", type=float, help="packets a second where the shape is 1; about 10 requests each")
    parser.add_argument("--seconds", type=float, help="how long packets are sent")
    parser.add_argument("--users", type=int, help="how many people")
    parser.add_argument("--connections", type=int, help="requests under way at most")
    parser.add_argument("--seed", type=int, help="names every choice")
    parser.add_argument("--workers", type=int, default=0, help="locust processes beside a master; 0: one, no master")
    parser.add_argument("--allow-behind", action="store_true", help="do not fail if the asked rate is not achieved")
    parser.add_argument("--out", type=Path, help="folder of the reports (load-results/SCENARIO-TIME)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--url", help="a running system instead of one of its own")
    parser.add_argument("--operator-token")
    parser.add_argument("--gateway-token", help="of tenant wechat")
    parser.add_argument("--data", type=Path, help="with --url: mint both tokens from this folder's keys")
    parser.add_argument("--i-own-this-system", action="store_true", help="load a system on another machine")
    return parser


def main() -> int:
    """Run the command; return its exit code."""
    arguments = _parser().parse_args()
    console = Screen(stderr=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = (arguments.out or Path("load-results") / f"{arguments.scenario}-{stamp}").absolute()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        profile = load_profile(
            arguments.scenario,
            packets_per_second=arguments.rate,
            seconds=arguments.seconds,
            users=arguments.users,
            connections=arguments.connections,
            seed=arguments.seed,
        )
        options = LoadOptions(arguments.scenario, arguments.workers, folder, arguments.allow_behind)
        with _target_of(arguments, console) as target:
            result = asyncio.run(load(target, profile, options, console))
    except (Failure, ProfileUnusable, TimeoutError) as failure:
        console.print(f"load: {failure}", style="red", highlight=False)
        return UNUSABLE
    except KeyboardInterrupt:
        return INTERRUPTED
    found = as_json(arguments.scenario, profile, result.tally, result.verdict, folder)
    (folder / "result.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    if arguments.json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    show(arguments.scenario, profile, result.tally, result.verdict, folder, Screen(stderr=arguments.json))
    return 0 if result.verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main())
