"""Terminal: whatever text is in users, paths and answers, and on whatever streams, a command says what it has to."""

import ast
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.table import Table
from typer.core import TyperArgument

from cluster.cli import app, run
from cluster.client import PausedSwitch
from cluster.commands import ledger
from cluster.commands import switches as levers
from cluster.commands.terminal import out
from cluster.config import data_folder
from cluster.offline.statement import AccountLine, WholeStatement
from cluster.screen import READER_GONE
from loadtest.display import judged
from tests.processes import as_child

ROOT = Path(__file__).resolve().parent.parent.parent
TEXTS = st.text("[]/\\:=#@ab 中é", min_size=1, max_size=12) | st.sampled_from(
    ["[/x]", "[red]", "[bold red]x[/]", "[/]", "a[b", "[link=x]", ":smile:", "[[x]]", "\\[x]", "[@click=x]"]
)
COMMAND = (sys.executable, "-m", "cluster.cli")
ANSWER_S_MAX = 30


@contextlib.contextmanager
def caught() -> Iterator[io.StringIO]:
    """Catch what is printed, on either stream."""
    paper = io.StringIO()
    with contextlib.redirect_stdout(paper), contextlib.redirect_stderr(paper):
        yield paper


def shown(*words: Any, **options: Any) -> str:
    """Return what `out` prints of that, without the spaces that fill tables."""
    with caught() as paper:
        out.print(*words, soft_wrap=True, **options)
    return "".join(paper.getvalue().split())


def squeezed(text: str) -> str:
    return "".join(text.split())


@example(text="[/x]")
@given(text=TEXTS)
def test_text_is_printed_as_it_is_in_lines_cells_titles_and_verdicts(text: str) -> None:
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    found = shown(table)
    assert found.count(squeezed(text)) >= 3
    assert squeezed(text) in shown(text)
    assert squeezed(text) in shown(f"hongbao: {text}", style="red", highlight=False)
    assert squeezed(text) in shown(judged(False, text))


@example(text="[/x]")
@given(text=TEXTS)
def test_users_and_operators_of_any_name_are_shown(text: str) -> None:
    entry = AccountLine(5, "sandbox", 5, 5, text)
    with caught() as paper:
        ledger._show_statement(WholeStatement(text, text, ["wallet-000"], 5, 0, [entry]))
        out.print(f"Paused now: {levers.sentence([PausedSwitch(text, text, 5, text, [text])])}", soft_wrap=True)
    assert squeezed(paper.getvalue()).count(squeezed(text)) >= 6


