"""Examples: what the documents tell a reader to run does what they say."""

import json
import os
import subprocess
import sys
from pathlib import Path

from cluster.local.record import SystemRecord

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
