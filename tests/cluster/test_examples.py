"""Examples: what the documents tell a reader to run does what they say."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cluster.local.record import SystemRecord
from tests.cluster.platform import Platform

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_first_packet_of_the_tutorial_is_sent_taken_and_on_the_statement(system: SystemRecord) -> None:
    environment = os.environ | {
        "HONGBAO_DATA": str(system.data),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    script = (
        ". docs/examples/first_packet.sh; hongbao statement boss --json | tail -1; echo $PACKET; "
        'curl -s "$URL/v1/packets/$PACKET" -H "Authorization: Bearer $BOSS"'
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    told, share, statement, packet_id, packet = done.stdout.splitlines()
    assert told == f"packet {packet_id}"
    [grab] = json.loads(packet)["grabs"]
    assert (grab["user"], grab["amount_fen"]) == ("mei", json.loads(share)["amount_fen"])
    assert '"packet_sent"' in statement
    assert packet_id in statement


async def test_the_proof_of_the_example_matches_the_commitment_that_was_noted_before_the_nonce(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.insist(
        "POST", "/sandbox/users", platform.operator, {"user": "noa", "tenant": "wechat", "balance_fen": 100}
    )
    tokens = platform.token("noa"), platform.token("tao")
    example = [sys.executable, "docs/examples/nonce.py", platform.record.url, *tokens]
    done = await asyncio.to_thread(
        subprocess.run, example, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=True
    )
    proof, commitment = tmp_path / "proof.json", done.stderr.split()[-1].decode()
    proof.write_bytes(done.stdout)
    run: Any = subprocess.run
    page = [sys.executable, "-I", "actors/packet/verify_packet.py", proof, "--total-fen", "100", "--commitment"]
    assert (await asyncio.to_thread(run, [*page, commitment], cwd=ROOT, capture_output=True)).returncode == 0
    assert (await asyncio.to_thread(run, [*page, "0" * 64], cwd=ROOT, capture_output=True)).returncode == 1
