"""System: a platform of its own in a temporary folder, for as long as a bench runs."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cluster.local import bootstrap
from cluster.local.record import SystemRecord


@contextlib.contextmanager
def own_system(say: Callable[[str], None]) -> Iterator[SystemRecord]:
    """Run a system in a temporary folder and end it."""
    folder = Path(tempfile.mkdtemp(prefix="hongbao-bench-"))
    try:
        yield bootstrap.up(folder, owned=True, report=say)
    finally:
        bootstrap.down(folder, say)
        shutil.rmtree(folder, ignore_errors=True)
