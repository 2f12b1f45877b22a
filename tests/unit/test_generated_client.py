"""A client generated from the OpenAPI document: it sees what was granted, and why something was not."""

import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType

from cluster.gateway.app import build_api
from tests.simulation.http import Http, token
from tests.simulation.loop import simulated
from tests.unit.door import written

NOT_GENERATED = ["POST /v1/grabs/stream", "POST /v1/photos", "POST /v1/photos"]
"""A stream of lines, and a picture as PNG or as WebP beside JPEG: the generator has no words for these."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Generate a client, and return the name to import it by."""
    folder, name = tmp_path_factory.mktemp("client"), "client_of_the_contract"
    (folder / "openapi.json").write_text(json.dumps(written()))
    file = ConfigFile(post_hooks=[], content_type_overrides={"image/jpeg": "application/octet-stream"})
    sources: dict[str, Any] = {"meta_type": MetaType.NONE, "file_encoding": "utf-8", "overwrite": False}
    problems = generate(
        config=Config.from_sources(file, document_source=folder / "openapi.json", output_path=folder / name, **sources)
    )
    assert [str(problem.header).split(" parsing ")[-1].split(" within ")[0] for problem in problems] == NOT_GENERATED
    sys.path.insert(0, str(folder))
    yield name
    sys.path.remove(str(folder))


class Generated:
    """The generated client of one caller."""

    def __init__(self, package: str, http: Http, **claims: Any) -> None:
        self._package = package
        transport = httpx.ASGITransport(build_api(http.gateway))
        client = importlib.import_module(package).AuthenticatedClient
        self._client = client("http://platform", token(**claims), httpx_args={"transport": transport})

    async def call(self, operation: str, *path: str, **options: Any) -> Any:
        """Call an operation by its tag and name."""
        module = importlib.import_module(f"{self._package}.api.{operation}")
        return await module.asyncio_detailed(*path, client=self._client, **options)

    def make(self, model: str, **fields: Any) -> Any:
        """Make a body."""
        return getattr(importlib.import_module(f"{self._package}.models"), model).from_dict(fields)


@simulated
async def test_a_generated_client_sees_a_success_and_every_sort_of_refusal(package: str) -> None:
    http = await Http.start()
    alice, bob = Generated(package, http), Generated(package, http, user="bob")
    wish = alice.make("SendBody", kind="lucky", total_fen=1_000, count=1, greeting="恭喜发财")
    sent = await alice.call("packets.send_packet", body=wish, idempotency_key="k")
    assert (sent.status_code, sent.parsed.greeting, sent.parsed.state.value) == (201, "恭喜发财", "open")
    again = await alice.call("packets.send_packet", body=wish, idempotency_key="k")
    assert again.headers["idempotent-replayed"] == "true"
    packet_id = sent.parsed.packet_id
    nothing = bob.make("GrabBody")
    share = await bob.call("packets.grab", packet_id, body=nothing)
    assert share.parsed.amount_fen == 1_000

    async def refusal(caller: Generated, operation: str, *path: str, **options: Any) -> tuple[int, str, bool]:
        answer = await caller.call(operation, *path, **options)
        assert type(answer.parsed).__name__ == "Problem", answer
        assert answer.parsed.request_id == answer.headers["x-request-id"]
        return answer.parsed.status, answer.parsed.code, answer.parsed.retryable

    assert await refusal(alice, "packets.grab", packet_id, body=nothing) == (409, "drained", False)
    wish.total_fen = 2_000
    reused = await refusal(alice, "packets.send_packet", body=wish, idempotency_key="k")
    assert reused == (422, "idempotency_key_reused", False)
    wish.total_fen = -1
    bad = await alice.call("packets.send_packet", body=wish, idempotency_key="k2")
    assert (bad.parsed.code, list(bad.parsed.fields.to_dict())) == ("invalid", ["total_fen"])
    assert await refusal(bob, "packets.read_packet", "nowhere") == (404, "packet_not_found", False)
    assert await refusal(bob, "operator.read_audit") == (403, "forbidden", False)
    stranger = Generated(package, http, user="carol")
    stranger._client.token = "nonsense"
    assert await refusal(stranger, "wallet.read_wallet") == (401, "unauthenticated", False)
    assert await refusal(bob, "wallet.read_wallet", x_acting_user="carol") == (403, "forbidden", False)
    operator = Generated(package, http, scope="operator")
    await operator.call("operator.set_sends_lever", body=operator.make("LeverBody", paused=True))
    wish.total_fen = 2_000
    paused = await alice.call("packets.send_packet", body=wish, idempotency_key="k3")
    assert (paused.parsed.code, paused.parsed.retryable, paused.parsed.retry_after_ms) == ("paused", True, 1_000)


@simulated
async def test_a_generated_client_acts_for_a_user_as_a_gateway_and_reads_what_became_of_a_batch(package: str) -> None:
    http = await Http.start()
    packet = await http.send(count=1)
    gateway = Generated(package, http, scope="gateway")
    wallet = await gateway.call("wallet.read_wallet", x_acting_user="carol")
    assert wallet.parsed.available_fen == 10_000_000
    items = [{"packet_id": packet["packet_id"], "user": user} for user in ("bob", "小明")]
    batch = await gateway.call("packets.grab_batch", body=gateway.make("GrabItems", grabs=items))
    won, lost = batch.parsed.results
    assert (won.amount_fen, won.rank, won.replayed, lost.code) == (1_000, 1, False, "drained")
