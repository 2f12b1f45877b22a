"""Mutants: deliberate bugs, each of which the named tests must catch. `python tests/mutants.py [word ...]`.

The tree is copied to a temporary folder; there each bug is put in by replacing one exact text, and only the tests
named for it run. A bug that survives, a text that is no longer there (once), or tests that fail without a bug end
with code 1.
With words, only mutants whose promise contains one of them run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("actors", "cluster", "configs", "tests", "pyproject.toml")
WORKERS = 2
TIMEOUT_S = 60

BOOKS, IDS, SPLIT = "tests/unit/test_books.py", "tests/unit/test_ids.py", "tests/unit/test_split.py"
PACKET, WALLET = "tests/unit/test_packet_machine.py", "tests/unit/test_wallet_machine.py"
SHELL, HOST, BATCH = "tests/unit/test_shell.py", "tests/unit/test_host.py", "tests/unit/test_batching.py"
HTTP, REFUSALS, AUTH = "tests/unit/test_http.py", "tests/unit/test_http_refusals.py", "tests/unit/test_auth.py"
SNAPSHOTS = "tests/simulation/test_snapshots.py"
MONEY = (
    "tests/simulation/test_money.py::test_whatever_fails_the_journals_alone_explain_every_answer"
    "_and_every_fen_is_accounted_for[the same every time]"
)

PACKET_MACHINE, PACKET_SHARD = "actors/packet/machine.py", "actors/packet/shard.py"
WALLET_MACHINE = "actors/wallet/machine.py"
BOOK = "actors/ledger/book.py"
CORE_SHELL, CORE_HOST = "actors/shell.py", "actors/host.py"
MEMORY = "cluster/journal/memory.py"
SERVICE, BATCHING = "cluster/gateway/service.py", "cluster/gateway/batching.py"


class Mutant(NamedTuple):
    """One bug: in `file`, `old` becomes `new`; `tests` must fail. `promise` is what it breaks."""

    promise: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = [
    Mutant(
        "nothing happens between decide and apply",
        CORE_SHELL,
        "        self.machine.apply(event)\n        self._open.events",
        "        asyncio.get_running_loop().call_soon(self.machine.apply, event)\n        self._open.events",
        (HOST,),
    ),
    Mutant(
        "a grab is applied before the next one is decided",
        PACKET_SHARD,
        "                apply(answer)\n",
        "                __import__('asyncio').get_running_loop().call_soon(apply, answer)\n",
        (HOST,),
    ),
    Mutant(
        "simulation: a grab is applied before the next one is decided",
        PACKET_SHARD,
        "                apply(answer)\n",
        "                __import__('asyncio').get_running_loop().call_soon(apply, answer)\n",
        (MONEY,),
    ),
    Mutant(
        "a reply comes after its append",
        CORE_SHELL,
        "                version = self.machine.version\n",
        "                version = self.machine.version\n                commit.finish()\n",
        (SHELL,),
    ),
    Mutant(
        "who staged nothing waits for a confirmation",
        CORE_SHELL,
        "await self._journal.confirm()",
        "pass",
        (SHELL,),
    ),
    Mutant(
        "a replay waits until the share is durable",
        PACKET_SHARD,
        "wait = wait or not machine.is_final(",
        "wait = wait or type(answer) is not Won and not machine.is_final(",
        (HOST,),
    ),
    Mutant(
        "a refusal waits until it is true",
        PACKET_SHARD,
        "wait = wait or not machine.is_final(",
        "wait = wait or type(answer) is Won and not machine.is_final(",
        (HOST,),
    ),
    Mutant(
        "an end is final only once it is durable",
        PACKET_MACHINE,
        'packet.ended != "open" and packet.ended_version <= durable_version',
        'packet.ended != "open"',
        (HOST,),
    ),
    Mutant(
        "the journal refuses an older epoch",
        MEMORY,
        "        if position <= self.last:\n            return False\n",
        "",
        (SHELL,),
    ),
    Mutant(
        "every activation raises the epoch",
        MEMORY,
        "fence = Position(stored.last.epoch + 1, 0)",
        "fence = Position(stored.last.epoch or 1, 0)",
        (SHELL,),
    ),
    Mutant(
        "a confirmation asks whose the stream is",
        MEMORY,
        "if stored is None or stored.last not in (self._durable, self._appending):",
        "if stored is None:",
        (SHELL,),
    ),
    Mutant(
        "a full store gets the very same entry again",
        CORE_SHELL,
        "                self.full = True\n",
        "                self.full = True\n                sealed = self._journal.seal(events)\n",
        (SHELL,),
    ),
    Mutant(
        "a waiter does not survive its epoch",
        CORE_SHELL,
        "        self._open.finish(failure",
        "        Commit().finish(failure",
        (SHELL,),
    ),
    Mutant(
        "shard time never goes back",
        CORE_SHELL,
        "return max(self._now_ms(), self.machine.stamp_ms)",
        "return self._now_ms()",
        (SHELL,),
    ),
    Mutant(
        "a poisoned shell is never used again",
        CORE_HOST,
        "if shell is not None and not shell.dead:",
        "if shell is not None:",
        (HOST,),
    ),
    Mutant(
        "a bug in a machine ends the activation",
        CORE_HOST,
        "                shell.discard()\n                raise\n",
        "                raise\n",
        (HOST,),
    ),
    Mutant(
        "a caller that goes away does not break an activation",
        CORE_HOST,
        "shell = await asyncio.shield(task)",
        "shell = await task",
        (HOST,),
    ),
    Mutant(
        "settlement delivers only what is durable",
        CORE_HOST,
        "            try:\n                await shell.commit().durable()\n            except OperatingFailure:\n"
        "                continue\n",
        "",
        (HOST,),
    ),
    Mutant(
        "ranks count from one",
        PACKET_MACHINE,
        "rank = len(packet.rank_of) + 1\n",
        "rank = max(1, len(packet.rank_of))\n",
        (PACKET,),
    ),
    Mutant(
        "a packet has no more shares than its count",
        PACKET_MACHINE,
        "rank == packet.funding.count:",
        "rank > packet.funding.count:",
        (PACKET,),
    ),
    Mutant(
        "one share a user",
        PACKET_MACHINE,
        "rank = packet.rank_of.get(user)",
        "rank = None",
        (PACKET,),
    ),
    Mutant(
        "the seed is published by the end only",
        PACKET_MACHINE,
        'funding.count else b""',
        'funding.count or rank == 1 else b""',
        (PACKET,),
    ),
    Mutant(
        "a packet ends at its time",
        PACKET_MACHINE,
        "funding.expires_at_ms:\n            return self._expired(packet, now_ms)\n",
        "funding.expires_at_ms + 1:\n            return self._expired(packet, now_ms)\n",
        (PACKET,),
    ),
    Mutant(
        "an end follows from an event",
        PACKET_MACHINE,
        "            return self._expired(packet, now_ms)\n",
        "            return EXPIRED\n",
        (PACKET,),
    ),
    Mutant(
        "a packet is refunded once",
        PACKET_MACHINE,
        'packet is None or packet.ended != "open" or now_ms',
        "packet is None or now_ms",
        (PACKET,),
    ),
    Mutant(
        "a packet of another tenant does not exist",
        PACKET_MACHINE,
        "if packet is None or packet.funding.tenant != tenant:\n            return NOT_FOUND\n        rank",
        "if packet is None:\n            return NOT_FOUND\n        rank",
        (PACKET,),
    ),
    Mutant(
        "an opening delivered twice opens once",
        PACKET_MACHINE,
        "if received.has(funding.number):",
        "if False:",
        (PACKET,),
    ),
    Mutant(
        "a second funding of one packet goes back",
        PACKET_MACHINE,
        "        if packet is not None:\n            to_wallet, number = self._way_back(funding)\n",
        "        if False:\n            to_wallet, number = self._way_back(funding)\n",
        (PACKET,),
    ),
    Mutant(
        "the refund goes to the sender",
        PACKET_MACHINE,
        'Payout(event.number, "refund", funding.tenant, funding.sender, event.amount_fen',
        'Payout(event.number, "refund", funding.tenant, funding.sender, funding.total_fen',
        (PACKET,),
    ),
    Mutant(
        "only what was sent can be acknowledged",
        PACKET_MACHINE,
        "if number > (sent.last_number if sent else 0):",
        "if False:",
        (PACKET,),
    ),
    Mutant(
        "what came ahead is remembered",
        BOOK,
        "            self.ahead[number] = amount_fen\n",
        "",
        (BOOKS,),
    ),
    Mutant(
        "a receipt moves the watermark",
        BOOK,
        "        self.number, self.total_fen = number, self.total_fen + amount_fen\n",
        "        self.total_fen = self.total_fen + amount_fen\n",
        (BOOKS,),
    ),
    Mutant(
        "a transfer enters a book once",
        BOOK,
        "return number <= self.number or number in self.ahead",
        "return number < self.number or number in self.ahead",
        (BOOKS,),
    ),
    Mutant(
        "a balance is never negative",
        WALLET_MACHINE,
        "if account is None or account.available_fen < send.total_fen:",
        "if account is None:",
        (WALLET,),
    ),
    Mutant(
        "a key belongs to one amount",
        WALLET_MACHINE,
        "                send.kind,\n                send.total_fen,\n",
        "                send.kind,\n                prior.total_fen,\n",
        (WALLET,),
    ),
    Mutant(
        "a range is settled once",
        WALLET_MACHINE,
        "[payout for payout in receive.payouts if payout.number > received.number]",
        "list(receive.payouts)",
        (WALLET,),
    ),
    Mutant(
        "a gap is refused",
        WALLET_MACHINE,
        "if fresh[0].number != received.number + 1 or fresh[-1].number != received.number + len(fresh):",
        "if False:",
        (WALLET,),
    ),
    Mutant(
        "money in transit is never refused",
        WALLET_MACHINE,
        "        if not fresh:\n            return None\n",
        "        if not fresh or self._account(fresh[0].tenant, fresh[0].user) is None:\n            return None\n",
        (WALLET,),
    ),
    Mutant(
        "a draw is unbiased",
        "actors/packet/fairness.py",
        "        while (word := next(self._words)) >= limit:\n            pass\n",
        "        word = next(self._words)\n",
        (SPLIT,),
    ),
    Mutant(
        "every share keeps the cap",
        "actors/packet/split.py",
        "hi * (left - 1) - (rest - centre), ",
        "",
        (SPLIT,),
    ),
    Mutant(
        "identities are never joined",
        "actors/ids.py",
        'crc32(f"{tenant}\\n".encode())',
        "crc32(tenant.encode())",
        (IDS,),
    ),
    Mutant(
        "a caller that goes away does not break the batch",
        BATCHING,
        "        if not self.future.done():\n            self.future.set_result(replies)",
        "        self.future.set_result(replies)",
        (BATCH,),
    ),
    Mutant(
        "a queue is bounded",
        BATCHING,
        "if self._queued + parcel.size > self._queue_max:",
        "if False:",
        (BATCH,),
    ),
    Mutant(
        "before a 404 the wallet stream is asked",
        SERVICE,
        "        if not lost:\n",
        "        if True:\n",
        (HTTP,),
    ),
    Mutant(
        "strangers see no list",
        "cluster/gateway/answers.py",
        "if reader == view.funding.sender or any(",
        "if True or any(",
        (HTTP,),
    ),
    Mutant(
        "only a gateway names users",
        "cluster/gateway/auth.py",
        '        if claims.scope != GATEWAY_SCOPE:\n            raise Problem("forbidden", "Only a gateway\'s',
        '        if False:\n            raise Problem("forbidden", "Only a gateway\'s',
        (AUTH,),
    ),
    Mutant(
        "a body that does not tell its length is bounded",
        "cluster/gateway/edge.py",
        "if read > self._body_bytes_max:",
        "if False:",
        (REFUSALS,),
    ),
    Mutant(
        "a snapshot of live memory is not adopted",
        "cluster/journal/codec.py",
        "if entry.first_version != self.version + 1:",
        "if False:",
        (SNAPSHOTS,),
    ),
    Mutant(
        "a snapshot is chained to its journal",
        "cluster/journal/codec.py",
        "if entry.prev != self.digest:",
        "if False:",
        (SNAPSHOTS,),
    ),
    Mutant(
        "a restored stream still keeps the time of its packets",
        PACKET_MACHINE,
        'for p in self._state.packets.values() if p.ended == "open"',
        'for p in self._state.packets.values() if p.ended != "open"',
        (PACKET,),
    ),
    # What the simulation must find by itself.
    Mutant(
        "simulation: nothing happens between decide and apply",
        CORE_SHELL,
        "        self.machine.apply(event)\n        self._open.events",
        "        asyncio.get_running_loop().call_soon(self.machine.apply, event)\n        self._open.events",
        (MONEY,),
    ),
    Mutant(
        "simulation: a reply comes after its append",
        CORE_SHELL,
        "                version = self.machine.version\n",
        "                version = self.machine.version\n                commit.finish()\n",
        (MONEY,),
    ),
    Mutant(
        "simulation: a replay waits until the share is durable",
        PACKET_SHARD,
        "wait = wait or not machine.is_final(",
        "wait = wait or type(answer) is not Won and not machine.is_final(",
        (MONEY,),
    ),
    Mutant(
        "simulation: a refusal waits until it is true",
        PACKET_SHARD,
        "wait = wait or not machine.is_final(",
        "wait = wait or type(answer) is Won and not machine.is_final(",
        (MONEY,),
    ),
    Mutant(
        "simulation: who reads waits for a confirmation",
        CORE_SHELL,
        "await self._journal.confirm()",
        "pass",
        (MONEY,),
    ),
    Mutant(
        "simulation: a waiter does not survive its epoch",
        CORE_SHELL,
        "        self._open.finish(failure",
        "        Commit().finish(failure",
        (MONEY,),
    ),
    Mutant(
        "simulation: settlement delivers only what is durable",
        CORE_HOST,
        "            try:\n                await shell.commit().durable()\n            except OperatingFailure:\n"
        "                continue\n",
        "",
        (MONEY,),
    ),
    Mutant(
        "simulation: what came ahead is remembered",
        BOOK,
        "            self.ahead[number] = amount_fen\n",
        "",
        (MONEY,),
    ),
    Mutant(
        "simulation: the auditor's own code is compared",
        "actors/ledger/accounts.py",
        "        case OpeningReturned():\n            return _move(",
        "        case OpeningReturned():\n            return [] and _move(",
        (MONEY,),
    ),
    Mutant(
        "simulation: quiet packets expire",
        PACKET_SHARD,
        "        for packet_id in shell.machine.due(now_ms, self._rules.expire_batch_max):\n",
        "        for packet_id in ():\n",
        (MONEY,),
    ),
    Mutant(
        "simulation: refusing everybody is not enough",
        PACKET_MACHINE,
        "        # From here the grab must succeed.\n",
        "        return OVERLOADED\n",
        (MONEY,),
    ),
    Mutant(
        "simulation: keys are forgotten by the stamps of events",
        WALLET_MACHINE,
        "        while self._forgettable(event.at_ms):\n",
        "        while len(state.fundings) > 1:\n",
        (MONEY,),
    ),
]


def check_texts() -> list[str]:
    """Return a line for every mutant whose text is not in its file exactly once."""
    wrong = []
    for mutant in MUTANTS:
        found = (ROOT / mutant.file).read_text().count(mutant.old)
        if found != 1:
            wrong.append(f"{mutant.promise}: its text is in {mutant.file} {found} times, not once; write it anew")
    return wrong


def copy_tree(target: Path) -> None:
    """Copy what the tests need, without bytecode: it would outlive a mutation made within the same second."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*", "mutants.py"))
        else:
            shutil.copy(source, target / name)


