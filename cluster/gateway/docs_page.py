"""Pages: the OpenAPI document, and Swagger UI to read it with, which loads nothing from anywhere else.

Swagger UI's files come with the `fastapi-offline` wheel. The browser is told to load from here alone (`_POLICY`), and
Swagger UI not to show the document to a validator on the internet.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

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
_KEEP = {"cache-control": "max-age=3600"}


class Pages:
    """The pages of one app."""

    def __init__(self, document: Callable[[], dict[str, Any]]) -> None:
        """`document` takes a quarter of a second, so it is written when the app starts, before anybody is served."""
        self._document = document
        self._written = b""

    @asynccontextmanager
    async def lifespan(self, api: FastAPI) -> AsyncIterator[None]:
        """Get ready while the app starts."""
        self._write()
        yield

    def add_to(self, api: FastAPI) -> None:
        """Serve the document at /openapi.json, and its pages at /docs."""
        api.add_route("/openapi.json", self._openapi, include_in_schema=False)
        api.add_route("/docs", self._docs, include_in_schema=False)
        api.add_route("/docs/{name}", self._asset, include_in_schema=False)

    def _write(self) -> bytes:
        self._written = self._written or msgspec.json.encode(self._document())
        return self._written

    async def _openapi(self, request: Request) -> Response:
        return Response(self._write(), media_type="application/json")

    async def _docs(self, request: Request) -> Response:
        return HTMLResponse(_PAGE, headers={"content-security-policy": _POLICY})

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name == "start.js":
            return Response(_START, media_type="text/javascript", headers=_KEEP)
        if name not in _ASSETS:
            raise HTTPException(404)
        return FileResponse(_folder() / name, media_type=_ASSETS[name], headers=_KEEP)


def _folder() -> Path:
    return Path(str(files("fastapi_offline"))) / "static"
