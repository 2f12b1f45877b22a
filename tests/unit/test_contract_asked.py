"""The contract, asked by schemathesis: whatever it makes up of the document is answered as the document says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.generation.feedback import NO_FEEDBACK
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi import checks

from tests.simulation.contract import closed
from tests.simulation.http import token
from tests.unit.door import JUDGED_BY_PARTS, ROUTE_OF, Door, written

EXAMPLES_MAX = 12
"""Requests to each operation; the same ones in every run."""

CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
CONFIG = SchemathesisConfig.from_dict({"generation": {"with-security-parameters": False}})


@schemathesis.serializer("application/x-ndjson")
def one_line(context: Any, value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


@schemathesis.deserializer("application/x-ndjson")
def first_line(context: Any, response: Any) -> Any:
    return json.loads(response.content.partition(b"\n")[0])


@schemathesis.deserializer("image/jpeg")
def picture(context: Any, response: Any) -> Any:
    return response.content.decode("latin-1")


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    opened = Door(tmp_path / "photos")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def schema() -> Any:
    return schemathesis.openapi.from_dict(closed(written()), config=CONFIG)


def send(door: Door, case: Any, scope: str) -> httpx.Response:
    """Send what schemathesis made up, with a token of that scope; "": with none."""
    sent = requests.Request(**case.as_transport_kwargs(base_url="http://platform")).prepare()
    headers = [(_bytes(name), _bytes(value)) for name, value in sent.headers.items()]
    if scope:
        headers.append((b"authorization", f"Bearer {token(scope=scope)}".encode()))
    content: Any = sent.body
    request = httpx.Request(sent.method or "", sent.url or "", headers=headers, content=content)
    response: httpx.Response = door.run(door.site.http.client.send(request))
    return response


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")


@pytest.mark.parametrize("name", ROUTE_OF)
def test_whatever_is_asked_is_answered_as_the_document_says(name: str, schema: Any, door: Door) -> None:
    operation = schema.find_operation_by_id(name)
    known = door.known(operation.path)
    scopes = ROUTE_OF[name].callers.value
    modes = {GenerationMode.POSITIVE: CHECKS, GenerationMode.NEGATIVE: [*CHECKS, checks.negative_data_rejection]}
    if name in JUDGED_BY_PARTS or not operation.definition.raw.get("parameters", operation.body):
        modes[GenerationMode.NEGATIVE] = CHECKS

    def cases(mode: GenerationMode) -> Any:
        return st.tuples(st.just(mode), operation.as_strategy(generation_mode=mode, feedback=NO_FEEDBACK))

    @settings(
        max_examples=EXAMPLES_MAX,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        made=st.one_of(*map(cases, modes)), real=st.booleans(), scope=st.sampled_from([*scopes, *scopes, "user", ""])
    )
    def judge(made: Any, real: bool, scope: str) -> None:
        mode, case = made
        if mode is GenerationMode.POSITIVE and real:
            case.path_parameters = {**case.path_parameters, **{key: known[key] for key in case.path_parameters}}
        if "X-Acting-User" in case.headers and scope == "user":
            scope = "gateway"
        response = send(door, case, scope)
        if response.status_code >= 400:
            told = operation.definition.raw["responses"][str(response.status_code)]
            assert response.json()["code"] in told["content"]["application/problem+json"]["examples"]
        case.validate_response(response, checks=modes[mode] if response.is_success else CHECKS)

    judge()
