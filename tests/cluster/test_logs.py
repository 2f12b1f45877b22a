"""Logs on the real cluster: what an answer says is in the log is there, under its request id."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from tests.cluster.platform import TENANT, Platform, until

PHOTO_ID = "a" * 32


async def test_a_500_is_found_in_a_log_under_its_request_id(platform: Platform) -> None:
    record = platform.record.data / "photos" / TENANT / PHOTO_ID / "photo.json"
    record.parent.mkdir(parents=True)
    record.write_text("somebody has written into this file")
    request_id = f"broken-{time.time_ns()}"
    try:
        told = await platform.ask("GET", f"/v1/photos/{PHOTO_ID}", platform.token("mei"), X_Request_Id=request_id)
    finally:
        record.unlink()
        record.parent.rmdir()
    assert (told[0], told[1]["code"], told[1]["request_id"]) == (500, "internal", request_id)
    logs = platform.record.run_folder / "r"
    [line] = await until(lambda: asyncio.to_thread(_lines, logs, request_id), lambda found: len(found) == 1)
    assert (line["component"], line["level"], line["request_id"]) == ("gateway", "error", request_id)
    assert "DecodeError" in line["exception"], line


def _lines(logs: Path, request_id: str) -> list[dict[str, Any]]:
    """Return the lines of every log of Ray's session that are of this request."""
    files = [path for path in logs.glob("session_2*/logs/**/*") if path.is_file()]
    texts = [path.read_text(errors="replace") for path in files]
    return [json.loads(line) for text in texts for line in text.splitlines() if request_id in line and line[:1] == "{"]
