"""Found: what the simulator found in the platform, each as a plain test of its own."""

from typing import Any

import pytest

from actors.kernel.names import User
from actors.packet.replies import Won
from actors.wallet.commands import CommitSeed, CreditSandbox, Send
from actors.wallet.events import Committed
from actors.wallet.rules import WalletRules
from cluster.gateway.problems import Problem
from tests.simulation.grabbing import grab_each, grab_one
from tests.simulation.loop import simulated
from tests.simulation.system import TENANT, System


@simulated
async def test_a_stranger_hears_of_no_packet_although_its_forgotten_key_was_used_again() -> None:
    system = await System.start()
    for user in ("alice", "bob"):
        await system.service.wallets.ask(CreditSandbox(TENANT, user, 10_000))
    wish: Any = "lucky", 1_000, 5, ""
    funded = await system.service.wallets.send(Send(TENANT, "alice", "k", *wish))
    packet_id = funded.funding.packet_id
    await system.settle()
    system.clock.ms += system.settings.rules(WalletRules).idempotency_ms
    [won] = await grab_each(system.service, [(packet_id, "bob")], TENANT)
    assert not isinstance(won, Won), "its time is over"
    await system.service.wallets.send(Send(TENANT, "alice", "another", *wish))  # and so the old key is forgotten
    with pytest.raises(Problem, match="idempotency_key_reused"):
        await system.service.wallets.send(Send(TENANT, "alice", "k", *wish))
    with pytest.raises(Problem, match="packet_not_found"):
        await grab_one(system.service, packet_id, User("qq", "bob"))


@simulated
async def test_a_request_for_a_commitment_that_comes_late_does_not_make_a_used_one_usable() -> None:
    system = await System.start()
    await system.service.wallets.ask(CreditSandbox(TENANT, "alice", 10_000))
    wish: Any = CommitSeed(TENANT, "alice", "token", "even/1")
    made = await system.service.wallets.commit(wish)
    assert isinstance(made, Committed)
    terms: Any = "lucky", 1_000, 5, "", "even/1", None, made.packet_id, "a nonce"
    await system.service.wallets.send(Send(TENANT, "alice", "k", *terms))
    with pytest.raises(Problem, match="commitment_not_found"):
        await system.service.wallets.commit(wish)
    with pytest.raises(Problem, match="commitment_not_found"):
        await system.service.wallets.send(Send(TENANT, "alice", "another", *terms))
