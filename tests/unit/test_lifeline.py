"""Lifeline: a system that is owned ends with its owner; one that is kept does not."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, Any

import pytest

from cluster.local.lifeline import KEEP, OWN, Lifeline, Plan
from tests.processes import as_child

SOON_S = 0.001
PLAN = Plan(port=0, config="local", store_url="")
OWNER = """
import os, sys, time
from pathlib import Path
from cluster.local.lifeline import own
own(Path("/data"), os.fdopen(int(sys.argv[1]), "wb", buffering=0))
if os.fork():
    print("owns", flush=True)
    time.sleep(60)
sys.stdin.read()
"""
"""Owns a system by the pipe of the number given, and has a fork that lives on."""


@pytest.fixture
def pipe() -> Iterator[tuple[Lifeline, IO[bytes]]]:
    """The watchdog's end, and the starter's."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0), os.fdopen(writing, "wb", buffering=0) as starter:
        yield Lifeline(reading), starter


def test_a_kept_system_outlives_its_starter(pipe: tuple[Lifeline, IO[bytes]]) -> None:
    lifeline, starter = pipe
    starter.write(PLAN.model_dump_json().encode() + b"\n")
    assert lifeline.plan() == PLAN
    assert (lifeline.torn(SOON_S), lifeline.started) == (False, False)
    starter.write(KEEP)
    assert (lifeline.torn(SOON_S), lifeline.started, lifeline.kept) == (False, True, True)
    starter.close()
    assert not lifeline.torn(SOON_S)


def test_an_owned_system_is_started_and_ends_with_its_owner(pipe: tuple[Lifeline, IO[bytes]]) -> None:
    lifeline, owner = pipe
    owner.write(OWN)
    assert (lifeline.torn(SOON_S), lifeline.started, lifeline.kept) == (False, True, False)
    assert not lifeline.torn(SOON_S)
    owner.close()
    assert lifeline.torn(SOON_S)


def test_a_system_whose_starter_is_gone_before_it_served_ends(pipe: tuple[Lifeline, IO[bytes]]) -> None:
    lifeline, starter = pipe
    starter.close()
    assert (lifeline.torn(SOON_S), lifeline.started) == (True, False)


def test_an_owner_that_is_killed_lets_go_although_a_fork_of_it_lives(pipe: tuple[Lifeline, IO[bytes]]) -> None:
    lifeline, starter = pipe
    command = [sys.executable, "-c", OWNER, str(starter.fileno())]
    ends: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **ends, pass_fds=[starter.fileno()], preexec_fn=as_child) as owner:
        starter.close()
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"owns\n"
        assert not lifeline.torn(SOON_S)
        owner.kill()
        assert lifeline.torn(20), "its fork still waits for our end of its input"
