"""Tokens: minted from the keys of a data folder, for people and for the commands that speak HTTP."""

import time
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.terminal import Data, Failure, reachable
from cluster.screen import write

OPERATOR = "operator"
GATEWAY = "gateway"
READER = "verifier"
PLATFORM_TENANT = "platform"
SANDBOX_TENANT = "wechat"
RUN_TOKEN_S = 3_600
TOKEN_S_MAX = 366 * 24 * 3_600


def token(
    user: Annotated[str, typer.Option(help="User id; an operator or gateway has a name too.")] = "",
    tenant: Annotated[str, typer.Option(help="Tenant, e.g. wechat.")] = "",
    scope: Annotated[str, typer.Option(help="user, gateway or operator.")] = "user",
    ttl: Annotated[int, typer.Option(min=1, max=TOKEN_S_MAX, help="Seconds until it expires.")] = 24 * 3_600,
    data: Data = None,
) -> None:
    """Mint a token from the keys of a data folder."""
    from cluster.config import KEYS_FILE, data_folder, keys_at
    from cluster.tokens import mint

    if scope == "user" and not (user and tenant):
        raise Failure("a user's token needs --user and --tenant")
    path = data_folder(data) / KEYS_FILE
    if not path.exists():
        raise Failure(f"{path} does not exist; `hongbao up` on this data folder creates the keys")
    tenant = tenant or (PLATFORM_TENANT if scope == OPERATOR else SANDBOX_TENANT)
    text = mint(keys_at(path), user=user or scope, tenant=tenant, scope=scope, now_s=int(time.time()), ttl_s=ttl)
    write(f"{text}\n")


def tokens_of(folder: Path, ttl_s: int) -> tuple[str, str]:
    """Mint an operator's and the sandbox gateway's token from a data folder's keys."""
    from cluster.config import KEYS_FILE, keys_at
    from cluster.tokens import mint

    path = folder / KEYS_FILE
    if not path.exists():
        raise Failure(f"{path} does not exist: that is not the data folder of a system")
    keys, now_s = keys_at(path), int(time.time())
    return (
        mint(keys, user=OPERATOR, tenant=PLATFORM_TENANT, scope=OPERATOR, now_s=now_s, ttl_s=ttl_s),
        mint(keys, user=GATEWAY, tenant=SANDBOX_TENANT, scope=GATEWAY, now_s=now_s, ttl_s=ttl_s),
    )


def operator_at(url: str | None, token: str | None, data: Path | None) -> tuple[str, str]:
    """Return a system's address and an operator's token: both given, or those of the data folder. Raises Failure."""
    if url is not None:
        return _given(url, token, "an operator's (hongbao token --scope operator)")
    url, folder = _running_on(data)
    return url, tokens_of(folder, RUN_TOKEN_S)[0]


def reader_at(url: str | None, token: str | None, data: Path | None, tenant: str) -> tuple[str, str]:
    """Return a system's address and the token of a user who only reads. Raises Failure."""
    from cluster.config import KEYS_FILE, keys_at
    from cluster.tokens import mint

    if url is not None:
        return _given(url, token, "of a user of the packet's tenant (hongbao token --user … --tenant …)")
    url, folder = _running_on(data)
    keys = keys_at(folder / KEYS_FILE)
    return url, mint(keys, user=READER, tenant=tenant, scope="user", now_s=int(time.time()), ttl_s=RUN_TOKEN_S)


def _given(url: str, token: str | None, whose: str) -> tuple[str, str]:
    if token is None:
        raise Failure(f"--url needs --token, {whose}")
    return reachable(url), token


def _running_on(data: Path | None) -> tuple[str, Path]:
    from cluster.config import data_folder
    from cluster.local import bootstrap

    folder = data_folder(data)
    url = bootstrap.status(folder).url
    if not url:
        raise Failure(f"no system runs on {folder}; `hongbao up` starts it, or give --url and --token")
    return url, folder