def run_tests(tree: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """Run tests in a tree; return pytest's exit code (1: a test failed) and its output."""
    environment = os.environ | {
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_PROFILE": "mutants",
    }
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:warnings", "--tb=line", "-o", "timeout=40"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end within {TIMEOUT_S} s"
    return done.returncode, done.stdout + done.stderr


def check_import(tree: Path) -> None:
    """Make sure that a tree's own code is what its tests import. Raises SystemExit."""
    probe = [sys.executable, "-c", "import actors, cluster, tests; print(actors.__file__, cluster.__file__)"]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run(probe, cwd=tree, env=environment, capture_output=True, text=True, check=True).stdout.split()
    if not all(path.startswith(str(tree)) for path in found):
        raise SystemExit(f"mutants: {found} is imported instead of the copy")


def try_mutant(mutant: Mutant, trees: "Queue[Path]") -> tuple[str, str, float]:
    """Put one bug in, run its tests, take it out; return what became of it, its first failure, and seconds."""
    tree = trees.get()
    file = tree / mutant.file
    sound = file.read_text()
    began_s = time.monotonic()
    try:
        file.write_text(sound.replace(mutant.old, mutant.new))
        code, output = run_tests(tree, mutant.tests)
    finally:
        file.write_text(sound)
        trees.put(tree)
    seconds = time.monotonic() - began_s
    if code == 1:
        failed = [line for line in output.splitlines() if line.startswith("FAILED")]
        return "caught", failed[0].removeprefix("FAILED ").partition("::")[2].partition(" - ")[0], seconds
    if code == 0:
        return "SURVIVED", f"not seen by {', '.join(mutant.tests)}", seconds
    return "ERROR", output.strip()[-300:], seconds


def main(words: list[str]) -> int:
    """Try every mutant; return the exit code."""
    wrong = check_texts()
    for line in wrong:
        print(f"mutants: {line}")
    if wrong:
        return 1
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.promise for word in words)]
    with tempfile.TemporaryDirectory(prefix="hongbao-mutants-") as folder:
        trees: Queue[Path] = Queue()
        for number in range(WORKERS):
            tree = Path(folder).resolve() / str(number)
            tree.mkdir()
            copy_tree(tree)
            trees.put(tree)
        check_import(tree)
        code, output = run_tests(tree, tuple(sorted({test for mutant in chosen for test in mutant.tests})))
        if code != 0:
            print(output)
            print("mutants: the tests fail without any bug")
            return 1
        survived = 0
        with ThreadPoolExecutor(WORKERS) as pool:
            for mutant, (outcome, by, seconds) in zip(
                chosen, pool.map(lambda one: try_mutant(one, trees), chosen), strict=True
            ):
                survived += outcome != "caught"
                print(f"{outcome:8} {seconds:5.1f} s  {mutant.promise:58} {by}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} mutants caught")
    return 1 if survived or not chosen else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
