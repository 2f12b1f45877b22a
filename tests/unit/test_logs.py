"""Logs: every line is one JSON object that says where it comes from, and no secret is in any of them."""

import json
import logging
from typing import Any

import pytest

from cluster.observability.logs import REFUSED, REQUEST, TEXT_CHARS_MAX, formatter

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZWkifQ.c2lnbmF0dXJl"


def line(message: str, *arguments: object, extra: dict[str, Any] | None = None, failure: Any = None) -> dict[str, Any]:
    """Log one record through our formatter and read it as a program would."""
    logger = logging.Logger("cluster.test")
    record = logger.makeRecord("cluster.test", logging.WARNING, __file__, 1, message, arguments, failure, extra=extra)
    text = formatter("shard", host="packet-shard-0").format(record)
    assert "\n" not in text, "one record is one line"
    return dict(json.loads(text))


def test_a_warning_of_the_standard_library_becomes_a_line_with_its_place() -> None:
    written = line("%s has no %s for now", "packet-shard-0", "packet-003", extra={"stream": "packet-003", "epoch": 7})
    assert written["event"] == "packet-shard-0 has no packet-003 for now"
    assert (written["component"], written["host"], written["stream"]) == ("shard", "packet-shard-0", "packet-003")
    assert (written["epoch"], written["level"], written["logger"]) == (7, "warning", "cluster.test")
    assert written["at"].endswith("Z")


def test_a_failure_keeps_its_traceback_in_its_one_line() -> None:
    try:
        raise ValueError("no such share")
    except ValueError as failure:
        written = line("failed", failure=(type(failure), failure, failure.__traceback__))
    assert "ValueError: no such share" in written["exception"]


def test_a_line_names_the_request_that_is_served_and_none_otherwise() -> None:
    assert "request_id" not in line("calm")
    token = REQUEST.set({"hongbao.request_id": "r-1"})
    try:
        assert line("failed")["request_id"] == "r-1"
    finally:
        REQUEST.reset(token)


@pytest.mark.parametrize(
    "name",
    ["token", "operator_token", "Authorization", "passphrase", "password", "ray_token", "seed", "platform_key",
     "idempotency_key", "client_secret", "Set-Cookie", "private"],
)  # fmt: skip
def test_a_field_of_a_secret_name_is_refused_however_deep(name: str) -> None:
    written = line("x", extra={name: "hunter2", "deep": [{"in": {name: "hunter2"}}]})
    assert written[name] == REFUSED
    assert "hunter2" not in json.dumps(written)


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {JWT}",
        "bearer hunter2.abc",
        f"the token was {JWT}",
        "redis://user:hunter2@store:6379/0 does not answer",
        "rediss://:hunter2@store does not answer",
        '{"passphrase": "hunter2"}',
        "passphrase=hunter2 is wrong",
        "{'password': 'hunter2'}",
    ],
)
def test_a_secret_within_text_is_cut_out_wherever_it_stands(text: str) -> None:
    failure = ValueError(text)
    for written in (line(text), line("%s", text), line("x", extra={"seen": {"deep": text}})):
        assert "hunter2" not in json.dumps(written)
        assert JWT not in json.dumps(written)
    assert "hunter2" not in json.dumps(line("x", failure=(ValueError, failure, None)))


def test_what_is_no_secret_stays_readable() -> None:
    text = "wallet-003: 12 fen at http://127.0.0.1:8000/v1/audit, key 3 of 5"
    assert line(text)["event"] == text


def test_extra_cannot_put_a_line_into_another_process_or_request() -> None:
    written = line("x", extra={"component": "gateway", "host": "other", "request_id": "forged"})
    assert (written["component"], written["host"]) == ("shard", "packet-shard-0")
    assert "request_id" not in written


def test_a_huge_text_is_bounded_and_an_object_is_written_as_its_words() -> None:
    written = line("x" * 100_000, extra={"thing": ValueError("odd"), "many": {1, 2}})
    assert len(written["event"]) == TEXT_CHARS_MAX
    assert written["thing"] == "odd"
