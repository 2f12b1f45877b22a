"""Gateway: the platform over HTTP, as a Ray Serve deployment behind HAProxy.

`serve run cluster.gateway.app:app store_url=...` builds it: `app` checks the environment and the store, makes the
catalogue of a new system, the shards and their supervisor, and binds the deployment.
"""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any, NoReturn

import ray
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from actors.kernel.errors import JournalUnavailable, OperatingFailure, WrongKeys
from actors.kernel.quota import Bound
from actors.refusals import Refusal
from cluster.config import KEYS_FILE, SERVE_ENVIRONMENT, Keys, Settings, data_folder, keys_at, load, sandbox_of
from cluster.gateway import problems
from cluster.gateway.auth import Auth
from cluster.gateway.dispatcher import Dispatcher
from cluster.gateway.docs_page import Pages
from cluster.gateway.middleware.admission import Admission
from cluster.gateway.middleware.limits import RequestLimits
from cluster.gateway.middleware.request_metrics import RequestMetrics, overload_source
from cluster.gateway.openapi import document
from cluster.gateway.operator import routes as operator
from cluster.gateway.operator.switches import SwitchFlow
from cluster.gateway.packet.photos import photos_of
from cluster.gateway.packet.stream import Streams
from cluster.gateway.problems import Problem
from cluster.gateway.replica import Replica
from cluster.gateway.routing import ROUTES, RouteTable
from cluster.gateway.service import Service
from cluster.keys import check_keys, keep_keys
from cluster.observability.logs import log_json
from cluster.pictures.process import check_photos
from cluster.runtime.directory import Directory, ShardUnavailable
from cluster.runtime.placement import SUPERVISOR, hosts
from cluster.runtime.shards import WallClock, calm_collector, create_shard, open_journals
from cluster.runtime.supervisor import create_supervisor
from cluster.store import check_store

log = logging.getLogger(__name__)


class AppArgs(BaseModel):
    """The arguments of `serve run cluster.gateway.app:app` and of `args:` in a Serve configuration."""

    model_config = ConfigDict(extra="forbid")

    store_url: str = Field(description="Redis 7+ or Valkey, e.g. rediss://:password@store:6379/0")
    config: str = Field(default="cluster", description="a name from configs/, or the path of a TOML file")
    sandbox: bool | None = Field(default=None, description="true: operators make money and move the clock")
    keys_file: str = Field(default="", description="JSON, mode 0600; default: keys.json in the user's data folder")
    archive_url: str = Field(default="", description="for sealed journals, a folder or s3://…; default: the config's")
    photos_url: str = Field(default="", description="for photo packets, a folder or s3://…; default: the config's")


@serve.ingress()
class Gateway:
    """One replica: authentication, batching, and the routes."""

    def __init__(self, settings: Settings, keys: Keys) -> None:
        calm_collector()
        log_json("gateway")
        self.settings = settings
        self.keys = keys
        self.auth = Auth(keys, settings.bounds.token_cache_max, settings.fair.token_cache_max)
        self.directory = Directory(settings)
        self.service = Service(settings, self.directory)
        self.platform_key = keys.key(keys.first)
        self.switches = SwitchFlow(settings, self.directory)
        self.streams = Streams(settings, self.service.grabs, self.platform_key)
        self.journals = open_journals(settings)
        self.photos = photos_of(settings, keys, self.service, self.journals, WallClock())
        self._system = ""

    def __serve_build_asgi_app__(self) -> Any:
        return build_api(self, stamps=False, directory=self.directory)

    async def ready(self) -> str:
        """Return the system's id if money can be served. Raises Problem, within `ready_ms`.

        Nothing is ever ended for it: Serve and HAProxy ask whether the replica runs, which needs no store.
        """
        deadline_s = asyncio.get_running_loop().time() + self.settings.timing.ready_ms / 1000
        try:
            async with asyncio.timeout_at(deadline_s):
                await self.journals.ping()
                self._system = self._system or await self._own_system()
        except WrongKeys as failure:
            log.error("this replica serves nothing: %s", failure)
            raise Problem("shard_unavailable", "This replica has other keys than the system.") from failure
        except (JournalUnavailable, TimeoutError) as failure:
            raise Problem("journal_unavailable", "The store does not answer, or takes no writes now.") from failure
        try:
            async with asyncio.timeout_at(deadline_s):
                idle = await self.directory.call(SUPERVISOR, "ready")
        except (ShardUnavailable, TimeoutError) as failure:
            raise Problem("shard_unavailable", "The supervisor does not answer yet.") from failure
        if idle:
            raise Problem("shard_unavailable", f"Not active yet: {', '.join(idle[:5])}.")
        return self._system

    async def _own_system(self) -> str:
        """Return the system's id, once its keys are known to be those of this replica."""
        await check_keys(self.journals, self.keys)
        return await self.journals.system_id()

    async def advance_clock(self, advance_ms: int) -> int:
        """Move the durable offset, then tell every host. Raises Problem."""
        offset_ms_max = self.settings.limits.sandbox_clock_ms_max
        try:
            offset_ms = await self.journals.advance_clock(advance_ms, offset_ms_max=offset_ms_max)
        except JournalUnavailable as failure:
            raise problems.refused(Refusal.JOURNAL_UNAVAILABLE) from failure
        if offset_ms is None:
            raise operator.too_far(offset_ms_max)
        await self.service.operations.advance_clock(offset_ms)
        return offset_ms


