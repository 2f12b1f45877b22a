"""Logs: every line of our processes is one JSON object on stderr, which Ray keeps in its session's folder.

`log_json` is called once where a process begins. Modules log through `logging.getLogger(__name__)` as before; fields
come from `extra={"stream": ...}`, from the process (`component`, `host`), and, while a request is served, its
`request_id`. A secret never gets out: fields of known names are refused, tokens and passwords within text are cut.
"""

import logging
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Final

import structlog

RESERVED: Final = frozenset({"component", "host", "level", "logger", "event", "at", "request_id"})
"""Fields that every line may have; `extra` cannot overwrite them (a log line is evidence)."""

SECRET_FIELDS: Final = re.compile(
    r"(?i)token|secret|password|passphrase|authorization|cookie|private|signature|seed|_key$"
)
"""Names of fields whose values never get out. `idempotency_key` is one: who knows it may repeat a send."""

REFUSED: Final = "(refused)"

_SECRET_TEXTS: Final = (
    (re.compile(r"(?i)(bearer\s+)[\w.~+/=-]+"), r"\1" + REFUSED),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), REFUSED),  # a JWT wherever it stands
    (re.compile(r"(\b\w+://)[^\s/@]*@"), r"\1" + REFUSED + "@"),  # user and password of a URL
    (
        re.compile(r"""(?i)(["']?\b(?:passphrase|password|secret|token)["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;}&]+)"""),
        r"\1" + REFUSED,
    ),
)

TEXT_CHARS_MAX: Final = 8_192
"""Of one field: a traceback or a body within a message must not become a line of megabytes."""

REQUEST: ContextVar[Mapping[str, Any] | None] = ContextVar("request", default=None)
"""The ASGI scope of the request that is being served. It holds `hongbao.request_id`, and `hongbao.over` once it is."""

_QUIET: Final = ("asyncio", "uvicorn.access", "redis", "filelock")

Line = MutableMapping[str, Any]


def refuse_secrets(logger: Any, method: str, line: Line) -> Line:
    """Take out what must not be read: values of secret fields, however deep, and secrets within text."""
    return {name: REFUSED if _is_secret(name) else _clean(value) for name, value in line.items()}


def _is_secret(name: Any) -> bool:
    return isinstance(name, str) and SECRET_FIELDS.search(name) is not None


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        value = value[: 2 * TEXT_CHARS_MAX]  # a search costs up to its length squared
        for pattern, instead in _SECRET_TEXTS:
            value = pattern.sub(instead, value)
        return value if len(value) <= TEXT_CHARS_MAX else value[: TEXT_CHARS_MAX - 1] + "…"
    if isinstance(value, Mapping):
        return {str(name): REFUSED if _is_secret(name) else _clean(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(inner) for inner in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _clean(str(value))


def add_request(logger: Any, method: str, line: Line) -> Line:
    """Name the request that is being served."""
    scope = REQUEST.get()
    # A task that a request began (a batcher's) keeps its context when the request is long over.
    if scope is not None and "hongbao.over" not in scope and (request_id := scope.get("hongbao.request_id")):
        line["request_id"] = request_id
    return line


def add_extra(logger: Any, method: str, line: Line) -> Line:
    """Take the fields of `extra` in."""
    record: logging.LogRecord | None = line.get("_record")
    if record is not None:
        known = vars(logging.makeLogRecord({})).keys()
        fields = {name: value for name, value in vars(record).items() if name not in known | {"message", "asctime"}}
        line.update({name: value for name, value in fields.items() if name not in RESERVED and name[0] != "_"})
    return line


def formatter(component: str, **fields: str) -> logging.Formatter:
    """Return what turns a record of the standard library into a line of this process."""

    def add_process(logger: Any, method: str, line: Line) -> Line:
        return {"component": component, **fields, **line}

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            add_extra,
            add_request,
            add_process,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            refuse_secrets,
            structlog.processors.JSONRenderer(ensure_ascii=False, sort_keys=False),
        ],
    )


def log_json(component: str, *, quiet: Iterable[str] = _QUIET, **fields: str) -> None:
    """Make this process log JSON lines to stderr, warnings and worse. Called again, the last call counts.

    `quiet`: loggers of libraries that speak only of errors. Ray's own and Serve's keep their own handlers and files.
    In a replica Serve puts a logger of its own in the place of `sys.stderr`, which takes every line for an INFO and
    drops it: the process's own stderr is meant, the file of the worker in Ray's session.
    """
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(formatter(component, **fields))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    for name in quiet:
        logging.getLogger(name).setLevel(logging.ERROR)
