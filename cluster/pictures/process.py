"""Picture process: makes one picture in a process of its own, bounded in processor time, memory and duration.

A decoder that is fed by strangers may be slow, exhaust memory or crash: then that process ends, and its gateway replica
answers on. The upload is the process's standard input. Its standard output is a line of JSON, {"refused": words} or
{"width", "height", "clear": bytes of the clear picture}, and then both pictures. Its input and its processor time are
finite, so it ends by itself when its parent dies.
"""

import importlib.util
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from cluster.pictures.render import answer; answer(*sys.argv[2:])"
)
_FAILURE_CHARS = 2_000
_ENDED_BY_BOUNDS = (-signal.SIGXCPU, -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)


class Picture(NamedTuple):
    """Both versions, as JPEG, and the size of the clear one in pixels."""

    clear: bytes
    blurred: bytes
    width: int
    height: int


class NoPicture(ValueError):
    """The upload cannot be taken; the words say why."""


def can_make() -> bool:
    """Tell whether Pillow is installed, which is an extra."""
    return importlib.util.find_spec("PIL") is not None


def check_photos(photos_url: str) -> None:
    """Raise ValueError if photos are configured and Pillow is not installed."""
    if photos_url and not can_make():
        raise ValueError(
            "photos_url is set, and Pillow makes the pictures: pip install 'hongbao[photos]', or leave photos_url out"
        )


class PictureLate(RuntimeError):
    """The process was not done in time: the machine is busy. Upload it again later."""


class PictureBounds(NamedTuple):
    """Bounds of making one picture (configs/): pixels, seconds of processor time, bytes of memory, seconds in all."""

    pixels_max: int
    cpu_s: int
    memory_bytes: int
    deadline_s: float


def make_apart(upload: bytes, bounds: PictureBounds) -> Picture:
    """Make a picture in a process of its own, and wait for it.

    Raises NoPicture: it cannot be taken; PictureLate; RuntimeError: our own fault, with what the process printed.
    """
    limits = [str(limit) for limit in (bounds.pixels_max, bounds.cpu_s, bounds.memory_bytes)]
    command = [sys.executable, "-c", _CHILD, str(ROOT), *limits]
    try:
        done = subprocess.run(command, input=upload, capture_output=True, timeout=bounds.deadline_s, check=False)
    except subprocess.TimeoutExpired as failure:
        raise PictureLate(f"not made within {bounds.deadline_s:.0f} s") from failure
    if done.returncode in _ENDED_BY_BOUNDS:
        raise NoPicture(f"a picture that can be decoded within {bounds.cpu_s} s of processor time")
    if done.returncode != 0:
        raise RuntimeError(f"a picture's process failed: {done.stderr.decode(errors='replace')[-_FAILURE_CHARS:]}")
    head, _, pictures = done.stdout.partition(b"\n")
    said = json.loads(head)
    if "refused" in said:
        raise NoPicture(said["refused"])
    clear = said["clear"]
    return Picture(pictures[:clear], pictures[clear:], said["width"], said["height"])


def bound_this_process(cpu_s: int, memory_bytes: int) -> None:
    """Let this process have no more processor time and memory than that, and leave no core behind."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
