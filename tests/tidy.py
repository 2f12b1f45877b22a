"""Tidy: what no linter checks for us. `python -m tests.tidy` prints every finding and ends with 1 if there is any.

- a file is one decision: at most LINES_MAX lines; a function at most FUNCTION_LINES_MAX;
- every module, public class and public function of the product has a docstring;
- names avoid the words that say nothing (CONTRIBUTING.md);
- a class name of the product means one thing, and a file of actors/ and cluster/ is a noun;
- sentences of the product and of documents are plain: "they", and "is not a" (CONTRIBUTING.md);
- what a Markdown page names exists (`tests.documents`), and its tables are whole;
- the lock files hold names, versions and hashes, no addresses, and whatever pyproject.toml asks for.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tests import documents

LINES_MAX = 450
TEST_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
PRODUCT = ("actors/", "cluster/", "loadtest/")
EMPTY_WORDS = re.compile(r"(?i)(manager|helper|utils?)(?=$|_|[A-Z])")

HARD_WORDS = re.compile(
    r"\b(?i:whoever|he|his|him|himself)\b|(?<!\b[Tt]here )\b(?:is|are|was|were) no\b(?! (?:longer|more)\b)"
)
LOCKS = ("requirements.lock", "requirements-dev.lock")
LOCKED = re.compile(r"([a-z0-9][a-z0-9.-]*)==[A-Za-z0-9.]+( ; [a-z_0-9.'<>=!() -]+)? \\", re.IGNORECASE)
HASHED = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


NOUNS = {"chunked", "funding", "posting", "remembered", "routing", "sealing"}
"""File names that look like participles and are nouns of the field."""

Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def tracked(root: Path) -> list[Path]:
    """Return the files git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=root, capture_output=True, check=True
    )
    return [root / name for name in listed.stdout.decode().splitlines() if (root / name).is_file()]


def check_python(path: Path, name: str) -> Iterator[str]:
    """Yield what is untidy in one Python file."""
    text = path.read_text()
    lines = text.count("\n")
    if lines > (LINES_MAX if name.startswith(PRODUCT) else TEST_LINES_MAX):
        yield f"{name}: {lines} lines; is it still one decision?"
    tree = ast.parse(text)
    product = name.startswith(PRODUCT)
    if product and text.strip() and ast.get_docstring(tree) is None:
        yield f"{name}: the module has no docstring"
    protocols = {
        n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and any("Protocol" in ast.dump(b) for b in n.bases)
    }
    inside = {method for protocol in protocols for method in protocol.body}
    for node in ast.walk(tree):
        if not isinstance(node, Named):
            continue
        where = f"{name}:{node.lineno}: {node.name}"
        if EMPTY_WORDS.search(node.name):
            yield f"{where}: the name says nothing"
        if not isinstance(node, ast.ClassDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if product and length > FUNCTION_LINES_MAX:
                yield f"{where}: {length} lines"
    if product:
        yield from _undocumented(tree, name, inside)


def _undocumented(tree: ast.Module, name: str, exempt: set[ast.stmt]) -> Iterator[str]:
    """Yield public classes, and public functions of modules and classes, that say nothing about themselves."""
    scopes: list[ast.Module | ast.ClassDef] = [tree]
    scopes += [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for scope in scopes:
        for node in scope.body:
            if not isinstance(node, Named) or node.name.startswith("_") or node in exempt:
                continue
            if ast.get_docstring(node) is None and not _is_override(scope):
                yield f"{name}:{node.lineno}: {node.name} has no docstring"


def check_words(text: str, name: str) -> Iterator[str]:
    """Yield words that readers of another language stumble over; "they" and "is not a" are plain."""
    for number, line in enumerate(text.splitlines(), 1):
        for found in HARD_WORDS.findall(line):
            yield f"{name}:{number}: {found!r}; CONTRIBUTING.md says how else"


def _is_override(scope: ast.Module | ast.ClassDef) -> bool:
    """Tell whether the scope only fills in a class of a library, whose documentation stands there."""
    return isinstance(scope, ast.ClassDef) and scope.name.startswith("_")


def check_names(root: Path, paths: list[Path]) -> Iterator[str]:
    """Yield class names of the product that are used twice, and files that are named by what somebody does."""
    places: dict[str, list[str]] = {}
    for path in paths:
        name = str(path.relative_to(root))
        if path.suffix != ".py" or not name.startswith(PRODUCT):
            continue
        if path.stem.endswith(("ing", "ed")) and path.stem not in NOUNS and not name.startswith("loadtest/"):
            yield f"{name}: a file is named by a noun of the field"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{name}:{node.lineno}")
    for name, found in sorted(places.items()):
        if len(found) > 1:
            yield f"{found[1]}: {name} is a class of {found[0]} too"


def check_locks(root: Path) -> Iterator[str]:
    """Yield lines of the lock files that are neither a version nor a hash, and what is asked for but not locked."""
    locked: set[str] = set()
    for name in LOCKS:
        before = ""
        for number, line in enumerate([*(root / name).read_text().splitlines(), "#"], 1):
            pinned = LOCKED.fullmatch(line)
            if pinned is not None:
                locked.add(pinned[1])
            elif line and not (HASHED.fullmatch(line) or line.lstrip().startswith("#")):
                yield f"{name}:{number}: neither name==version nor a hash; `make lock` writes this file: {line}"
            if LOCKED.fullmatch(before) and not HASHED.fullmatch(line):
                yield f"{name}:{number - 1}: no hash; `make lock` writes this file: {before}"
            before = line
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    for wanted in [*project["dependencies"], *chain(*project["optional-dependencies"].values())]:
        written = _NAME.match(wanted)
        if written is not None and re.sub(r"[._-]+", "-", written[0]).lower() not in locked:
            yield f"pyproject.toml: {wanted} is not locked; run `make lock`"


def main() -> int:
    """Check the tree."""
    root = Path(__file__).resolve().parent.parent
    findings: list[str] = list(check_locks(root))
    files = tracked(root)
    findings += check_names(root, files)
    for path in files:
        if path.suffix == ".py":
            name = str(path.relative_to(root))
            findings += check_python(path, name)
            if name.startswith(PRODUCT):
                findings += check_words(path.read_text(), name)
        elif path.suffix == ".md":
            name = str(path.relative_to(root))
            findings += chain(documents.check(path.read_text(), name), check_words(path.read_text(), name))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