def build_api(replica: Replica, *, stamps: bool = True, directory: Directory | None = None) -> Any:
    """Return the ASGI app of a replica; `stamps`: it writes X-Request-Id itself, because nothing before it does.

    `directory`: the way to the supervisor, who hears what the replica does; None: nobody hears it.
    """
    settings, service = replica.settings, replica.service
    pages = Pages(lambda: document(table, settings))
    table = RouteTable([*ROUTES, *pages.routes], settings)
    under_way = Bound.of(settings.bounds.requests_max, settings.fair.requests_max)
    admission = Admission(replica.auth, service.overload, service.queue_delay, under_way)
    limits = RequestLimits(Dispatcher(replica), table, admission, settings, stamps=stamps)
    sources = [overload_source(service)]
    return RequestMetrics(limits, service.tally, directory, settings.sight.report_ms, sources, [pages.write])


def app(args: AppArgs) -> serve.Application:
    """Build the application. Where it cannot be served, it says so in one line (see `_refuse`)."""
    unset = [f"{name}={value}" for name, value in SERVE_ENVIRONMENT.items() if os.environ.get(name) != value]
    if unset:
        _refuse(f"set {' '.join(unset)} before Ray starts; without it Serve is ten times slower")
    try:
        places = {"archive_url": args.archive_url, "photos_url": args.photos_url}
        settings = load(args.config, store_url=args.store_url, **{name: url for name, url in places.items() if url})
        check_photos(settings.photos_url)
        sandbox = sandbox_of(settings, args.sandbox, own_store=False)
        settings = settings.model_copy(update={"sandbox": sandbox})
        keys = _keys(Path(args.keys_file) if args.keys_file else data_folder() / KEYS_FILE)
        check_store(args.store_url)
        asyncio.run(_create_system(settings, keys))
    except (OperatingFailure, ValueError, OSError) as failure:  # pydantic's ValidationError is a ValueError
        _refuse(" ".join(str(failure).split()))
    for host, streams in hosts(settings).items():
        create_shard(host, streams, settings, keys)
    create_supervisor(settings, keys)
    placement, bounds = settings.placement, settings.bounds
    deployment = serve.deployment(
        Gateway,
        name="gateway",
        num_replicas=placement.gateway_replicas,
        max_ongoing_requests=bounds.ongoing_requests_max,
        max_queued_requests=bounds.queued_requests_max,
        ray_actor_options={"num_cpus": placement.gateway_cpus},
        health_check_period_s=settings.timing.health_check_ms / 1000,
        graceful_shutdown_timeout_s=settings.timing.request_deadline_ms / 1000,
    )
    return deployment.bind(settings, keys)


def _refuse(words: str) -> NoReturn:
    """End with one line: as a command (`serve run`) without a traceback, in a task (`serve deploy`) as its failure."""
    line = f"hongbao: {words}"
    if ray.is_initialized() and ray.get_runtime_context().get_task_id() is not None:
        raise RuntimeError(line)
    raise SystemExit(line)


def _keys(path: Path) -> Keys:
    """Read the keys. They are not made here: on a node that merely lacks the file they would be another system's."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist on this node: copy the system's keys file there, "
            f"or make the keys of a new system with `hongbao keys --new --keys-file {path}`"
        )
    return keys_at(path)


async def _create_system(settings: Settings, keys: Keys) -> None:
    journals = open_journals(settings)
    try:
        await keep_keys(journals, keys)
        await journals.create_system(settings.layout)
    finally:
        await journals.close()
