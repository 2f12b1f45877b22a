"""Problems: one table from code to status, complete."""

import msgspec
import pytest

from actors.refusals import Refusal
from cluster.gateway import problems
from cluster.gateway.problems import Problem, answer, refused

INTERNAL = {Refusal.OUT_OF_ORDER, Refusal.HOLD_NOT_FOUND}
"""Refusals between shards, and of routes that do not exist yet."""


@pytest.mark.parametrize("code", [code for code in Refusal if code not in INTERNAL])
def test_every_refusal_that_a_client_can_meet_has_a_status(code: Refusal) -> None:
    status, headers, _ = answer(refused(code), "r-1")
    assert 400 <= status < 600
    assert dict(headers)[b"content-type"] == b"application/problem+json"


CONTRACT = {
    "malformed": 400,
    "idempotency_key_missing": 400,
    "unauthenticated": 401,
    "insufficient_funds": 402,
    "forbidden": 403,
    "packet_not_found": 404,
    "drained": 409,
    "expired": 409,
    "already_in_progress": 409,
    "too_large": 413,
    "invalid": 422,
    "idempotency_key_reused": 422,
    "overloaded": 429,
    "journal_unavailable": 503,
    "shard_unavailable": 503,
    "paused": 503,
    "seed_unknown": 503,
}


@pytest.mark.parametrize("code", CONTRACT)
def test_every_code_of_the_contract_has_its_status_and_shape(code: str) -> None:
    status, listed, content = answer(Problem(code, "do this", {"field": "why"}), "r-1")
    headers, body = dict(listed), msgspec.json.decode(content)
    assert status == CONTRACT[code] == body["status"]
    assert body["code"] == code
    assert body["request_id"] == "r-1"
    assert body["detail"] == "do this"
    assert body["fields"] == {"field": "why"}
    assert body["title"]
    assert body["type"].endswith(code)
    retry = CONTRACT[code] in (429, 503)
    assert body["retryable"] is (retry or code == "already_in_progress")
    assert ("retry_after_ms" in body) is retry is (b"retry-after" in headers)
    if retry:
        wait_s = 60 if code == "rate_limited" else 1
        assert (headers[b"retry-after"], body["retry_after_ms"]) == (str(wait_s).encode(), wait_s * 1_000)


def test_the_table_promises_nothing_retryable_that_it_does_not_hold() -> None:
    assert set(problems._TABLE) >= problems._RETRYABLE
