"""Auth: who acts. The acting user comes from the token; only a chat gateway may name users, of its own tenant."""

import time

from starlette.requests import Request

from actors.ids import User, is_user
from cluster.config import Keys
from cluster.gateway.problems import Problem
from cluster.tokens import GATEWAY_SCOPE, OPERATOR_SCOPE, Claims, Unauthenticated, Verifier


class Auth:
    """Reads callers from requests."""

    def __init__(self, keys: Keys, cache_max: int) -> None:
        self._verifier = Verifier(keys, cache_max)

    def _claims(self, request: Request) -> Claims:
        header = request.headers.get("authorization", "")
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Problem("unauthenticated", "Send an Authorization header: Bearer and a token.")
        try:
            return self._verifier.verify(token.strip(), int(time.time()))
        except Unauthenticated as failure:
            raise Problem("unauthenticated", f"Get a fresh token: {failure.reason}.") from failure

    def known(self, token: str) -> Claims | None:
        """Return what a token proved when it was verified last, for whoever need not be certain."""
        return self._verifier.known(token)

    def acting_user(self, request: Request) -> User:
        """Return the user on whose behalf a user route acts. Raises Problem."""
        claims = self._claims(request)
        named = request.headers.get("x-acting-user")
        if claims.scope == OPERATOR_SCOPE:
            raise Problem("forbidden", "An operator's token does not act for users.")
        if named is None:
            return User(claims.tenant, claims.user)
        if claims.scope != GATEWAY_SCOPE:
            raise Problem("forbidden", "Only a gateway's token may name the acting user.")
        if not is_user(named):
            raise Problem("invalid", "X-Acting-User is no user id.", {"X-Acting-User": "1 to 64 characters, no blanks"})
        return User(claims.tenant, named)

    def gateway_tenant(self, request: Request) -> str:
        """Return the tenant for which a chat gateway may name users. Raises Problem."""
        claims = self._claims(request)
        if claims.scope != GATEWAY_SCOPE:
            raise Problem("forbidden", "This route is for chat gateways.")
        return claims.tenant

    def require_operator(self, request: Request) -> None:
        """Let only operators pass. Raises Problem."""
        if self._claims(request).scope != OPERATOR_SCOPE:
            raise Problem("forbidden", "This route is for operators.")
