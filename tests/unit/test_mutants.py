"""Mutants: every anchor is there, and an edit finds its place whatever the layout around it."""

from pathlib import Path
from typing import Any

import pytest

from tests.bugs.edits import Edit, Gone, always, before, changed, drop, first, instead, never, put, swap, without
from tests.mutants import MUTANTS, planted

SOURCE = '''
class Till:
    def pay(self, due, paid):
        """Return the change."""
        told = []
        if (
            paid
            < due   # too little
        ) or self.closed:
            return None
        told.append("paid")
        told.append("done")
        return (paid -
                due, told)
'''


@pytest.fixture
def till(tmp_path: Path) -> Path:
    file = tmp_path / "till.py"
    file.write_text(SOURCE)
    return file


def paid(till: Path, edit: Edit, due: int, paid: int) -> object:
    names: dict[str, Any] = {}
    exec(SOURCE, names)
    names["Till"].closed = False
    names["Till"].pay.__code__ = changed(till, "Till.pay", edit)
    return names["Till"]().pay(due, paid)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.promise)
def test_every_mutant_finds_its_function_and_its_fragment(mutant):
    planted(mutant)


def test_every_promise_is_broken_once():
    assert len({mutant.promise for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize(
    ("edit", "change"),
    [
        (put("paid - due", "due - paid"), (-3, ["paid", "done"])),
        (drop("told.append('paid')"), (3, ["done"])),
        (instead("told.append('paid')", "told.append('lost')"), (3, ["lost", "done"])),
        (before("told.append('done')", "told.append('first')"), (3, ["paid", "first", "done"])),
        (swap("'paid'", "'done'"), (3, ["done", "paid"])),
        (first("return 0"), 0),
        (always("closed"), None),
    ],
)
def test_an_edit_changes_what_it_names(till, edit, change):
    assert paid(till, edit, 4, 7) == change


def test_a_condition_is_taken_out_or_never_true(till):
    assert paid(till, never("due"), 4, 3) == (-1, ["paid", "done"])
    assert paid(till, without("paid < due"), 4, 3) == (-1, ["paid", "done"])


@pytest.mark.parametrize("name", ["Till.give", "Shop.pay"])
def test_a_function_that_is_gone_is_named(till, name):
    with pytest.raises(Gone, match=name):
        changed(till, name, drop("told"))


@pytest.mark.parametrize("fragment", ["told.append", "nothing"])
def test_a_fragment_that_is_not_there_once_is_named(till, fragment):
    with pytest.raises(Gone, match=f"'{fragment}' is there"):
        changed(till, "Till.pay", drop(fragment))
