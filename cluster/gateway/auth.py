"""Auth: who acts. The acting user comes from the token; only a chat gateway may name users, of its own tenant."""

import time

from starlette.requests import Request

from actors.kernel.bounds import WHOLE, Percent
from actors.kernel.names import User
from cluster.config import Keys
from cluster.gateway.headers import read_acting_user, read_token
from cluster.gateway.problems import Problem
from cluster.gateway.raw_http import Headers, headers_of
from cluster.tokens import GATEWAY_SCOPE, OPERATOR_SCOPE, Claims, Unauthenticated, Verifier

NO_TOKEN = "Send an Authorization header: Bearer and a token."


class Auth:
    """Reads callers from requests, or from their headers alone."""

    def __init__(self, keys: Keys, cache_max: int, fair: Percent = WHOLE) -> None:
        self._verifier = Verifier(keys, cache_max, fair)

    def claims(self, headers: Headers) -> Claims:
        """Return what the caller's token proves. Raises Problem."""
        token = read_token(headers.get(b"authorization", b""))
        if token is None:
            raise Problem("unauthenticated", NO_TOKEN)
        try:
            return self._verifier.verify(token, int(time.time()))
        except Unauthenticated as failure:
            raise Problem("unauthenticated", f"Get a fresh token: {failure.reason}.") from failure

    def acting(self, headers: Headers) -> User:
        """Return the user on whose behalf a user route acts. Raises Problem."""
        claims = self.claims(headers)
        named = headers.get(b"x-acting-user")
        if claims.scope == OPERATOR_SCOPE:
            raise Problem("forbidden", "An operator's token does not act for users.")
        if named is None:
            return User(claims.tenant, claims.user)
        if claims.scope != GATEWAY_SCOPE:
            raise Problem("forbidden", "Only a gateway's token may name the acting user.")
        return User(claims.tenant, read_acting_user(named))

    def acting_user(self, request: Request) -> User:
        """Return the user on whose behalf a user route acts. Raises Problem."""
        return self.acting(headers_of(request.scope))

    def gateway(self, headers: Headers) -> Claims:
        """Return what the token of a chat gateway proves. Raises Problem."""
        claims = self.claims(headers)
        if claims.scope != GATEWAY_SCOPE:
            raise Problem("forbidden", "This route is for chat gateways.")
        return claims

    def tenant(self, headers: Headers) -> str:
        """Return the tenant for which a chat gateway may name users. Raises Problem."""
        return self.gateway(headers).tenant

    def gateway_tenant(self, request: Request) -> str:
        """Return the tenant for which a chat gateway may name users. Raises Problem."""
        return self.tenant(headers_of(request.scope))

    def require_operator(self, request: Request) -> str:
        """Let only operators pass, and return who it is. Raises Problem."""
        return self.operator(headers_of(request.scope))

    def operator(self, headers: Headers) -> str:
        """Let only operators pass, and return who it is. Raises Problem."""
        claims = self.claims(headers)
        if claims.scope != OPERATOR_SCOPE:
            raise Problem("forbidden", "This route is for operators.")
        return claims.user
