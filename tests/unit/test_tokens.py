"""Tokens: what a key may grant, and what nobody may forge."""

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cluster.config import PLATFORM_KID, Keys, TokenKey
from cluster.tokens import TOKEN_CHARS_MAX, Claims, Unauthenticated, Verifier, mint

NOW_S = 1_451_577_900  # 2016-01-01 00:05 in Beijing
SECRET = "11" * 32
TENANT_SECRET = "22" * 32
QQ_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
QQ_PEM = QQ_PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
EVERY_SCOPE = frozenset({"user", "gateway", "operator"})
KEYS = Keys(
    first="k1",
    current="k1",
    platform={"k1": "00" * 32},
    tokens={
        PLATFORM_KID: TokenKey(algorithm="HS256", key=SECRET, tenant="*", scopes=EVERY_SCOPE),
        "wechat-1": TokenKey(algorithm="HS256", key=TENANT_SECRET, tenant="wechat", scopes=EVERY_SCOPE),
        "qq-1": TokenKey(algorithm="EdDSA", key=QQ_PEM, tenant="qq", scopes=frozenset({"user", "operator"})),
        "root-ed": TokenKey(algorithm="EdDSA", key=QQ_PEM, tenant="*", scopes=EVERY_SCOPE),
    },
)
NO_INSTANT = "the token has no exp, or an exp, nbf or iat that is not a number of seconds"
GOOD = {"sub": "li", "tenant": "wechat", "scope": "user", "iat": NOW_S, "exp": NOW_S + 60}


def sign(kid: str | None = PLATFORM_KID, alg: str = "HS256", secret: Any = None, **change: Any) -> str:
    claims = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims, bytes.fromhex(SECRET) if secret is None else secret, algorithm=alg, headers=headers)


def verify(token: str, now_s: int = NOW_S) -> Claims:
    return Verifier(KEYS, 10).verify(token, now_s)


def refused(token: str, now_s: int = NOW_S) -> str:
    with pytest.raises(Unauthenticated) as refusal:
        verify(token, now_s)
    return refusal.value.reason


def part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("scope", sorted(EVERY_SCOPE))
def test_a_minted_token_proves_what_was_minted(scope: str) -> None:
    token = mint(KEYS, user="小明", tenant="qq", scope=scope, now_s=NOW_S, ttl_s=60)
    assert jwt.get_unverified_header(token)["kid"] == PLATFORM_KID
    assert verify(token, NOW_S + 59) == Claims("小明", "qq", scope, NOW_S + 60)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"user": "a b"}, "user id"),
        ({"user": ""}, "user id"),
        ({"tenant": "*"}, "tenant"),
        ({"scope": "root"}, "scope"),
        ({"ttl_s": 0}, "second"),
    ],
)
def test_what_cannot_stand_in_a_token_is_not_minted(change: dict[str, Any], names: str) -> None:
    arguments: dict[str, Any] = {"user": "li", "tenant": "qq", "scope": "user", "now_s": NOW_S, "ttl_s": 1, **change}
    with pytest.raises(ValueError, match=names):
        mint(KEYS, **arguments)


def test_a_token_is_refused_from_the_second_of_its_exp() -> None:
    assert refused(sign(), NOW_S + 60) == "the token has expired"


def test_a_cached_token_still_expires() -> None:
    verifier = Verifier(KEYS, 10)
    token = sign()
    assert verifier.verify(token, NOW_S) is verifier.verify(token, NOW_S + 59)
    for _ in range(2):
        with pytest.raises(Unauthenticated, match="expired"):
            verifier.verify(token, NOW_S + 60)


def test_the_cache_forgets_the_least_recently_used_token_first() -> None:
    verifier = Verifier(KEYS, 2)
    first, second, third = (sign(sub=name) for name in ("a", "b", "c"))
    kept, dropped = verifier.verify(first, NOW_S), verifier.verify(second, NOW_S)
    verifier.verify(first, NOW_S)
    verifier.verify(third, NOW_S)
    assert verifier.verify(first, NOW_S) is kept
    assert verifier.verify(second, NOW_S) is not dropped


def test_a_wrong_signature_is_refused_and_not_remembered() -> None:
    verifier = Verifier(KEYS, 10)
    forged = sign(secret=b"\x33" * 32)
    for _ in range(2):
        with pytest.raises(Unauthenticated, match="signature"):
            verifier.verify(forged, NOW_S)


@pytest.mark.parametrize("kid", [None, "", "nobody"])
def test_an_unknown_kid_is_refused(kid: str | None) -> None:
    assert refused(sign(kid=kid)) in ("the token's kid is unknown", "the token is malformed")


def test_alg_none_is_refused_signed_or_not() -> None:
    unsigned = f"{part({'alg': 'none', 'kid': PLATFORM_KID})}.{part(GOOD)}."
    assert refused(unsigned) == "the token's algorithm is not its key's"


def test_a_public_key_never_serves_as_an_hmac_secret() -> None:
    """The classic confusion: HS256 over the public PEM, which everybody may know."""
    header, body = part({"alg": "HS256", "kid": "qq-1"}), part({**GOOD, "tenant": "qq"})
    algorithm = jwt.get_algorithm_by_name("HS256")
    signature = algorithm.sign(f"{header}.{body}".encode(), QQ_PEM.encode())
    forged = f"{header}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    assert refused(forged) == "the token's algorithm is not its key's"


