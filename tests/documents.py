"""Documents: what a Markdown page names exists: pages, files, tests, commands, make targets. And tables are whole.

`tests.tidy` asks this of every page; `tests/unit/test_documents.py` shows that each check finds its mistake.
"""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README_LINES_MAX = 150

_RULE = re.compile(r"\|( *:?-+:? *\|)+")
_CELL_EDGE = re.compile(r"(?<!\\)\|")
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"#{1,6} +(.*)")
_FILE = re.compile(r"(?:[A-Za-z0-9_.-]+/)+[A-Za-z0-9_-]+\.(?:py|toml|md|yml|yaml|json|sh|txt)")
_FOLDER = re.compile(r"(?:actors|cluster|configs|docs|loadtest|tests)/(?:[a-z0-9_]+/)*")
_TEST = re.compile(r"test_[a-z0-9_]+")
_COMMAND = re.compile(r"\bhongbao ([a-z][a-z-]*)")
_TARGET = re.compile(r"(?<![\w-])make ([a-z][a-z-]*)")
_MODULE = re.compile(r"python(?:3)? -m ((?:actors|cluster|loadtest|tests)\.[a-z0-9_.]*[a-z0-9_])")
_SETTING = re.compile(r"[a-z_]+(\.[a-z_]+)+")
_PROSE = {"make": {"sure", "it", "them", "up", "a", "an", "the"}}


def check(text: str, name: str) -> Iterator[str]:
    """Yield what is wrong in one page, each with its line; `name` is its path in the tree."""
    yield from _tables(text, name)
    yield from _links(text, name)
    yield from _names(text, name)
    if name == "README.md" and text.count("\n") > README_LINES_MAX:
        yield f"{name}: {text.count(chr(10))} lines; {README_LINES_MAX} at most, the rest belongs into docs/"


def _tables(text: str, name: str) -> Iterator[str]:
    """Yield every table that is not shown as one: a blank line cuts it, a row has other cells."""
    fenced, table = False, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], 1):
        fenced ^= line.startswith("```")
        if line.startswith("|") and not fenced:
            table.append(line)
            continue
        if table:
            start, widths = number - len(table), [len(_CELL_EDGE.findall(_CODE.sub("", row))) for row in table]
            if len(table) < 2 or _RULE.fullmatch(table[1]) is None:
                yield f"{name}:{start}: these rows have no heading; a blank line cuts them from their table"
            yield from (f"{name}:{start + i}: a row of other cells" for i, n in enumerate(widths) if n != widths[0])
        table = []


def _links(text: str, name: str) -> Iterator[str]:
    """Yield links to pages, files and headings that are not there. What is on the internet is not asked for."""
    for number, line in _prose(text):
        for target in _LINK.findall(line):
            if ":" in target:
                continue
            path, _, anchor = target.partition("#")
            page = (ROOT / name).parent / path
            if path and not page.exists():
                yield f"{name}:{number}: a link to {target}, which does not exist"
            elif anchor and anchor not in anchors(page.read_text() if path else text):
                yield f"{name}:{number}: a link to {target}, which has no such heading"


def _names(text: str, name: str) -> Iterator[str]:
    """Yield files, folders, tests, commands, make targets and modules in code that do not exist."""
    for number, code in _pieces_of_code(text):
        for path in _FILE.findall(code):
            if _FOLDER.match(path) and not (ROOT / path).is_file():
                yield f"{name}:{number}: {path} does not exist"
        for path in _FOLDER.findall(code):
            if code == path and not (ROOT / path).is_dir():
                yield f"{name}:{number}: {path} does not exist"
        if _TEST.fullmatch(code) and code not in tests():
            yield f"{name}:{number}: there is no test {code}"
        for module in _MODULE.findall(code):
            place = ROOT / module.replace(".", "/")
            if not (place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()):
                yield f"{name}:{number}: there is no module {module}"
        for command in _COMMAND.findall(code):
            if command not in commands():
                yield f"{name}:{number}: there is no command hongbao {command}"
        if _SETTING.fullmatch(code) and code.partition(".")[0] in settings() and not _is_setting(code):
            yield f"{name}:{number}: configs/local.toml has no {code}"
        for target in _TARGET.findall(code):
            if target not in targets() and target not in _PROSE["make"]:
                yield f"{name}:{number}: there is no target make {target}"


def _is_setting(name: str) -> bool:
    table: Any = settings()
    for part in name.split("."):
        if not isinstance(table, dict) or part not in table:
            return False
        table = table[part]
    return True


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines outside of fenced blocks, with their numbers."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def _pieces_of_code(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines of fenced blocks, and what stands in backticks elsewhere, with their line numbers."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif fenced:
            yield number, line.partition(" #")[0] if not line.startswith("#") else ""
        else:
            yield from ((number, code) for code in _CODE.findall(line))


def anchors(text: str) -> set[str]:
    """Return what a page's headings can be linked to as, by GitHub's rule."""
    found = (_HEADING.fullmatch(line) for _, line in _prose(text))
    return {re.sub(r"[^\w\- ]", "", one[1].lower()).replace(" ", "-") for one in found if one}


@cache
def tests() -> frozenset[str]:
    """Return the names of all tests."""
    files = (ROOT / "tests").rglob("test_*.py")
    return frozenset(name for file in files for name in re.findall(r"def (test_[a-z0-9_]+)", file.read_text()))


@cache
def commands() -> frozenset[str]:
    """Return the names of all commands."""
    from cluster.cli import COMMANDS

    return frozenset(command.__name__.replace("_", "-") for command in COMMANDS)


@cache
def settings() -> dict[str, Any]:
    """Return the configuration of one machine, which has every setting."""
    return tomllib.loads((ROOT / "configs" / "local.toml").read_text())


@cache
def targets() -> frozenset[str]:
    """Return the targets of the Makefile."""
    return frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
