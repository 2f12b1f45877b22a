"""Grabbing: takes shares through a gateway's service, as the routes do."""

from collections.abc import Sequence

from actors.kernel.names import User
from actors.packet.host import one_by_one
from actors.packet.replies import Won
from cluster.gateway.packet.grab_items import Asked
from cluster.gateway.problems import expect
from cluster.gateway.service import Service
from cluster.runtime.directory import Reply


async def grab_one(service: Service, packet_id: str, user: User) -> Won:
    """Take a share. Raises Problem that tells why not."""
    return expect(await service.grabs.take(packet_id, user.tenant, user.user), Won)


async def grab_each(service: Service, asked: Sequence[tuple[Asked, str]], tenant: str) -> list[Reply]:
    """Grab for many users of one tenant, given as (what is asked, user); one reply for each, in order."""
    wanted: dict[Asked, list[str]] = {}
    for what, user in asked:
        wanted.setdefault(what, []).append(user)
    crowds = await service.grabs.crowds(wanted, tenant)
    each = {what: iter(one_by_one(crowds[what], len(users))) for what, users in wanted.items()}
    return [next(each[what]) for what, _ in asked]
