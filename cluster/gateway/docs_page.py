"""Pages: the OpenAPI document, and Swagger UI to read it with, which loads nothing from anywhere else.

Swagger UI's files come with the `fastapi-offline` wheel. The browser is told to load from here alone (`_POLICY`), and
Swagger UI not to show the document to a validator on the internet.
"""

import asyncio
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from cluster.gateway.auth import Callers
from cluster.gateway.middleware.overload_control import LAST
from cluster.gateway.problems import Answer, Problem
from cluster.gateway.replica import Replica
from cluster.gateway.request import Request
from cluster.gateway.route import Route

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<title>hongbao</title>
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  docExpansion: "list",
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_KEPT = (b"cache-control", b"max-age=3600")


class Pages:
    """The pages of one app."""

    def __init__(self, document: Callable[[], dict[str, Any]]) -> None:
        """`document` takes a while, so it is written when the app starts, before anybody is served."""
        self._document = document
        self._written = b""
        self.routes = (
            Route("GET", "/openapi.json", self._openapi, Callers.PUBLIC, LAST),
            Route("GET", "/docs", self._docs, Callers.PUBLIC, LAST),
            Route("GET", "/docs/{name}", self._asset, Callers.PUBLIC, LAST),
        )

    def write(self) -> bytes:
        """Write the document, once."""
        self._written = self._written or msgspec.json.encode(self._document())
        return self._written

    async def _openapi(self, replica: Replica, request: Request) -> Answer:
        return _page(self.write(), "application/json")

    async def _docs(self, replica: Replica, request: Request) -> Answer:
        return _page(_PAGE.encode(), "text/html; charset=utf-8", (b"content-security-policy", _POLICY.encode()))

    async def _asset(self, replica: Replica, request: Request) -> Answer:
        if request.name == "start.js":
            return _page(_START.encode(), "text/javascript; charset=utf-8", _KEPT)
        if request.name not in _ASSETS:
            raise Problem("route_not_found", f"{request.scope['method']} {request.scope['path']}: Not Found")
        content = await asyncio.to_thread((_folder() / request.name).read_bytes)
        return _page(content, f"{_ASSETS[request.name]}; charset=utf-8", _KEPT)


def _page(content: bytes, kind: str, *more: tuple[bytes, bytes]) -> Answer:
    length = b"%d" % len(content)
    return 200, [(b"content-type", kind.encode()), (b"content-length", length), *more], content


def _folder() -> Path:
    return Path(str(files("fastapi_offline"))) / "static"
