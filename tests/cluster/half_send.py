"""Half a send: debits the sender's wallet as a gateway does, and dies before it opens the packet.

`python -m tests.cluster.half_send CONFIG STORE_URL RAY_ADDRESS USER KEY` in a process of its own, because Ray reads its
environment when it is imported. Prints the packet's id.
"""

import asyncio
import sys

import ray

from actors.transfers.ids import Layout, wallet_index_of, wallet_stream
from actors.wallet.commands import Send
from actors.wallet.replies import Funded
from cluster.config import load
from cluster.runtime.directory import Directory

TENANT = "wechat"


async def half_send(config: str, store_url: str, user: str, key: str) -> str:
    """Return the id of a packet that is paid for and not open."""
    settings = load(config, store_url=store_url)
    stream = wallet_stream(wallet_index_of(TENANT, user, Layout.of(settings.layout).wallet))
    [[funded]] = await Directory(settings).ask([(stream, [Send(TENANT, user, key, "lucky", 1_000, 5, "")])])
    assert isinstance(funded, Funded), funded
    return funded.funding.packet_id


if __name__ == "__main__":
    config, store_url, address, user, key = sys.argv[1:]
    ray.init(address=address, namespace="hongbao", log_to_driver=False, logging_level="error")
    print(asyncio.run(half_send(config, store_url, user, key)))
    ray.shutdown()
