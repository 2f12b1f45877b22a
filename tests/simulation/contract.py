"""Contract: judges every answer that a test gets by the OpenAPI document, whatever the test itself looks for."""

import copy
import re
from functools import lru_cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from cluster.config import load
from cluster.gateway.openapi import document
from cluster.gateway.problems import MEDIA_TYPE
from cluster.gateway.routing import ROUTES, RouteTable

SAID_IN_HEADERS = {"location", "idempotent-replayed", "retry-after", "www-authenticate"}
"""Headers that a client may have to read: the document names those that an operation sends."""

JUDGED_BYTES_MAX = 20_000
"""Of a body that is looked at field by field: greater ones are more of the same."""


def closed(written: dict[str, Any]) -> dict[str, Any]:
    """Return a document whose shapes have the fields that it names and no others."""
    written = copy.deepcopy(written)
    for shape in written["components"]["schemas"].values():
        if "properties" in shape:
            shape.setdefault("additionalProperties", False)
    return written


class Contract:
    """The document, ready to judge by."""

    def __init__(self, written: dict[str, Any]) -> None:
        self._written = closed(written)
        self._paths = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), path) for path in written["paths"]]
        self._validators: dict[str, Draft202012Validator] = {}

    def judge(self, response: httpx.Response) -> None:
        """Assert that a response is one that the document tells of; what is no operation of it is not looked at."""
        request = response.request
        path = next((path for pattern, path in self._paths if pattern.fullmatch(request.url.path)), "")
        operation = self._written["paths"].get(path, {}).get(request.method.lower())
        if operation is None or (response.status_code == 404 and response.json()["code"] == "route_not_found"):
            return
        name, status = operation["operationId"], str(response.status_code)
        assert status in operation["responses"], f"{name} answers {status}: {response.text}"
        told = operation["responses"][status]
        sent = {name for name in response.headers if name in SAID_IN_HEADERS}
        named = {header.lower(): self._header(of) for header, of in told["headers"].items()}
        required = {header for header, of in named.items() if of.get("required")}
        assert required <= set(response.headers), f"{name} answers {status} without {required}"
        assert sent <= set(named), f"{name} answers {status} with {sent}"
        kind = response.headers["content-type"].partition(";")[0]
        assert kind in told["content"], f"{name} answers {status} as {kind}"
        content = told["content"][kind]
        if kind == MEDIA_TYPE:
            assert response.json()["code"] in content["examples"], f"{name} answers {response.text}"
        if kind.endswith("json") and len(response.content) <= JUDGED_BYTES_MAX and kind != "application/x-ndjson":
            errors = list(self._validator(name, status, content["schema"]).iter_errors(response.json()))
            assert not errors, f"{name} answers {status}: {errors}"

    def _header(self, reference: dict[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = self._written["components"]["headers"][reference["$ref"].rpartition("/")[2]]
        return found

    def _validator(self, name: str, status: str, schema: dict[str, Any]) -> Draft202012Validator:
        key = f"{name} {status}"
        if key not in self._validators:
            self._validators[key] = Draft202012Validator(schema | {"components": self._written["components"]})
        return self._validators[key]


@lru_cache(maxsize=1)
def contract() -> Contract:
    """Return the contract of a system that serves all there is."""
    settings = load(sandbox=True, photos_url="/nowhere")
    return Contract(document(RouteTable(ROUTES, settings), settings))
