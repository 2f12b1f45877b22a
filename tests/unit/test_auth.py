"""Auth: the acting user comes from the token, and only a gateway names others, of its own tenant."""

import time

import pytest

from actors.kernel.names import User
from cluster.config import PLATFORM_KID, Keys, TokenKey
from cluster.gateway.auth import Auth, acting
from cluster.gateway.problems import Problem
from cluster.gateway.raw_http import Headers
from cluster.tokens import mint

KEYS = Keys(
    first="k1",
    current="k1",
    platform={"k1": "ab" * 32},
    tokens={
        PLATFORM_KID: TokenKey(
            algorithm="HS256", key="cd" * 32, tenant="*", scopes=frozenset({"user", "gateway", "operator"})
        )
    },
)
AUTH = Auth(KEYS, 10)


def request(scope: str | None = "user", named: str | None = None, tenant: str = "wechat", ttl_s: int = 60) -> Headers:
    headers = {}
    if scope is not None:
        now_s = int(time.time()) - (120 if ttl_s < 0 else 0)
        token = mint(KEYS, user="alice", tenant=tenant, scope=scope, now_s=now_s, ttl_s=abs(ttl_s))
        headers[b"authorization"] = f"Bearer {token}".encode()
    if named is not None:
        headers[b"x-acting-user"] = named.encode()
    return headers


def acting_user(headers: Headers) -> User:
    return acting(AUTH.claims(headers), headers)


def code(call: object, *arguments: object) -> str:
    with pytest.raises(Problem) as raised:
        call(*arguments)  # type: ignore[operator]
    return raised.value.code


def test_a_user_acts_for_themselves() -> None:
    assert acting_user(request()) == User("wechat", "alice")


@pytest.mark.parametrize("named", ["bob", "alice"])
def test_a_user_may_name_nobody_not_even_themselves(named: str) -> None:
    assert code(acting_user, request(named=named)) == "forbidden"


def test_a_gateway_names_users_of_its_own_tenant() -> None:
    assert acting_user(request("gateway", "bob", tenant="qq")) == User("qq", "bob")
    assert AUTH.gateway(request("gateway", tenant="qq")).tenant == "qq"


@pytest.mark.parametrize("named", ["", "b b", "x" * 65])
def test_a_gateway_must_name_somebody_who_can_exist(named: str) -> None:
    assert code(acting_user, request("gateway", named)) == "invalid"


@pytest.mark.parametrize("named", [None, "bob"])
def test_an_operator_never_acts_for_users(named: str | None) -> None:
    assert code(acting_user, request("operator", named)) == "forbidden"


@pytest.mark.parametrize("scope", ["user", "gateway"])
def test_only_operators_operate(scope: str) -> None:
    AUTH.operator(request("operator"))
    assert code(AUTH.operator, request(scope)) == "forbidden"


@pytest.mark.parametrize("scope", ["user", "operator"])
def test_only_gateways_name_users_in_bodies(scope: str) -> None:
    assert code(AUTH.gateway, request(scope)) == "forbidden"


@pytest.mark.parametrize("asked", [acting_user, AUTH.gateway, AUTH.operator])
def test_nobody_without_a_good_token_gets_anywhere(asked: object) -> None:
    assert code(asked, request(None)) == "unauthenticated"
    assert code(asked, request("gateway", ttl_s=-60)) == "unauthenticated"


@pytest.mark.parametrize("header", [b"", b"Bearer", b"Bearer ", b"Basic abc", b"Bearer a.b.c", b"Bearer \xff"])
def test_a_header_that_proves_nothing_is_no_token(header: bytes) -> None:
    assert code(acting_user, {b"authorization": header}) == "unauthenticated"
