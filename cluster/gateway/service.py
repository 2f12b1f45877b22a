"""Service: what one gateway replica does, by kind, over its batchers. Every answer comes durable from a shard."""

import time
from typing import Any

from actors.kernel.messages import Refused
from actors.kernel.metrics import Tally
from cluster.config import Settings
from cluster.gateway.dispatch.batcher import Batching
from cluster.gateway.middleware.overload_control import OverloadControl
from cluster.gateway.middleware.queue_delay import QueueDelay, overload_rules
from cluster.gateway.operator.operations import Operations
from cluster.gateway.packet.grabs import Grabs
from cluster.gateway.packet.packets import Packets
from cluster.gateway.problems import refused
from cluster.gateway.wallet.wallets import Wallets
from cluster.runtime.directory import Directory, Reply


class Service:
    """The flows of one gateway replica."""

    def __init__(self, settings: Settings, directory: Directory) -> None:
        bounds = settings.bounds
        self.tally = Tally(time.time_ns() // 1_000_000)
        self.batching = Batching(
            directory,
            queue_max=bounds.gateway_queue_max,
            batch_max=bounds.gateway_batch_max,
            deadline_ms=settings.timing.request_deadline_ms,
            packet_queue_max=settings.overload.packet_queue_max,
            fair=settings.fair.gateway_queue_max,
        )
        self.overload = OverloadControl(overload_rules(settings.overload))
        self.queue_delay = QueueDelay(self.overload, self.batching, settings.overload)
        self.packets = Packets(settings, self.batching)
        self.grabs = Grabs(
            settings,
            self.batching,
            self.packets,
            tally=self.tally,
            overload=self.overload,
            queue_delay=self.queue_delay,
        )
        self.wallets = Wallets(settings, self.batching, self.packets)
        self.operations = Operations(settings, directory)

    async def ask(self, stream: str, command: Any) -> Reply:
        """Ask a stream of any kind one thing. Raises Problem if it refuses."""
        reply = await self.batching.ask(stream, command)
        if isinstance(reply, Refused):
            raise refused(reply.code, reply.part)
        return reply
