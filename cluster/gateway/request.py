"""Request: one HTTP request on its way to its handler: who asks, under which key, with what."""

from typing import Any

from actors.kernel.names import User
from cluster.gateway.middleware.admission import Caller
from cluster.gateway.raw_http import BodyLimit, Headers, has_body, read_body
from cluster.tokens import Claims


class Request:
    """One request. The dispatcher fills `key`, `query` and `body` as the route asks for them."""

    __slots__ = ("_limit", "_until_s", "body", "caller", "headers", "id", "key", "name", "query", "receive", "scope")

    def __init__(
        self,
        scope: Any,
        receive: Any,
        headers: Headers,
        *,
        request_id: str,
        name: str,
        caller: Caller,
        limit: BodyLimit,
        until_s: float = 0.0,
    ) -> None:
        """`name`: the part of the path that the route leaves open; `until_s`: when the body must be there."""
        self.scope = scope
        self.receive = receive
        self.headers = headers
        self.id = request_id
        self.name = name
        self.caller = caller
        self.key = ""
        self.query: Any = None
        self.body: Any = None
        self._limit = limit
        self._until_s = until_s

    @property
    def user(self) -> User:
        """The user on whose behalf a route of users acts."""
        return User(self.caller.tenant, self.caller.user)

    @property
    def claims(self) -> Claims:
        """What the caller's token proves; a public route has none."""
        assert self.caller.claims is not None, "who calls is known where a route asks for it"
        return self.caller.claims

    async def read(self) -> bytes:
        """Read the body, within its bounds; none if none was announced. Raises Problem."""
        if not has_body(self.headers):
            return b""
        return await read_body(self.receive, self._limit, self._until_s)
