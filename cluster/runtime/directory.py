"""Directory: finds the actor that hosts a stream and carries messages to it.

Handles are cached and looked up again after a failure. A failed call has an unknown outcome: the caller repeats it with
the same identity, or tells its own caller to.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError, RayTaskError

from actors.kernel.errors import OperatingFailure
from actors.kernel.messages import Refused
from actors.kinds import reply_decoder
from actors.ledger.transfer import Outgoing
from actors.refusals import Refusal
from cluster.config import Settings
from cluster.runtime.placement import NAMESPACE, host_of_streams
from cluster.runtime.shards import OUTGOING

log = logging.getLogger(__name__)

Reply = Any
"""One of the replies of the kernel or of a kind."""
Group = tuple[str, Sequence[Any]]
"""(stream, commands)"""

REPLIES = reply_decoder()
_ENCODER = msgspec.msgpack.Encoder()


class ShardUnavailable(OperatingFailure):
    """The actor did not answer, so the outcome is unknown. Repeat with the same identity."""


class Directory:
    """The way to every stream of one system, for one process."""

    def __init__(self, settings: Settings) -> None:
        self._handles: dict[str, Any] = {}
        self._hosts = host_of_streams(settings)
        self._timeout_s = settings.timing.shard_call_ms / 1000

    def host_of(self, stream: str) -> str:
        """Name the host of a stream. Raises KeyError if there is no such stream."""
        return self._hosts[stream]

    async def call(self, host: str, method: str, *arguments: Any) -> Any:
        """Call a method of a host's actor. Raises ShardUnavailable."""
        try:
            handle = self._handles.get(host)
            if handle is None:
                handle = await asyncio.to_thread(ray.get_actor, host, namespace=NAMESPACE)
                self._handles[host] = handle
            # Not `wait_for`: around anything but a future it starts a task, and the answer comes two loop turns later.
            async with asyncio.timeout(self._timeout_s):
                return await getattr(handle, method).remote(*arguments)
        except (RayError, TimeoutError, ValueError) as failure:  # ValueError: no actor of that name yet
            self._handles.pop(host, None)
            if isinstance(failure, RayTaskError):
                log.error("%s failed in %s: %s", host, method, failure)
            raise ShardUnavailable(f"{host} did not answer {method}: {type(failure).__name__}") from failure

    async def ask_host(self, host: str, groups: Sequence[Group]) -> list[list[Reply]]:
        """Ask streams of one host. Raises ShardUnavailable."""
        return REPLIES.decode(await self.call(host, "handle", _ENCODER.encode(groups)))

    async def ask(self, groups: Sequence[Group]) -> list[list[Reply]]:
        """Ask streams wherever they are, each host once; a host that cannot be reached answers with refusals."""
        by_host: dict[str, list[int]] = {}
        for index, (stream, _) in enumerate(groups):
            by_host.setdefault(self.host_of(stream), []).append(index)
        replies: list[list[Reply]] = [[] for _ in groups]

        async def ask_one(host: str, indexes: list[int]) -> None:
            try:
                answers = await self.ask_host(host, [groups[i] for i in indexes])
            except ShardUnavailable:
                answers = [[Refused(Refusal.SHARD_UNAVAILABLE)] * len(groups[i][1]) for i in indexes]
            for index, answer in zip(indexes, answers, strict=True):
                replies[index] = answer

        await asyncio.gather(*(ask_one(host, indexes) for host, indexes in by_host.items()))
        return replies

    async def outgoing(self, host: str) -> list[Outgoing]:
        """Return what the host's streams have to deliver. Raises ShardUnavailable."""
        return OUTGOING.decode(await self.call(host, "outgoing"))
