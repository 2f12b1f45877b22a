"""Bugs: deliberate ones, each with the tests that must catch it. `tests.mutants` tries them."""

from typing import NamedTuple

from tests.bugs.edits import Edit

HUNT = ("simulation",)
"""In the place of tests: the simulator must find it by itself."""


class Mutant(NamedTuple):
    """One bug: an edit of the function at `anchor` ("package.module:Class.function"); `tests` must fail.

    `promise` is what it breaks.
    """

    promise: str
    anchor: str
    edit: Edit
    tests: tuple[str, ...]
