"""The contract: what the OpenAPI document says, and what the app does, are one."""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from cluster.gateway.problems import codes
from tests.simulation.contract import closed
from tests.unit.door import ANSWERS, JUDGED_BY_PARTS, REQUESTS, ROUTE_OF, Door, written


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    opened = Door(tmp_path / "photos")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return written()


# The document is whole.


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the operations by their names, each with its method and path."""
    return {
        operation["operationId"]: operation | {"method": method.upper(), "path": path}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_route_stands_in_the_contract_under_a_name_of_its_own(document: dict[str, Any]) -> None:
    assert sorted(operations(document)) == sorted(ROUTE_OF)


def test_every_code_is_one_of_an_operation_or_of_no_operation_at_all(document: dict[str, Any]) -> None:
    elsewhere = {"route_not_found", "method_not_allowed", "already_in_progress"}
    assert set(document["components"]["examples"]) | elsewhere == set(codes())


@pytest.mark.parametrize("name", ROUTE_OF)
def test_an_operation_says_who_may_call_it_and_how_it_refuses(name: str, document: dict[str, Any]) -> None:
    operation = operations(document)[name]
    scopes = [scope for one in operation["security"] for scope in one["token"]]
    assert scopes == list(ROUTE_OF[name].callers.value)
    refs = [parameter.get("$ref", "") for parameter in operation["parameters"]]
    assert ("#/components/parameters/ActingUser" in refs) is ("user" in scopes)
    for status, told in operation["responses"].items():
        assert {"X-Request-Id", "X-Served-By"} <= set(told["headers"])
        if status >= "400":
            assert told["content"]["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert ("Retry-After" in told["headers"]) is (status in ("429", "503"))


def test_every_body_has_an_example_and_every_answer_a_shape(document: dict[str, Any]) -> None:
    of = operations(document)
    assert {name for name, told in of.items() if "requestBody" in told} - {"upload_photo"} == set(REQUESTS)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_shown_has_the_shape_that_is_told(name: str, document: dict[str, Any]) -> None:
    responses = operations(document)[name]["responses"]
    [told] = [response for status, response in responses.items() if status < "400"]
    shape = told["content"]["application/json"]["schema"] | {"components": closed(document)["components"]}
    Draft202012Validator(shape).validate(ANSWERS[name])


# Examples and bounds, tried.


def prepared(door: Door, name: str, path: str) -> tuple[str, dict[str, str]]:
    """Get a system ready for an operation's examples; return who asks, and the ids by parameter."""
    known = door.known(path)
    if name == "write_note":
        assert door.ask("POST", f"/v1/packets/{known['packet_id']}/grabs", user="bob").status_code == 200
    if name == "pay_photo":
        band = {"price_fen_min": 100, "price_fen_max": 100}
        known["photo_id"] = door.run(door.site.upload("cheap", band=band)).json()["photo_id"]
    return "bob" if name in ("write_note", "pay_photo") else "alice", known


def asking(door: Door, document: dict[str, Any], name: str) -> Any:
    """Return what asks an operation with a body."""
    operation = operations(document)[name]
    user, known = prepared(door, name, operation["path"])
    scope, *_ = ROUTE_OF[name].callers.value
    [kind] = operation["requestBody"]["content"]

    def ask(body: Any, key: str) -> httpx.Response:
        sent = {"content": json.dumps(body), "headers": {"content-type": kind}}
        return door.ask(
            operation["method"], operation["path"].format_map(known), user=user, scope=scope, key=key, **sent
        )

    return ask


@pytest.mark.parametrize("name", REQUESTS)
def test_an_example_is_a_request_that_is_granted(name: str, document: dict[str, Any], door: Door) -> None:
    ask = asking(door, document, name)
    for what, body in REQUESTS[name].items():
        response = ask(body, what)
        assert response.is_success, (what, response.text)


BOUNDED = sorted(set(REQUESTS) - JUDGED_BY_PARTS - {"pay_photo"})
"""Of a photo's prices only the one that is shown is taken."""


COMPANIONS: dict[str, dict[str, Any]] = {
    "sender_nonce": {"commitment_id": "none"},
    "share_fen_min": {"share_fen_max": 20_000},
    "share_fen_max": {"share_fen_min": 1},
}
"""What some fields are taken with alone; the refusal may name either."""


@pytest.mark.parametrize("name", BOUNDED)
def test_a_bound_that_is_told_is_where_the_refusal_begins(name: str, document: dict[str, Any], door: Door) -> None:
    ask = asking(door, document, name)
    serial = itertools.count()
    for field, told, body in bounds(document, name):
        companions = COMPANIONS.get(field, {})
        for inside, outside in edges(told):
            refused = ask(changed(body | companions, field, outside), f"k{next(serial)}").json()
            assert refused["code"] == "invalid", (field, outside)
            named = refused["fields"].keys() & {field, *companions}
            assert named, (field, outside, refused)
            near = ask(changed(body | companions, field, inside), f"k{next(serial)}").json().get("fields", {})
            assert all(near.get(one) != refused["fields"][one] for one in named), (field, inside)


def bounds(document: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield the fields of an operation's body, by dotted name, with their keywords and an example that has them."""
    content = operations(document)[name]["requestBody"]["content"]["application/json"]
    shapes = document["components"]["schemas"]
    examples = list(REQUESTS[name].values())
    for field, told in fields_of(shapes, content["schema"]):
        first = field.partition(".")[0]
        yield field, told, next((body for body in reversed(examples) if first in body), examples[-1])


def fields_of(shapes: dict[str, Any], schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    [schema] = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    shape = shapes[schema["$ref"].rpartition("/")[2]]
    for name, told in shape["properties"].items():
        [field] = [one for one in told.get("anyOf", [told]) if one.get("type") != "null"]
        yield name, field
        if "$ref" in field.get("items", {}):
            yield from ((f"{name}.0.{inner}", of) for inner, of in fields_of(shapes, field["items"]))


def edges(told: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield what lies on each bound of a field, and what lies beyond it."""
    for bound, outwards in (("minimum", -1), ("maximum", 1)):
        if bound in told:
            yield told[bound], told[bound] + outwards
    for bound, outwards in (("minLength", -1), ("maxLength", 1)):
        if bound in told:
            yield "好" * told[bound], "好" * (told[bound] + outwards)


def changed(body: Any, field: str, value: Any) -> Any:
    """Return a body with another value of a field, by dotted name."""
    name, _, rest = field.partition(".")
    if isinstance(body, list):
        return [changed(one, rest, value) if place == int(name) else one for place, one in enumerate(body)]
    return body | {name: changed(body[name], rest, value) if rest else value}


# The pages.


def test_the_pages_load_nothing_from_anywhere_else(door: Door) -> None:
    page = door.ask("GET", "/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert "//" not in page.text.replace("<!DOCTYPE html>", "")
    named = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(named) == 4
    for name in set(named) - {"data:,"}:
        part = door.ask("GET", f"/{name}")
        assert part.status_code == 200
        assert part.headers["content-type"].startswith("text/css" if name.endswith(".css") else "text/javascript")
        assert len(part.content) == int(part.headers["content-length"]) > 100
    assert "validatorUrl: null" in door.ask("GET", "/docs/start.js").text
    assert door.ask("GET", "/docs/redoc.standalone.js").status_code == 404
    assert door.ask("GET", "/redoc").status_code == 404
