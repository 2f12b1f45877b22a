"""Load: closed-loop HTTP load from `wrk` where it is installed, else from the bundled asyncio client.

Both send requests made beforehand, each once (or one for ever), one under way on each connection, for a fixed time.
What is under way when the time is up may be carried out and stays uncounted: a check of sums allows for it.
wrk reads the requests from a file before its clock starts; a request it has no more of is an idle connection.
"""

import asyncio
import itertools
import re
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from loadtest.bench.wire import drive_http

BAD_REQUEST = 400
WRK_TIMEOUT_S = 20

SCRIPT = """
local file = assert(io.open("%s", "rb"))
local requests, sent, again = {}, 0, %s
while true do
  local length = file:read("*n")
  if not length then break end
  file:read(1)
  requests[#requests + 1] = file:read(length)
end
file:close()
local count = #requests
function request()
  sent = sent + 1
  if again then return requests[(sent - 1) %% count + 1] end
  return requests[sent] or ""
end
function done(summary, latency)
  local failed = summary.errors
  io.write(string.format("RESULT %%d %%d %%d %%d %%d %%d\\n", summary.duration, summary.requests, failed.status,
    failed.connect + failed.read + failed.write + failed.timeout, latency:percentile(50), latency:percentile(99)))
end
"""
"""Generated for every run. Durations and latencies in microseconds."""

RESULT = re.compile(r"^RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)$", re.MULTILINE)


class Load(NamedTuple):
    """What the clients saw. `refused`: answers of status 400 and above, counted in `answers` too."""

    seconds: float
    answers: int
    refused: int
    p50_ms: float
    p99_ms: float
    client_cpu_s: float

    @property
    def accepted(self) -> int:
        """Answers that were not refusals."""
        return self.answers - self.refused

    @property
    def per_second(self) -> float:
        """Answers a second, refusals among them."""
        return self.answers / self.seconds


def client_name() -> str:
    """Say which client sends the load."""
    return "wrk" if shutil.which("wrk") else "the bundled asyncio client (wrk is not installed)"


async def drive(url: str, requests: Sequence[bytes], *, connections: int, seconds: float, again: bool = False) -> Load:
    """Send requests over that many connections for that long; `again`: in turn for ever, else each once.

    Raises OSError if the server drops connections.
    """
    if shutil.which("wrk"):
        return await _drive_wrk(url, requests, connections, seconds, again)
    before_s = time.process_time()
    endless = itertools.cycle(requests) if again else iter(requests)
    run = await drive_http(url, endless, connections=connections, seconds=seconds)
    refused = sum(count for status, count in run.statuses.items() if status >= BAD_REQUEST)
    spent_s = time.process_time() - before_s
    answers = sum(run.statuses.values())
    return Load(run.seconds, answers, refused, run.percentile_ms(0.5), run.percentile_ms(0.99), spent_s)


async def _drive_wrk(url: str, requests: Sequence[bytes], connections: int, seconds: float, again: bool) -> Load:
    with tempfile.TemporaryDirectory(prefix="hongbao-wrk-") as folder:
        script = await asyncio.to_thread(_write, Path(folder), requests, again)
        before_s = _children_cpu_s()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={WRK_TIMEOUT_S}s"]
        wrk = await asyncio.create_subprocess_exec(
            *command, "-s", str(script), url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await wrk.communicate()
        return parse_wrk(output.decode(), _children_cpu_s() - before_s)


def _write(folder: Path, requests: Sequence[bytes], again: bool) -> Path:
    """Write the requests and the script that reads them; return the script."""
    script, listed = folder / "load.lua", folder / "requests"
    with listed.open("wb") as file:
        file.writelines(b"%d\n%b" % (len(request), request) for request in requests)
    script.write_text(SCRIPT % (listed, "true" if again else "false"))
    return script


def parse_wrk(output: str, client_cpu_s: float) -> Load:
    """Read what our script made wrk print. Raises OSError if it ended otherwise or lost connections."""
    found = RESULT.search(output)
    if found is None:
        raise OSError(f"wrk did not run: {output.strip()[-300:]}")
    micros, answers, refused, broken, p50, p99 = map(int, found.groups())
    if broken:
        raise OSError(f"{broken} connections broke or timed out of {answers} answers")
    return Load(micros / 1e6, answers, refused, p50 / 1e3, p99 / 1e3, client_cpu_s)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
