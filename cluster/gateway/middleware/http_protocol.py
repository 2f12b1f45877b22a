"""Protocol: how HTTP's bytes are read and written in the replicas, uvicorn's own but for what it says by itself.

What is not HTTP is told as a problem with a request id, like every other refusal. No answer names the server software.
An upgrade is ignored, as HTTP allows: nothing here speaks WebSocket. `cluster.gateway.middleware.serve_hooks` puts it
in.
"""

import uuid
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from cluster.gateway.problems import Problem, answer

_SERVER = (b"server", b"uvicorn")


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        if _SERVER in config.encoded_headers:  # from these uvicorn makes its headers, once a second
            config.encoded_headers = [header for header in config.encoded_headers if header != _SERVER]
            server_state.default_headers = [header for header in server_state.default_headers if header != _SERVER]

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; where an answer has begun, it is cut instead."""
        if self.cycle is None or not self.cycle.response_started or self.cycle.response_complete:
            request_id = uuid.uuid4().hex
            status, headers, body = answer(Problem("malformed", f"{msg} Nothing was done."), request_id)
            more = [(b"x-request-id", request_id.encode()), (b"connection", b"close")]
            lines = [b"%s: %s\r\n" % header for header in (*self.server_state.default_headers, *headers, *more)]
            self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", body]))
        self.transport.close()

    def _should_upgrade_to_ws(self) -> bool:
        return False
