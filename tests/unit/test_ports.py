"""Port blocks, and what a store's URL shows."""

import socket
from itertools import islice
from pathlib import Path

import pytest

from cluster.local import ports
from cluster.local.ports import BLOCK_PORTS, PORTS, NoPorts, block_bases, claim_block, is_free
from cluster.store import StoreUnusable, check_store, shown


@pytest.fixture
def two_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Only two blocks exist, both free."""
    bases = (base for base in block_bases() if all(is_free(port) for port in range(base, base + BLOCK_PORTS)))
    free = list(islice(bases, 2))
    monkeypatch.setattr(ports, "block_bases", lambda: free)
    return free


def test_two_systems_never_share_a_block(two_blocks: list[int], tmp_path: Path) -> None:
    claims = [claim_block(tmp_path, Path("/data/one")), claim_block(tmp_path, Path("/data/two"))]
    assert sorted(claim.base for claim in claims) == two_blocks
    with pytest.raises(NoPorts, match="end another system"):
        claim_block(tmp_path, Path("/data/three"))
    claims[0].lock.release()
    again = claim_block(tmp_path, Path("/data/three"))
    assert again.base == claims[0].base
    for claim in (again, claims[1]):
        claim.lock.release()


def test_a_block_with_one_port_in_use_is_passed_over(two_blocks: list[int], tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", two_blocks[0] + 77))
        listener.listen()
        claim = claim_block(tmp_path, tmp_path)
    assert claim.base == two_blocks[1]
    claim.lock.release()


def test_a_folder_gets_the_block_again_that_it_had(two_blocks: list[int], tmp_path: Path) -> None:
    bases = set()
    for _ in range(2):
        claim = claim_block(tmp_path, Path("/data/one"))
        bases.add(claim.base)
        claim.lock.release()
    assert len(bases) == 1
    assert bases <= set(two_blocks)


def test_every_named_port_stands_in_its_block_once() -> None:
    assert len(set(PORTS.values())) == len(PORTS)
    assert all(0 <= offset < BLOCK_PORTS for offset in PORTS.values())


def test_blocks_stand_below_the_ports_that_the_kernel_hands_out() -> None:
    bases = block_bases()
    assert len(bases) > 10
    assert max(bases) + BLOCK_PORTS - 1 <= ports.LAST_PORT


def test_a_password_is_never_shown() -> None:
    assert shown("rediss://li:secret@store.example:6379/0") == "rediss://store.example:6379/0"
    assert shown("unix:///run/store.sock") == "unix:///run/store.sock"
    with pytest.raises(StoreUnusable) as failure:
        check_store("nonsense://li:secret@store/0")
    assert "secret" not in str(failure.value)
