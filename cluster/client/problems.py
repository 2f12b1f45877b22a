"""Problems: a request that did not succeed, as a value (RFC 9457 `application/problem+json`, or no answer at all)."""

from typing import NamedTuple

import msgspec

RETRYABLE_STATUSES = frozenset({404, 408, 429, 500, 502, 503, 504})
"""Of answers without problem+json: they come from a proxy in front, and the same request may pass."""

UNKNOWN_CODES = frozenset({"journal_unavailable", "shard_unavailable", "gateway_unavailable", "internal", "no_answer"})
"""Of an item or a line: an effect may hide behind them."""

RETRYABLE_ITEM_CODES = frozenset(
    {"overloaded", "rate_limited", "already_in_progress", "paused", "seed_unknown"} | UNKNOWN_CODES
)
NO_ANSWER = "no_answer"
BROKEN_CONTRACT = "broken_contract"


class ApiProblem(NamedTuple):
    """A request that did not succeed. Status 0: no answer came. Switch on `code`; quote `request_id` in a report."""

    status: int
    code: str
    retryable: bool
    retry_after_ms: int = 0
    unknown: bool = False
    """The request, in this or an earlier attempt, may have taken effect."""
    request_id: str = ""
    detail: str = ""

    @property
    def told(self) -> str:
        """What a sentence about the address says: that it does not answer, or what it answers."""
        return f"answers {self.code} (status {self.status})" if self.status else "does not answer"


class _ProblemBody(msgspec.Struct):
    code: str
    retryable: bool = False
    retry_after_ms: int = 0
    request_id: str = ""
    detail: str = ""


_PROBLEM = msgspec.json.Decoder(_ProblemBody)


def problem_of(status: int, content: bytes, retry_after: str) -> ApiProblem:
    """Read a refusal; `retry_after` is the header, empty if there is none."""
    try:
        body = _PROBLEM.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        body = _ProblemBody(code=f"http_{status}", retryable=status in RETRYABLE_STATUSES)
    retry_after_ms = body.retry_after_ms
    if not retry_after_ms and retry_after.isdecimal():
        retry_after_ms = int(retry_after[:9]) * 1_000
    # A 4xx is decided before anything happens; behind a 5xx an effect may hide.
    unknown = status >= 500
    return ApiProblem(status, body.code, body.retryable, retry_after_ms, unknown, body.request_id, body.detail)
