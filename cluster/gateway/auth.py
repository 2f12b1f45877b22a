"""Auth: who acts. The acting user comes from the token; only a chat gateway may name users, of its own tenant."""

import time
from enum import Enum

from actors.kernel.bounds import WHOLE, Percent
from actors.kernel.names import User
from cluster.config import Keys
from cluster.gateway.headers import read_acting_user, read_token
from cluster.gateway.problems import Problem
from cluster.gateway.raw_http import Headers
from cluster.tokens import GATEWAY_SCOPE, OPERATOR_SCOPE, USER_SCOPE, Claims, Unauthenticated, Verifier

NO_TOKEN = "Send an Authorization header: Bearer and a token."


class Callers(Enum):
    """Whose token opens a route: the scopes, none if no token is needed."""

    PUBLIC = ()
    USERS = (USER_SCOPE, GATEWAY_SCOPE)
    GATEWAYS = (GATEWAY_SCOPE,)
    OPERATORS = (OPERATOR_SCOPE,)


class Auth:
    """Reads callers from the headers of requests."""

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

    def gateway(self, headers: Headers) -> Claims:
        """Return what the token of a chat gateway proves. Raises Problem."""
        claims = self.claims(headers)
        if claims.scope != GATEWAY_SCOPE:
            raise Problem("forbidden", "This route is for chat gateways.")
        return claims

    def operator(self, headers: Headers) -> Claims:
        """Return what the token of an operator proves. Raises Problem."""
        claims = self.claims(headers)
        if claims.scope != OPERATOR_SCOPE:
            raise Problem("forbidden", "This route is for operators.")
        return claims


def acting(claims: Claims, headers: Headers) -> User:
    """Return the user on whose behalf a user route acts. Raises Problem."""
    named = headers.get(b"x-acting-user")
    if claims.scope == OPERATOR_SCOPE:
        raise Problem("forbidden", "An operator's token does not act for users.")
    if named is None:
        return User(claims.tenant, claims.user)
    if claims.scope != GATEWAY_SCOPE:
        raise Problem("forbidden", "Only a gateway's token may name the acting user.")
    return User(claims.tenant, read_acting_user(named))
