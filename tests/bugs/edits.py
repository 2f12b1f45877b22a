"""Edits: changes within one function, found by its name, made on its syntax tree; layout and comments do not matter.

An anchor is `"package.module:Class.function"`. A fragment is a piece of Python in it: a bare name (`durable`) is found
wherever the function uses it, anything longer (`self.number`, `count + 1`, `last = None`) wherever the same is written.
An edit needs its fragment in exactly one place. What is missing raises `Gone`, which says what, and where.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import TypeVar

Function = ast.FunctionDef | ast.AsyncFunctionDef
_Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Edit = Callable[[Function], None]
T = TypeVar("T")


class Gone(Exception):
    """An anchor, or a fragment in it, is not there once."""


def drop(fragment: str) -> Edit:
    """Leave out the statement that holds the fragment."""
    return _replace_statement(fragment, lambda _: [ast.Pass()])


def instead(fragment: str, code: str) -> Edit:
    """Do something else in the place of the statement that holds the fragment."""
    return _replace_statement(fragment, lambda _: ast.parse(code).body)


def before(fragment: str, code: str) -> Edit:
    """Do something first, before the statement that holds the fragment."""
    return _replace_statement(fragment, lambda statement: [*ast.parse(code).body, statement])


def after(fragment: str, code: str) -> Edit:
    """Do something more, after the statement that holds the fragment."""
    return _replace_statement(fragment, lambda statement: [statement, *ast.parse(code).body])


def first(code: str) -> Edit:
    """Begin the function with something else."""

    def edit(function: Function) -> None:
        start = 0 if ast.get_docstring(function) is None else 1
        function.body[start:start] = ast.parse(code).body

    return edit


def swap(one: str, other: str) -> Edit:
    """Let two statements of one block change places."""

    def edit(function: Function) -> None:
        (block, at), (same, to) = _statement(function, one), _statement(function, other)
        if block is not same or at == to:
            raise Gone(f"{one!r} and {other!r} are not two statements of one block")
        block[at], block[to] = block[to], block[at]

    return edit


def put(old: str, new: str) -> Edit:
    """Compute something else in the place of an expression."""

    def edit(function: Function) -> None:
        made = ast.parse(new, mode="eval").body
        _set(*_only(list(_places(function, old)), old), made)

    return edit


def always(fragment: str) -> Edit:
    """Let the condition that holds the fragment be true."""
    return _decide(fragment, lambda _: ast.Constant(True))


def never(fragment: str) -> Edit:
    """Let the condition that holds the fragment be false."""
    return _decide(fragment, lambda _: ast.Constant(False))


def contrary(fragment: str) -> Edit:
    """Turn the condition that holds the fragment round."""
    return _decide(fragment, lambda condition: ast.UnaryOp(ast.Not(), condition))


def without(fragment: str) -> Edit:
    """Take the part that holds the fragment out of an `and` or `or`."""

    def edit(function: Function) -> None:
        found = [
            (node, part)
            for node in ast.walk(function)
            if isinstance(node, ast.BoolOp)
            for part in node.values
            if _holds(part, fragment) and not isinstance(part, ast.BoolOp)
        ]
        junction, part = _only(found, fragment)
        junction.values[junction.values.index(part)] = ast.Constant(isinstance(junction.op, ast.And))

    return edit


def changed(path: Path, name: str, edit: Edit) -> CodeType:
    """Return the code of the function of that name in a file, with the edit made in it. Raises Gone."""
    tree = ast.parse(path.read_text())
    scope: ast.AST = tree
    for part in name.split("."):
        inner = [node for node in getattr(scope, "body", []) if isinstance(node, _Named) and node.name == part]
        if not inner:
            raise Gone(f"{name} is not there")
        scope = inner[-1]
    assert isinstance(scope, Function), f"{name} is no function"
    edit(scope)
    return _code_in(compile(ast.fix_missing_locations(tree), path, "exec"), name)


def _code_in(code: CodeType, name: str) -> CodeType:
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    for one in inner:
        if one.co_qualname == name:
            return one
    return next(_code_in(one, name) for one in inner if name.startswith(f"{one.co_qualname}."))


def path_of(module: str, root: Path) -> Path:
    """Return the file of a module."""
    path = root / module.replace(".", "/")
    return path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"


def _same(node: ast.AST, fragment: str) -> bool:
    if isinstance(node, ast.Name):
        return node.id == fragment
    if isinstance(node, ast.Attribute) and node.attr == fragment:
        return True
    return isinstance(node, ast.expr | ast.stmt) and ast.unparse(node) == fragment


def _holds(node: ast.AST, fragment: str) -> bool:
    wanted = _plain(fragment)
    return any(_same(inner, wanted) for inner in ast.walk(node))


def _plain(fragment: str) -> str:
    [statement] = ast.parse(fragment).body
    return ast.unparse(statement.value if isinstance(statement, ast.Expr) else statement)


def _only(found: list[T], fragment: str) -> T:
    if len(found) != 1:
        raise Gone(f"{fragment!r} is there {len(found)} times, not once")
    return found[0]


def _places(node: ast.AST, fragment: str) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Yield where expressions that are the fragment stand, the outermost ones: (parent, field, index in it)."""
    wanted = _plain(fragment)
    for field, value in ast.iter_fields(node):
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST):
                continue
            if isinstance(child, ast.expr) and _same(child, wanted):
                yield node, field, index
            else:
                yield from _places(child, fragment)


def _set(node: ast.AST, field: str, index: int | None, made: ast.AST) -> None:
    if index is None:
        setattr(node, field, made)
    else:
        getattr(node, field)[index] = made


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for inner in ast.walk(node):
        for _, value in ast.iter_fields(inner):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                yield value


def _statement(function: Function, fragment: str) -> tuple[list[ast.stmt], int]:
    """Return where the innermost statement that holds the fragment stands: its block, and the place in it."""
    found = []
    for block in _blocks(function):
        for at, statement in enumerate(block):
            inner = {id(node) for own in _blocks(statement) for one in own for node in ast.walk(one)}
            own = [node for node in ast.walk(statement) if id(node) not in inner]
            if any(_same(node, _plain(fragment)) for node in own):
                found.append((block, at))
    return _only(found, fragment)


def _replace_statement(fragment: str, made: Callable[[ast.stmt], list[ast.stmt]]) -> Edit:
    def edit(function: Function) -> None:
        block, at = _statement(function, fragment)
        block[at : at + 1] = made(block[at])

    return edit


def _conditions(function: Function) -> Iterator[tuple[ast.AST, str, int | None, ast.expr]]:
    for node in ast.walk(function):
        if isinstance(node, ast.If | ast.IfExp | ast.While | ast.Assert):
            yield node, "test", None, node.test
        elif isinstance(node, ast.comprehension):
            yield from ((node, "ifs", index, condition) for index, condition in enumerate(node.ifs))


def _decide(fragment: str, made: Callable[[ast.expr], ast.expr]) -> Edit:
    def edit(function: Function) -> None:
        found = [place for place in _conditions(function) if _holds(place[3], fragment)]
        node, field, index, condition = _only(found, fragment)
        _set(node, field, index, made(condition))

    return edit
