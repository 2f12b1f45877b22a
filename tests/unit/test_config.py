"""Configurations: one file with every bound, others that hold what differs; and what becomes a sandbox."""

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cluster.config import EXTENDS_MAX, Settings, config_path, load, read_layers, sandbox_of
from cluster.local.bootstrap import UpFailed, _check_same
from cluster.local.processes import ProcessIdentity
from cluster.local.record import SystemRecord


def leaves(table: dict[str, Any], *above: str) -> dict[tuple[str, ...], Any]:
    """Return every value of nested tables under its path."""
    found: dict[tuple[str, ...], Any] = {}
    for name, value in table.items():
        found |= leaves(value, *above, name) if isinstance(value, dict) else {(*above, name): value}
    return found


def test_the_configuration_of_a_cluster_is_whole_and_says_only_what_differs_from_one_machine() -> None:
    own, base = (leaves(layer) for layer in read_layers("cluster"))
    assert base == leaves(tomllib.loads(config_path("local").read_text()))
    assert {name for name in own if name not in base} == {("sandbox",)}
    assert [name for name, value in own.items() if base.get(name) == value] == []
    whole = leaves(load("cluster").model_dump())
    assert {name: whole[name] for name in base | own} == base | own


def test_a_file_of_ones_own_is_found_beside_the_one_that_extends_it_and_wins_over_it(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('extends = "cluster"\n[limits]\ncount_max = 7\ntotal_fen_max = 8\n')
    (tmp_path / "own.toml").write_text('extends = "base.toml"\n[limits]\ncount_max = 9\n')
    found = load(str(tmp_path / "own.toml"))
    assert (found.limits.count_max, found.limits.total_fen_max) == (9, 8)
    assert found.layout == load("cluster").layout


def test_the_environment_wins_over_every_file_and_an_argument_over_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HONGBAO_LIMITS__COUNT_MAX", "11")
    assert load("cluster").limits.count_max == 11
    assert load("cluster").limits.total_fen_max == load().limits.total_fen_max
    assert load("cluster", limits={"count_max": 12}).limits.count_max == 12


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('extends = "moon"', "no configuration 'moon'"),
        ('extends = "own.toml"', f"at most {EXTENDS_MAX} are joined"),
        ("extends = 3", "extends names one other file"),
        ('extends = "local"\nmoon = 1', "moon"),
        (
            'extends = "local"\n[bank]\nstreams = 1',
            "'bank' is neither a section nor a kind",
        ),
        ('extends = "local"\n[wallet.cold]\nstreams = 1', r"\[wallet\] has no 'cold'; it has hosts, rules, streams"),
        ('extends = "local"\n[packet.rules]\nwinners_min = 1', "winners_min"),
        ('extends = "local"\n[packet]\nstreams = 0', "the first pool has at least one"),
        ('extends = "local"\n[packet.hot]\nstreams = 4_090', "has 1 to 4096 streams"),
        ('extends = "local"\n[wallet.rules]\nidempotency_ms = 90_000_000', "lishi.keep_ms is at least"),
        ('extends = "local"\n[limits]\ncount_max = 0', "count_max"),
        ("extends = ", "own.toml is not TOML"),
    ],
)
def test_a_file_that_cannot_be_joined_is_refused_by_name(text: str, says: str, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(text)
    with pytest.raises((FileNotFoundError, ValueError), match=says):
        load(str(own))


NOT_SAID: dict[str, Any] = {}
NO, YES = ({"sandbox": False}, {"sandbox": True})


@pytest.mark.parametrize(
    ("configured", "asked", "own_store", "is_one"),
    [
        (NOT_SAID, None, True, True),
        (NO, None, True, False),
        (YES, None, True, True),
        (NOT_SAID, False, True, False),
        (YES, False, True, False),
        (NO, True, True, True),
        (NOT_SAID, None, False, False),
        (NO, None, False, False),
        (NOT_SAID, True, False, True),
        (YES, True, False, True),
        (YES, False, False, False),
    ],
)
def test_a_sandbox_is_what_up_starts_with_its_own_store_and_elsewhere_what_is_asked_for_by_name(
    configured: dict[str, Any], asked: bool | None, own_store: bool, is_one: bool
) -> None:
    assert sandbox_of(load(**configured), asked, own_store=own_store) is is_one


def test_a_configuration_alone_makes_no_sandbox_of_a_foreign_store() -> None:
    with pytest.raises(ValueError, match="--sandbox"):
        sandbox_of(load(sandbox=True), None, own_store=False)


def test_no_shipped_configuration_is_a_sandbox() -> None:
    shipped = sorted(path.stem for path in config_path("local").parent.glob("*.toml"))
    assert shipped == ["cluster", "local"]
    assert [name for name in shipped if load(name).sandbox] == []


@pytest.fixture
def running(tmp_path: Path) -> SystemRecord:
    """The record of a system on port 8100 with its own store."""
    return SystemRecord(
        state="ready",
        phase="ready",
        url="http://127.0.0.1:8100",
        host="127.0.0.1",
        http_port=8_100,
        ray_address="127.0.0.1:1",
        store_url="unix:///somewhere",
        embedded_store=True,
        sandbox=True,
        config="local",
        data=tmp_path,
        run_folder=tmp_path,
        ports={},
        watchdog=ProcessIdentity.of(os.getpid()),
        pids={},
    )


def test_a_running_system_is_found_by_who_asks_for_the_same_or_for_nothing(running: SystemRecord) -> None:
    _check_same(running, 0, None, None, None)
    _check_same(running, 8_100, "local", None, True)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ((8_101, None, None, None), "port 8100, not 8101"),
        ((0, "nope", None, None), "configuration local, not nope"),
        ((0, "/etc/own.toml", None, None), "configuration local, not /etc/own.toml"),
        ((0, None, "redis://:secret@127.0.0.1:9/0", None), "store its own, not redis://127.0.0.1:9/0"),
        ((0, None, None, False), "sandbox on, not off"),
    ],
)
def test_a_running_system_is_refused_to_who_asks_for_another(
    asked: tuple[int, str | None, str | None, bool | None], says: str, running: SystemRecord
) -> None:
    with pytest.raises(UpFailed) as refused:
        _check_same(running, *asked)
    assert says in str(refused.value)
    assert "hongbao down" in str(refused.value)


def test_settings_are_read_from_nothing_but_what_load_was_told() -> None:
    load("cluster")
    with pytest.raises(ValueError, match="packet"):
        Settings()