def test_everything_that_prints_prints_on_a_screen_and_what_spins_is_text_already() -> None:
    found = []
    for path in (path for folder in ("cluster", "loadtest") for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "rich" in text or "screen" in text or "terminal" in text else ():
            if not isinstance(node, ast.Call):
                continue
            called, words = ast.unparse(node.func), ast.unparse(node)
            parsed = called in ("Console", "Text.from_markup", "rich.print")
            parsed |= called == "TextColumn" and "markup=False" not in words
            parsed |= called in ("err.status", "out.status", "spinner.update") and "Text(" not in words
            found += [f"{path.relative_to(ROOT)}: {words}"] if parsed else []
    assert found == []


# Every command, with such text in the place of each word and path that it takes.


BEFORE_ANYTHING_STARTS = {
    "up": {"config": "nowhere"},
    "demo": {"url": "http://127.0.0.1:9"},
    "fairness": {"url": "http://127.0.0.1:9"},
}
"""What makes a command refuse before it starts a system or a campaign."""

PARAMETERS: dict[str, list[Any]] = {
    name: [parameter for parameter in command.params if not getattr(parameter, "is_flag", False)]
    for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
}
SLOTS = [(name, parameter.name) for name, parameters in PARAMETERS.items() for parameter in parameters]


def arguments_of(name: str, slot: str, text: str, folder: Path) -> list[str]:
    """Return the arguments of a command with the text in one place, and something harmless where there must be."""
    given = {"data": str(folder / "data")} | BEFORE_ANYTHING_STARTS.get(name, {})
    options, words = [], []
    for parameter in PARAMETERS[name]:
        value = text if parameter.name == slot else given.get(parameter.name)
        if isinstance(parameter, TyperArgument):
            words += [value or "x"] if parameter.required or value else []
        elif value is not None:
            options.append(f"{parameter.opts[-1]}={value}")
    return [name, *options, "--", *words]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HONGBAO_DATA", str(tmp_path / "data"))
    return tmp_path


@pytest.mark.parametrize(("name", "slot"), SLOTS)
def test_markup_in_the_place_of_any_argument_ends_no_command_in_a_traceback(
    name: str, slot: str, elsewhere: Path
) -> None:
    with caught(), pytest.raises(SystemExit):
        run(arguments_of(name, slot, "[/x]", elsewhere))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(slot=st.sampled_from(SLOTS), text=TEXTS)
def test_no_other_text_does_so_either(slot: tuple[str, str], text: str, elsewhere: Path) -> None:
    with caught(), pytest.raises(SystemExit):
        run(arguments_of(*slot, text, elsewhere))


# The streams, each in a process of its own.


def asked(shell: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a line of shell in which "$@" is the command line."""
    return subprocess.run(
        ["bash", "-c", shell, "-", *COMMAND],
        capture_output=True,
        timeout=ANSWER_S_MAX,
        env={**os.environ, "COLUMNS": "200"} | environment,
        preexec_fn=as_child,
        check=False,
    )


@pytest.mark.parametrize("closing", [">&-", "<&- >&- 2>&-"])
def test_closed_streams_take_nothing_away_from_the_verdict(closing: str, tmp_path: Path) -> None:
    ended = asked(f'"$@" status --json {closing}', HONGBAO_DATA=str(tmp_path))
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_a_file_opened_later_is_never_taken_for_a_closed_stream(tmp_path: Path) -> None:
    code = "import cluster.screen, os, sys; sys.exit(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY))"
    ended = subprocess.run(["bash", "-c", '"$@" >&- <&-', "-", sys.executable, "-c", code, str(tmp_path / "file")])
    assert ended.returncode > 2


def without_reader(*arguments: str, stream: str, folder: Path) -> int:
    """Run a command whose stream is a pipe that nobody reads any more; return its exit code."""
    nobody, end = os.pipe()
    os.close(nobody)
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: end}
    environment = {**os.environ, "HONGBAO_DATA": str(folder)}
    with subprocess.Popen([*COMMAND, *arguments], **streams, env=environment, preexec_fn=as_child) as process:
        os.close(end)
        told = process.communicate(timeout=ANSWER_S_MAX)
    assert not any(told), "the stream that is read tells of nothing"
    return process.returncode


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json")])
def test_a_command_whose_reader_goes_ends_as_any_program_does_then(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert without_reader(*arguments, stream="stdout", folder=tmp_path) == READER_GONE


def test_a_command_whose_progress_nobody_reads_does_its_work_all_the_same(tmp_path: Path) -> None:
    assert without_reader("down", stream="stderr", folder=tmp_path) == 0


NARROW = {
    "a stream": {"PYTHONIOENCODING": "ascii"},
    "a locale": {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
}


@pytest.mark.parametrize("environment", NARROW.values(), ids=NARROW)
def test_a_path_of_any_name_is_named_where_the_encoding_is_narrow(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "红包"
    ended = asked('"$@" status --json', HONGBAO_DATA=str(folder), **environment)
    assert (ended.returncode, ended.stderr) == (1, b"")
    assert json.loads(ended.stdout)["data"] == str(folder)


def test_a_path_that_is_no_text_at_all_is_named_too(tmp_path: Path) -> None:
    ended = asked('"$@" status --json --data "$HONGBAO_DATA"/$\'\\xff\'', HONGBAO_DATA=str(tmp_path))
    assert (ended.returncode, ended.stderr) == (1, b"")
    assert json.loads(ended.stdout)["data"].endswith("\udcff")


# What a shell and its user ask for.


def test_the_version_is_told_and_a_shell_completes_commands() -> None:
    assert asked('"$@" --version').stdout.startswith(b"hongbao ")
    completing = {"_HONGBAO_COMPLETE": "complete_bash", "COMP_WORDS": "hongbao st", "COMP_CWORD": "1"}
    code = "import sys; sys.argv[0] = 'hongbao'; from cluster.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **completing}, capture_output=True, check=False
    )
    assert ended.stdout.split() == [b"status", b"statement"]


def test_the_data_folder_is_the_one_given_then_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HONGBAO_DATA", str(tmp_path / "named"))
    assert data_folder() == tmp_path / "named"
    assert data_folder(tmp_path / "given") == tmp_path / "given"
    monkeypatch.setenv("HONGBAO_DATA", "")
    assert data_folder().name == "hongbao"
