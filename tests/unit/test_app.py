"""The application's builder: where it cannot serve money, it says why in one line and starts nothing."""

import sys
from pathlib import Path

import pytest

from cluster.config import SERVE_ENVIRONMENT
from cluster.gateway.app import AppArgs, app
from cluster.keys import new_keys


def refusal(**arguments: str) -> str:
    """Build the application and return what it says instead."""
    with pytest.raises(SystemExit) as refused:
        app(AppArgs(**arguments))
    return str(refused.value)


@pytest.mark.parametrize("missing", SERVE_ENVIRONMENT)
def test_without_the_variables_that_make_serve_fast_it_refuses_naming_the_missing_one(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SERVE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    line = refusal(store_url="unix:///nowhere/store.sock")
    assert f"{missing}={SERVE_ENVIRONMENT[missing]}" in line
    assert sum(name in line for name in SERVE_ENVIRONMENT) == 1
    assert "\n" not in line


def test_a_store_that_is_down_at_start_is_one_line_with_its_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in SERVE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    keys_file = str(tmp_path / "keys.json")
    new_keys(Path(keys_file))
    line = refusal(store_url="redis://:secret@127.0.0.1:1/0", keys_file=keys_file)
    assert "127.0.0.1:1" in line
    assert "secret" not in line
    assert "\n" not in line


def test_a_configuration_alone_makes_no_sandbox_of_a_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in SERVE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    own = tmp_path / "own.toml"
    own.write_text('extends = "cluster"\nsandbox = true\n')
    line = refusal(store_url="unix:///nowhere", config=str(own), keys_file=str(tmp_path / "keys.json"))
    assert "`sandbox: true` among the application's args" in line
    assert "\n" not in line
    assert not (tmp_path / "keys.json").exists()


def test_photos_without_what_makes_pictures_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in SERVE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "PIL", None)  # as if it were not installed
    where = {"store_url": "unix:///nowhere", "keys_file": str(tmp_path / "keys.json")}
    line = refusal(**where, photos_url=str(tmp_path))
    assert "pip install 'hongbao[photos]'" in line
    assert "\n" not in line
    assert "Pillow" not in refusal(**where), "without photos nothing needs it"


def test_an_unknown_configuration_is_one_line_with_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in SERVE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    line = refusal(store_url="unix:///nowhere", config="moon", keys_file=str(tmp_path / "keys.json"))
    assert "moon" in line
    assert "\n" not in line


def test_on_a_node_without_the_keys_file_it_makes_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in SERVE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "keys.json"
    line = refusal(store_url="unix:///nowhere/store.sock", keys_file=str(path))
    assert f"{path} does not exist on this node" in line
    assert f"hongbao keys --new --keys-file {path}" in line
    assert "\n" not in line
    assert list(tmp_path.iterdir()) == []


def test_a_keys_file_that_others_can_read_is_one_line_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in SERVE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "keys.json"
    new_keys(path)
    path.chmod(0o644)
    line = refusal(store_url="unix:///nowhere/store.sock", keys_file=str(path))
    assert f"chmod 600 {path}" in line
