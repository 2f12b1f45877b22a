"""A packet whose shares neither side chose: commitment first, then the sender's nonce, then the proof.

Usage: python docs/examples/nonce.py URL SENDER_TOKEN TAKER_TOKEN > proof.json
Then:  python3 -I actors/packet/verify_packet.py proof.json --commitment <the one that was printed> --total-fen 100
"""

import asyncio
import json
import secrets
import sys

from cluster.client import ApiProblem, Client, PacketOrder


async def main(url: str, sender_token: str, taker_token: str) -> None:
    """Send a packet of one share, take it, print its proof."""
    async with Client(url, sender_token) as sender:
        committed = await sender.commit()
        assert not isinstance(committed, ApiProblem), committed
        print(f"note down the commitment: {committed.commitment}", file=sys.stderr)
        nonce = secrets.token_hex(8)  # chosen after the platform has committed
        order = PacketOrder("lucky", 100, 1, commitment_id=committed.commitment_id, sender_nonce=nonce)
        packet = await sender.send(order, key=secrets.token_hex(16))
        assert not isinstance(packet, ApiProblem), packet
        share = await sender.acting(taker_token).grab(packet.packet_id)
        assert not isinstance(share, ApiProblem), share
        print(json.dumps(await sender.proof(packet.packet_id)))


asyncio.run(main(*sys.argv[1:4]))