def test_another_hmac_than_the_keys_own_is_refused() -> None:
    assert refused(sign(alg="HS512", secret=bytes.fromhex(SECRET) * 2)) == "the token's algorithm is not its key's"


def test_a_tenants_own_key_grants_its_users() -> None:
    token = sign(kid="qq-1", alg="EdDSA", secret=QQ_PRIVATE, tenant="qq")
    assert verify(token) == Claims("li", "qq", "user", NOW_S + 60)


def test_a_scope_beyond_the_key_is_refused() -> None:
    token = sign(kid="qq-1", alg="EdDSA", secret=QQ_PRIVATE, tenant="qq", scope="gateway")
    assert refused(token) == "the token's scope is beyond its key"


@pytest.mark.parametrize(
    ("kid", "alg", "secret", "tenant"),
    [
        ("qq-1", "EdDSA", QQ_PRIVATE, "qq"),
        ("root-ed", "EdDSA", QQ_PRIVATE, "qq"),
        ("wechat-1", "HS256", bytes.fromhex(TENANT_SECRET), "wechat"),
    ],
)
def test_only_the_platforms_own_kind_of_key_grants_operator(kid: str, alg: str, secret: Any, tenant: str) -> None:
    token = sign(kid=kid, alg=alg, secret=secret, tenant=tenant, scope="operator")
    assert refused(token) == "a tenant's key never grants operator"


@pytest.mark.parametrize(("kid", "alg", "secret"), [("qq-1", "EdDSA", QQ_PRIVATE)])
def test_a_tenant_beyond_the_key_is_refused(kid: str, alg: str, secret: Any) -> None:
    assert refused(sign(kid=kid, alg=alg, secret=secret, tenant="wechat")) == "the token's tenant is beyond its key"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sub": "a b"}, "the token's sub is not a user id"),
        ({"sub": None}, "the token's sub is not a user id"),
        ({"tenant": "*"}, "the token's tenant is none"),
        ({"tenant": None}, "the token's tenant is none"),
        ({"scope": "root"}, "the token's scope is none"),
        ({"scope": None}, "the token's scope is none"),
        ({"exp": None}, NO_INSTANT),
        ({"nbf": "now"}, NO_INSTANT),
        ({"nbf": True}, NO_INSTANT),
        ({"iat": "now"}, NO_INSTANT),
        ({"iat": [NOW_S]}, NO_INSTANT),
        ({"nbf": NOW_S + 0.5}, "the token is not valid yet"),
        ({"exp": NOW_S - 0.5}, "the token has expired"),
        ({"exp": float(NOW_S)}, "the token has expired"),
        ({"nbf": NOW_S + 1}, "the token is not valid yet"),
        ({"aud": "somebody-else"}, "the token's signature or form is wrong"),
    ],
)
def test_claims_that_do_not_stand_are_refused_each_with_its_reason(change: dict[str, Any], reason: str) -> None:
    assert refused(sign(**change)) == reason


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("instant", [True, "9999999999", [], {}, float("inf"), float("-inf"), float("nan")], ids=str)
def test_what_is_no_instant_makes_no_token(name: str, instant: Any) -> None:
    header, body = part({"alg": "HS256", "kid": PLATFORM_KID}), part({**GOOD, name: instant})
    signature = jwt.get_algorithm_by_name("HS256").sign(f"{header}.{body}".encode(), bytes.fromhex(SECRET))
    token = f"{header}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    assert refused(token) == NO_INSTANT


def test_an_instant_may_have_a_fraction() -> None:
    """NumericDate of RFC 7519: many libraries write time.time() as it is."""
    token = sign(iat=NOW_S - 0.25, nbf=NOW_S - 0.5, exp=NOW_S + 1.5)
    assert verify(token, NOW_S) == Claims("li", "wechat", "user", NOW_S + 2)
    assert verify(token, NOW_S + 1)
    assert refused(token, NOW_S + 2) == "the token has expired"


def nested(depth: int) -> str:
    return base64.urlsafe_b64encode(b"[" * depth).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "token",
    ["", "a", "a.b.c", "é.é.é", "..", "x" * (TOKEN_CHARS_MAX + 1), "\ud800", f"{nested(2_900)}.a.b"],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    refused(token)


def test_a_critical_extension_is_refused() -> None:
    token = jwt.encode(
        GOOD, bytes.fromhex(SECRET), algorithm="HS256", headers={"kid": PLATFORM_KID, "crit": ["x"], "x": 1}
    )
    refused(token)


@pytest.mark.parametrize("key", ["22" * 31, "not hex"])
def test_a_weak_or_broken_key_stops_the_start_and_is_named(key: str) -> None:
    broken = KEYS.model_copy(
        update={"tokens": {"odd": TokenKey(algorithm="HS256", key=key, tenant="qq", scopes=EVERY_SCOPE)}}
    )
    with pytest.raises(ValueError, match="odd"):
        Verifier(broken, 1)
