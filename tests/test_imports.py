"""Which file imports which: only down the storeys, and in no circle but that of the tape."""

from __future__ import annotations

import ast
from pathlib import Path

import lucid

PACKAGE = Path(lucid.__file__).parent
# Tensor and what type checkers are told of it, Node, Function.
TAPE = {
    "lucid.autograd._tensor",
    "lucid.autograd._declared",
    "lucid.autograd._graph",
    "lucid.autograd._function",
}


def _imports() -> dict[str, set[str]]:
    """Return the modules that each one imports, inside functions and for type checkers too."""
    files = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found: dict[str, set[str]] = {}
    for module, path in files.items():
        names = []
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.module, f"{module}: relative import"
                inside = [f"{node.module}.{alias.name}" for alias in node.names]
                names += [name if name in files else node.module for name in inside]
        found[module] = {name for name in names if name in files and name != module}
    return found


def _reached(start: str, imports: dict[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = imports[waiting.pop()] - reached
        reached |= new
        waiting += new
    return reached


def _circles(imports: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return the sets of modules of which each reaches each other one."""
    reached = {module: _reached(module, imports) for module in imports}
    return {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in imports
        if module in reached[module]
    }


def test_circles_are_found() -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}
    assert _circles(imports) == {frozenset("bc")}


def test_nothing_but_the_tape_forms_a_circle() -> None:
    assert _circles(_imports()) == {frozenset(TAPE)}
