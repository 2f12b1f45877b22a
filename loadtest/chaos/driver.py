"""Driver: a process that joins the system's Ray and does there what no client can.

`python -m loadtest.chaos.driver --data DIR`, with the variables of `cluster.local.record.system_environment`, because
Ray reads them when it is imported. One JSON object a line in, one a line out:

| `do` | answer |
|---|---|
| `census` | pid of every living actor by name |
| `activate` (`name`, `streams`) | `{}` once a second actor, of that name, owns the streams |
| `grab` (`name`, `grabs`: (packet id, user)) | for each `[code, rank, amount]`, code "" for a share |
| `send` (`name`, `orders`) | for each `[code, packet id]` |
| `remove` (`name`) | `{}` once that actor is gone |

A failure is answered with `{"failure": why}`; the process ends with its input.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import ray
from ray._private.state import state
from ray.exceptions import RayError

from actors.packet.commands import Grab
from actors.packet.replies import Won
from actors.transfers.ids import Layout, packet_stream, parse_packet_id, wallet_index_of, wallet_stream
from actors.wallet.commands import Send
from actors.wallet.replies import Funded
from cluster.config import keys_at, load
from cluster.local.record import read_record
from cluster.runtime.directory import REPLIES
from cluster.runtime.placement import NAMESPACE
from cluster.runtime.shards import REPORTS, create_shard
from loadtest.recorder import GREETING
from loadtest.target import TENANT

CALL_S = 10.0
ACTIVATION_S = 20.0
POLL_S = 0.05
NO_ANSWER = "no_answer"


class DriverCall(msgspec.Struct):
    """One line of input."""

    do: str
    name: str = ""
    streams: list[str] = []
    grabs: list[tuple[str, str]] = []
    orders: list[tuple[str, str, str, int, int]] = []


class Driver:
    """The rivals that were made, by name."""

    def __init__(self, folder: Path) -> None:
        record = read_record(folder)
        assert record is not None, "started while the system runs"
        self._settings = load(record.config, store_url=record.store_url)
        self._keys = keys_at(folder / "keys.json")
        self._rivals: dict[str, Any] = {}

    def answer(self, ask: DriverCall) -> Any:
        """Do what is asked. Raises RayError, TimeoutError."""
        match ask.do:
            case "census":
                actors = state.actor_table(None).values()
                return {actor["Name"]: actor["Pid"] for actor in actors if actor["State"] == "ALIVE"}
            case "activate":
                return self._activate(ask.name, ask.streams)
            case "grab":
                return self._grab(ask)
            case "send":
                return self._send(ask)
            case "remove":
                return self._remove(ask.name)
        raise ValueError(f"no such command: {ask.do}")

    def _activate(self, name: str, streams: list[str]) -> dict[str, str]:
        handle = self._rivals[name] = create_shard(name, streams, self._settings, self._keys)
        end_s = time.monotonic() + ACTIVATION_S
        while True:
            active = REPORTS.decode(ray.get(handle.report.remote(False), timeout=ACTIVATION_S))
            if {figures.stream for figures in active} == set(streams):
                return {}
            if time.monotonic() > end_s:
                raise TimeoutError(f"{name} does not become active")
            time.sleep(POLL_S)

    def _remove(self, name: str) -> dict[str, str]:
        self._rivals.pop(name, None)
        with contextlib.suppress(ValueError):  # there is no such actor any more, or it was never made
            ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)
        return {}

    def _grab(self, ask: DriverCall) -> list[tuple[str, int, int]]:
        groups = []
        for packet_id, user in ask.grabs:
            place = parse_packet_id(packet_id)
            assert place is not None, "only ids that a client was told are asked for"
            groups.append((packet_stream(place.packet_index), [Grab(packet_id, TENANT, user)]))
        answers: list[tuple[str, int, int]] = []
        for reply in self._call(ask.name, groups):
            won = isinstance(reply, Won)
            answers.append(("", reply.rank, reply.amount_fen) if won else (reply.code, 0, 0))
        return answers

    def _send(self, ask: DriverCall) -> list[tuple[str, str]]:
        groups = []
        for user, key, kind, total_fen, count in ask.orders:
            stream = wallet_stream(wallet_index_of(TENANT, user, Layout.of(self._settings.layout).wallet))
            groups.append(
                (stream, [msgspec.convert(["send", TENANT, user, key, kind, total_fen, count, GREETING], Send)])
            )
        answers: list[tuple[str, str]] = []
        for reply in self._call(ask.name, groups):
            funded = isinstance(reply, Funded)
            answers.append(("", reply.funding.packet_id) if funded else (reply.code, ""))
        return answers

    def _call(self, name: str, groups: list[Any]) -> list[Any]:
        payload = msgspec.msgpack.encode(groups)
        replies = REPLIES.decode(ray.get(self._rivals[name].handle.remote(payload), timeout=CALL_S))
        return [group[0] for group in replies]


def main() -> None:
    """Answer line after line until the input ends."""
    parser = argparse.ArgumentParser(description="Act inside the Ray of a chaos run.")
    parser.add_argument("--data", type=Path, required=True)
    folder: Path = parser.parse_args().data
    record = read_record(folder)
    if record is None:
        sys.exit(f"chaos: no system runs on {folder}")
    ray.init(address=record.ray_address, namespace=NAMESPACE, log_to_driver=False, logging_level="error")
    driver = Driver(folder)
    answer: Any = {"ready": True}
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        try:
            answer = driver.answer(msgspec.json.decode(line, type=DriverCall))
        except (RayError, TimeoutError, ValueError) as failure:
            answer = {"failure": f"{type(failure).__name__}: {failure}"[:500]}
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
        sys.stdout.flush()
    ray.shutdown()


if __name__ == "__main__":
    main()
