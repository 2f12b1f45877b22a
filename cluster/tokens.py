"""Tokens: decide who is calling. JWT by PyJWT, claims `sub`, `tenant`, `scope`, `exp`, `iat`; header `kid`.

- The `kid` alone names the algorithm and the key; a token's own `alg` is only compared, never obeyed.
- A key grants its own scopes, and its own tenant unless that is "*". Scope `operator` needs a key of tenant "*"
  with HS256: a tenant's key, and every EdDSA key, never grants it.
- `exp` is judged by the caller's wall clock at every use, also of a cached token, without leeway.

Key text (`cluster.config.TokenKey.key`): hex for HS256, at least 32 bytes; the PEM of an Ed25519 public key for EdDSA.
Instants are Unix seconds, as JWT has them: integers, or with a fraction.
"""

import math
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from actors.kernel.bounds import WHOLE, Percent
from actors.kernel.names import USER_RULE, is_tenant, is_user
from actors.kernel.quota import Bound
from cluster.config import PLATFORM_KID, Keys, TokenKey
from cluster.fair_cache import FairCache

USER_SCOPE = "user"
GATEWAY_SCOPE = "gateway"
OPERATOR_SCOPE = "operator"
SCOPES = frozenset({USER_SCOPE, GATEWAY_SCOPE, OPERATOR_SCOPE})

ANY_TENANT = "*"
TOKEN_CHARS_MAX = 4_096
_HMAC_BYTES_MIN = 32
# The signature and `aud` are PyJWT's to check (a token for another audience is not for us); the rest is judged here,
# because PyJWT would ask its own clock.
_CHECKED_HERE: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}


class Unauthenticated(Exception):
    """The token proves nothing. The caller needs another one; the reason is safe to show."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Claims(NamedTuple):
    """Who is calling, proved. `exp_s` is Unix seconds."""

    user: str
    tenant: str
    scope: str
    exp_s: int


def mint(keys: Keys, *, user: str, tenant: str, scope: str, now_s: int, ttl_s: int) -> str:
    """Sign a token with the platform's own key.

    Raises ValueError naming the argument that cannot stand in a token.
    """
    if not is_user(user):
        raise ValueError(f"{user!r} is not a user id: {USER_RULE}")
    if not is_tenant(tenant):
        raise ValueError(f"{tenant!r} is not a tenant: lower-case letters, digits and hyphens, at most 32")
    if scope not in SCOPES:
        raise ValueError(f"{scope!r} is not a scope: one of {', '.join(sorted(SCOPES))}")
    if ttl_s < 1:
        raise ValueError("a token lives at least one second")
    claims = {"sub": user, "tenant": tenant, "scope": scope, "iat": now_s, "exp": now_s + ttl_s}
    secret = bytes.fromhex(keys.tokens[PLATFORM_KID].key)
    return jwt.encode(claims, secret, algorithm="HS256", headers={"kid": PLATFORM_KID})


class _Key(NamedTuple):
    algorithm: str
    secret: bytes | Ed25519PublicKey
    tenant: str
    scopes: frozenset[str]


class Verifier:
    """Verifies tokens and remembers at most `cache_max` verified ones, of one tenant its part of them."""

    def __init__(self, keys: Keys, cache_max: int, fair: Percent = WHOLE) -> None:
        """Prepare the keys. Raises ValueError naming a malformed key: correct the keys file."""
        assert cache_max >= 1, "a cache holds something"
        self._keys = {kid: _prepare(kid, key) for kid, key in keys.tokens.items()}
        self._verified: FairCache[str, Claims] = FairCache(Bound.of(cache_max, fair))

    def verify(self, token: str, now_s: int) -> Claims:
        """Return what the token proves at `now_s`. Raises Unauthenticated."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._verify(token, now_s)
            self._verified.put(token, claims, claims.tenant, 1)
        elif now_s >= claims.exp_s:
            self._verified.drop(token)
            raise Unauthenticated("the token has expired")
        return claims

    def _verify(self, token: str, now_s: int) -> Claims:
        if len(token) > TOKEN_CHARS_MAX:
            raise Unauthenticated("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.InvalidTokenError, ValueError, RecursionError) as failure:
            raise Unauthenticated("the token is malformed") from failure
        kid = header.get("kid")
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise Unauthenticated("the token's kid is unknown")
        if "crit" in header:
            raise Unauthenticated("the token asks for an extension that is not understood")
        try:
            body = jwt.decode(token, key.secret, algorithms=[key.algorithm], options=_CHECKED_HERE)
        except jwt.InvalidAlgorithmError as failure:
            raise Unauthenticated("the token's algorithm is not its key's") from failure
        except (jwt.InvalidTokenError, ValueError, RecursionError) as failure:
            raise Unauthenticated("the token's signature or form is wrong") from failure
        return _judge(key, body, now_s)


def _prepare(kid: str, key: TokenKey) -> _Key:
    try:
        secret = _secret_of(key)
    except ValueError as failure:
        raise ValueError(f"token key {kid!r} in the keys file: {failure}") from failure
    return _Key(key.algorithm, secret, key.tenant, key.scopes)


def _secret_of(key: TokenKey) -> bytes | Ed25519PublicKey:
    if key.algorithm == "HS256":
        secret = bytes.fromhex(key.key)
        if len(secret) < _HMAC_BYTES_MIN:
            raise ValueError(f"an HS256 key has at least {_HMAC_BYTES_MIN} bytes")
        return secret
    public = load_pem_public_key(key.key.encode())
    if not isinstance(public, Ed25519PublicKey):
        raise ValueError("an EdDSA key is the PEM of an Ed25519 public key")
    return public


def _judge(key: _Key, body: dict[str, Any], now_s: int) -> Claims:
    """Compare what the token says with what its key may grant."""
    user, tenant, scope, exp_s = (body.get(name) for name in ("sub", "tenant", "scope", "exp"))
    if not isinstance(user, str) or not is_user(user):
        raise Unauthenticated("the token's sub is not a user id")
    if not isinstance(tenant, str) or not is_tenant(tenant):
        raise Unauthenticated("the token's tenant is none")
    if not isinstance(scope, str) or scope not in SCOPES:
        raise Unauthenticated("the token's scope is none")
    until_s, from_s = _second(exp_s), _second(body.get("nbf", now_s))
    if until_s is None or from_s is None or _second(body.get("iat", now_s)) is None:
        raise Unauthenticated("the token has no exp, or an exp, nbf or iat that is not a number of seconds")
    if now_s >= until_s:
        raise Unauthenticated("the token has expired")
    if from_s > now_s:
        raise Unauthenticated("the token is not valid yet")
    if scope not in key.scopes:
        raise Unauthenticated("the token's scope is beyond its key")
    if key.tenant not in (ANY_TENANT, tenant):
        raise Unauthenticated("the token's tenant is beyond its key")
    if scope == OPERATOR_SCOPE and (key.tenant != ANY_TENANT or key.algorithm != "HS256"):
        raise Unauthenticated("a tenant's key never grants operator")
    return Claims(user, tenant, scope, until_s)


def _second(instant: object) -> int | None:
    """Return the first whole second that is not before an instant of a token; None: it is not an instant.

    A NumericDate may have a fraction (RFC 7519, 2). To a clock of whole seconds it is the same as the second after it.
    """
    if type(instant) is int:
        return instant
    return math.ceil(instant) if type(instant) is float and math.isfinite(instant) else None
