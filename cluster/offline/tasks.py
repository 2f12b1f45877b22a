"""Tasks: a Ray for commands that read the ledger: the running system's own, or one for the time of the command."""

import contextlib
import os
from collections.abc import Iterator

from cluster.local.record import system_environment
from cluster.local.run_folder import new_run_folder, remove_run_folder
from cluster.offline.sources import Ledger

OBJECT_STORE_BYTES = 200_000_000
LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray then stays on the loopback address
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextlib.contextmanager
def joined_ray(ledger: Ledger) -> Iterator[None]:
    """Join the Ray of a running system, or run one of our own. Call it before anything imports Ray."""
    if ledger.record is not None:
        os.environ.update(system_environment(ledger.record))
        import ray

        ray.init(address=ledger.record.ray_address, namespace="hongbao", log_to_driver=False, logging_level="WARNING")
        try:
            yield
        finally:
            ray.shutdown()
        return
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        del os.environ[name]  # what was set for another Ray does not reach this one
    os.environ.update(LOCAL)
    import ray

    folder = new_run_folder()
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level="WARNING",
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=str(folder / "r"),
        )
        try:
            yield
        finally:
            ray.shutdown()
    finally:
        remove_run_folder(folder)
