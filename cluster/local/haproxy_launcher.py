"""HAProxy launcher: how HAProxy stands to the network, written down for the process that starts it."""

import json
import shlex
import sys
from pathlib import Path

from cluster.config import Settings
from cluster.local.haproxy import HAProxyRules

LONG_PATHS = ("/v1/grabs/stream", "/v1/photos")
"""Routes whose bodies take longer than others', and have deadlines of their own in the gateway."""

CLOSED_PATH = "/v1/"
"""No door below it is public, so who brings no token at all is told so by HAProxy, at next to no cost."""

QUIET_SPARE_MS = 5_000
_UNAVAILABLE = "The outcome is not known; repeat the request with the same key."


def rules_of(settings: Settings) -> HAProxyRules:
    """Return what HAProxy is told beside Serve's own configuration."""
    door, timing = settings.door, settings.timing
    return HAProxyRules(
        connections_max=door.connections_max,
        other_connections_max=door.other_connections_max,
        head_ms=door.head_ms,
        keep_alive_ms=door.keep_alive_ms,
        body_ms=timing.body_ms,
        # A stream may be quiet both ways until it is old, and then answers what is under way.
        quiet_ms=settings.stream.stream_age_ms_max + timing.request_deadline_ms + QUIET_SPARE_MS,
        long_paths=LONG_PATHS,
        refusals=_refusals(),
        closed_path=CLOSED_PATH,
    )


def _refusals() -> dict[str, str]:
    from cluster.gateway.auth import NO_TOKEN
    from cluster.gateway.problems import Problem, answer

    told = {"400": Problem("malformed"), "408": Problem("too_slow"), "500": Problem("internal", _UNAVAILABLE)}
    told["401"] = Problem("unauthenticated", NO_TOKEN)
    told |= dict.fromkeys(("502", "503", "504"), Problem("gateway_unavailable", _UNAVAILABLE))
    return {status: _body(answer(problem, "%REQUEST_ID%")[2], int(status)) for status, problem in told.items()}


def _body(told: bytes, status: int) -> str:
    """Return a problem with the status that HAProxy gives."""
    return json.dumps(json.loads(told) | {"status": status}, ensure_ascii=False, separators=(",", ":"))


def write_launcher(path: Path, settings: Settings) -> None:
    """Write what RAY_SERVE_HAPROXY_BINARY_PATH names: the program that Serve starts in HAProxy's place."""
    rules = json.dumps(rules_of(settings)._asdict())
    command = f"exec {shlex.quote(sys.executable)} -m cluster.local.haproxy {shlex.quote(rules)}"
    draft = path.with_suffix(".new")
    draft.write_text(f'#!/bin/sh\n{command} "$@"\n')
    draft.chmod(0o700)
    draft.replace(path)
