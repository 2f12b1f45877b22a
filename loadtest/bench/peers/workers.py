"""Workers: uvicorn processes that share one listening socket, as uvicorn's own `--workers` do.

uvloop and httptools, no access log, no lifespan of a process manager: what a careful operator would run.
"""

import contextlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import psutil
import uvicorn

from cluster.local.processes import end_with_parent

BACKLOG = 2_048
START_S_MAX = 20.0


class Workers:
    """So many processes of one module, which must end in `serve`."""

    def __init__(self, module: str, count: int, *arguments: str) -> None:
        self._module = module
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        descriptor = self._listener.fileno()
        command = [sys.executable, "-m", module, str(descriptor), *arguments]
        self._processes = [
            subprocess.Popen(command, pass_fds=[descriptor], preexec_fn=end_with_parent) for _ in range(count)
        ]
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def cpu_s(self) -> float:
        """Return the processor seconds of all of them."""
        times = [psutil.Process(process.pid).cpu_times() for process in self._processes]
        return float(sum(each.user + each.system for each in times))

    def stop(self) -> None:
        """End them."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
            process.kill()
            process.wait()
        self._listener.close()

    def _wait(self) -> None:
        deadline_s = time.monotonic() + START_S_MAX
        for _ in self._processes * 10:  # the first to accept answers: ask often enough to meet them all
            while True:
                try:
                    urllib.request.urlopen(f"{self.url}/healthz", timeout=START_S_MAX).read()
                    break
                except (urllib.error.URLError, OSError):
                    if time.monotonic() > deadline_s or any(p.poll() is not None for p in self._processes):
                        raise RuntimeError(f"a peer does not start: {self._module}") from None
                    time.sleep(0.1)


def serve(app: Any, descriptor: int) -> None:
    """Serve an ASGI app on a socket that is listened on already, until told to end."""
    config = uvicorn.Config(app, loop="uvloop", http="httptools", access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])
