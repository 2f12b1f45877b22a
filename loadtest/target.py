"""Target: the system that a load test asks: one of its own in a temporary folder, or one that runs already."""

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from cluster.commands.terminal import Failure, progress, reachable
from cluster.commands.tokens import tokens_of
from cluster.local.record import SystemRecord

TENANT = "wechat"
TOKEN_S = 86_400


class Target(NamedTuple):
    """A system and tokens for it. `fresh`: nobody else uses it, so its totals are the run's own and its clock too."""

    url: str
    operator_token: str
    gateway_token: str
    fresh: bool


@contextlib.contextmanager
def own_system(whose: str, say: Callable[[str], None] | None = None) -> Iterator[SystemRecord]:
    """Run a system in a temporary folder and leave nothing of it behind. `say` takes progress; None: the terminal."""
    from cluster.local import bootstrap

    folder = Path(tempfile.mkdtemp(prefix=f"hongbao-{whose}-"))
    shown = progress if say is None else lambda what: contextlib.nullcontext(say)
    try:
        with shown(f"Starting a system for the {whose}") as report:
            record = bootstrap.up(folder, owned=True, report=report)
        yield record
    finally:
        # From here nothing interrupts: a half-ended system would stay for ever. `down` is bounded itself.
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, unmoved)
        with shown(f"Ending the {whose}'s system") as report:
            bootstrap.down(folder, report)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def own_target(whose: str, say: Callable[[str], None] | None = None) -> Iterator[Target]:
    """Run a system as `own_system` does; yield it with tokens."""
    with own_system(whose, say) as record:
        yield Target(record.url, *tokens_of(record.data, TOKEN_S), fresh=True)


def running_target(url: str, operator_token: str | None, gateway_token: str | None, data: Path | None) -> Target:
    """Return a running system, its tokens given or minted from the keys of a data folder. Raises Failure."""
    if data is not None:
        operator_token, gateway_token = tokens_of(data.absolute(), TOKEN_S)
    if operator_token is None or gateway_token is None:
        raise Failure("--url needs --operator-token and --gateway-token, or --data to mint them")
    return Target(reachable(url).rstrip("/"), operator_token, gateway_token, fresh=False)


def unmoved(number: int, frame: FrameType | None) -> None:
    """Note a signal and go on ending; unlike SIG_IGN it is not inherited by what `down` may run."""
