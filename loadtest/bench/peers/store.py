"""Store: a Valkey of the peers' own, started with the very command of the platform's (fsync before every answer)."""

import subprocess
import tempfile
import time
from pathlib import Path

from cluster.local.processes import end_with_parent
from cluster.store import store_answers, store_command, store_url_of

START_S_MAX = 10.0


class PeerStore:
    """One server in a temporary folder."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hongbao-peer-")
        self.socket = Path(self._folder.name, "s.sock")
        self.url = store_url_of(self.socket)
        command = store_command(Path(self._folder.name), self.socket)
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=end_with_parent)
        deadline_s = time.monotonic() + START_S_MAX
        while not store_answers(self.url):
            assert time.monotonic() < deadline_s, "the peers' store does not start"
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def stop(self) -> None:
        """End it and remove its folder."""
        self._process.terminate()
        self._process.wait(timeout=10)
        self._folder.cleanup()
