"""Documents: whatever a page names and is not there is found; what is there is not."""

import re
from pathlib import Path

import pytest

from actors.wallet.postings import STATEMENT_WORDS
from cluster.gateway.problems import codes, status_of
from tests.documents import README_LINES_MAX, check
from tests.queries import alert_rules
from tests.tidy import check_words
from tests.unit.door import written

ROOT = Path(__file__).parents[2]
FENCE = "```"


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("[a](nowhere.md)", "docs/page.md:1: a link to nowhere.md, which does not exist"),
        ("[a](api.md#no-such-heading)", "docs/page.md:1: a link to api.md#no-such-heading, which has no such heading"),
        ("[a](#nowhere)", "docs/page.md:1: a link to #nowhere, which has no such heading"),
        ("see `actors/no/such.py`", "docs/page.md:1: actors/no/such.py does not exist"),
        ("see `tests/nowhere/`", "docs/page.md:1: tests/nowhere/ does not exist"),
        ("held by `test_that_nobody_wrote`", "docs/page.md:1: there is no test test_that_nobody_wrote"),
        (f"{FENCE}sh\nhongbao fly\n{FENCE}", "docs/page.md:2: there is no command hongbao fly"),
        (f"{FENCE}sh\ncd x && make money\n{FENCE}", "docs/page.md:2: there is no target make money"),
        ("`python -m tests.nothing`", "docs/page.md:1: there is no module tests.nothing"),
        ("set `timing.nothing_ms`", "docs/page.md:1: configs/local.toml has no timing.nothing_ms"),
        ("| a |\n\n| b |", "docs/page.md:1: these rows have no heading; a blank line cuts them from their table"),
        ("| a | b |\n|---|---|\n| c |", "docs/page.md:3: a row of other cells"),
    ],
)
def test_what_a_page_names_and_is_not_there_is_found(page: str, found: str) -> None:
    assert found in list(check(page + "\n", "docs/page.md"))


@pytest.mark.parametrize(
    "page",
    [
        "[a](api.md) [b](api.md#routes) [c](https://nowhere.example/x.md) [d](../README.md)",
        "# A heading: here\n\n[e](#a-heading-here)",
        "`actors/kinds.py`, `tests/unit/`, `test_what_a_page_names_and_is_not_there_is_found`",
        f"{FENCE}sh\nhongbao up --data x   # hongbao flies\nmake test\n{FENCE}",
        "`timing.drain_ms`, `packet.rules.fair`, `cluster.client`",
        "`python -m tests.tidy`, `python -m loadtest.bench.recovery --only stalls`",
        "| a | b |\n|---|---|\n| `x|y` | c |",
    ],
)
def test_a_page_that_names_what_is_there_is_fine(page: str) -> None:
    assert list(check(page + "\n", "docs/page.md")) == []


def test_a_readme_that_grows_is_told_so() -> None:
    assert list(check("x\n" * README_LINES_MAX, "README.md")) == []
    assert list(check("x\n" * (README_LINES_MAX + 1), "README.md"))


def test_every_alert_says_in_the_operations_page_what_to_do() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    sections = {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in page.split("\n### ")[1:]}
    alerts = {rule["alert"]: rule["labels"]["severity"] for rule in alert_rules()}
    assert set(sections) == set(alerts)
    for alert, severity in alerts.items():
        assert sections[alert].startswith(severity.capitalize() + "."), f"{alert}: as severe as its rule"


def test_the_page_of_the_api_has_every_route_code_and_word_of_a_statement() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    for path, methods in written()["paths"].items():
        for method in methods:
            assert f"| `{method.upper()} {path}` |" in page
    rows = [line for line in page.splitlines() if re.match(r"\| \d{3}", line)]
    for code in codes():
        [row] = [line for line in rows if f"`{code}`" in line]
        assert str(status_of(code)) in row.split("|")[1], f"{code}: in the row of its status"
    for word in STATEMENT_WORDS:
        assert f"`{word}`" in page


def test_a_sentence_that_is_hard_to_read_is_found() -> None:
    assert len(list(check_words("Whoever asks is no user: he asks his own.", "x.py"))) == 4
    assert not list(check_words("There is no packet. A packet is no longer there. This is not a user.", "x.py"))
