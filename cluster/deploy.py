"""Deployer: puts the gateway on a Ray that has just started, then ends. The watchdog runs it after every start of Ray.

`python -m cluster.deploy --data DIR`; everything else stands in the folder's record. Exit code 0 once the application
runs; otherwise the last line of its output says why, and the watchdog tries again.
"""

import argparse
import asyncio
import os
import socket
import sys
import time
from pathlib import Path

import ray
from ray import serve

from actors.kernel.errors import JournalCorrupt, JournalUnavailable, WrongKeys
from cluster.config import KEYS_FILE, load
from cluster.gateway.app import AppArgs, app
from cluster.keys import keys_for
from cluster.local.record import SystemRecord, read_record
from cluster.offline.tails import check_tails
from cluster.pictures.process import can_make
from cluster.runtime.shards import open_journals

RAY_SECONDS_MAX = 60.0
NAMESPACE = "hongbao"


def main() -> None:
    """Deploy once."""
    parser = argparse.ArgumentParser(description="Deploy the gateway on the system of a data folder.")
    parser.add_argument("--data", type=Path, required=True)
    record = read_record(parser.parse_args().data)
    if record is None:
        sys.exit("hongbao: no system runs on this data folder; `hongbao up` starts it")
    deploy(record)


def deploy(record: SystemRecord) -> None:
    """Join the system's Ray and run the application on its HTTP port, if its keys and its journals are whole."""
    check_system(record)  # while Ray starts
    _wait_for_ray(record)
    ray.init(address=record.ray_address, namespace=NAMESPACE, log_to_driver=False)
    try:
        quiet = {"enable_access_log": False, "log_level": "WARNING"}
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": record.host, "port": record.http_port},
            logging_config=quiet,
        )
        settings = load(record.config)
        arguments = AppArgs(
            store_url=record.store_url,
            config=record.config,
            sandbox=record.sandbox,
            keys_file=str(record.data / KEYS_FILE),
            archive_url=settings.archive_url or str(record.data / "archive"),
            photos_url=settings.photos_url or (str(record.data / "photos") if can_make() else ""),
        )
        serve.run(app(arguments), name="hongbao", route_prefix="/", logging_config=quiet)
    finally:
        ray.shutdown()


def check_system(record: SystemRecord) -> None:
    """Exit with os.EX_DATAERR if the keys are not the system's, or a journal is damaged where activations read it.

    Nothing was activated. Nothing was written but the keys of a new system.
    """

    async def check() -> None:
        journals = open_journals(load(record.config, store_url=record.store_url))
        try:
            await keys_for(journals, record.data / KEYS_FILE)
            await check_tails(journals)
        finally:
            await journals.close()

    try:
        asyncio.run(check())
    except JournalCorrupt as failure:
        sys.stderr.write(f"hongbao: {failure}; nothing was written, `hongbao verify` says what else is wrong\n")
        sys.exit(os.EX_DATAERR)
    except (WrongKeys, ValueError, OSError) as failure:
        sys.stderr.write(f"hongbao: {failure}\n")
        sys.exit(os.EX_DATAERR)
    except JournalUnavailable as failure:
        sys.exit(f"hongbao: {failure}")


def _wait_for_ray(record: SystemRecord) -> None:
    """Wait until Ray listens: a client that connects earlier waits for a long time-out. Exits if Ray never listens."""
    deadline = time.monotonic() + RAY_SECONDS_MAX
    for name in ("gcs", "node_manager", "agent_http"):
        while not _listens(record.ports[name]):
            if time.monotonic() > deadline:
                sys.exit(f"hongbao: Ray does not listen on 127.0.0.1:{record.ports[name]} ({name}); see logs/ray.log")
            time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
