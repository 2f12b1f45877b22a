"""`hongbao keys`: tells whose keys a file holds, and makes them only where there is no system."""

import json
import os
from pathlib import Path

from cluster.config import keys_at
from cluster.keys import fingerprint
from tests.unit.test_cli import run


async def test_new_keys_are_made_once_shown_without_a_secret_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "node" / "keys.json"
    made = await run("keys", "--new", "--keys-file", str(path), "--json")
    keys = keys_at(path)
    told = json.loads(made[1].splitlines()[-1])
    assert (made[0], told["first"], told["platform"]) == (0, "k1", {"k1": fingerprint(keys.key("k1"))})
    shown = await run("keys", "--data", str(path.parent))
    assert fingerprint(keys.key("k1")) in shown[1]
    for text in (*made[1:], *shown[1:]):
        assert keys.platform["k1"] not in text
        assert keys.tokens["platform"].key not in text
    again = await run("keys", "--new", "--keys-file", str(path))
    assert (again[0], again[2].count("\n")) == (2, 1)
    assert keys_at(path) == keys


async def test_no_keys_are_made_beside_the_store_of_a_system_that_lost_them(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    code, _, stderr = await run("keys", "--new", "--data", str(tmp_path))
    assert (code, stderr.count("\n")) == (2, 1)
    assert "holds a system: put its own keys file there" in stderr
    assert os.listdir(tmp_path) == ["store"]
