"""How much there is to read: a promise of the documentation, and a cap on the whole."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reading.md"
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
SCOPES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(source: str) -> int:
    """Return how many lines hold a token that is no comment and no part of a docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for scope in ast.walk(ast.parse(source)):
        if isinstance(scope, SCOPES) and ast.get_docstring(scope, clean=False) is not None:
            lines.difference_update(range(scope.body[0].lineno, scope.body[0].end_lineno + 1))
    return len(lines)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("", 0),
        ('"""A module."""\n\n# a comment\nx = 1  # another\n', 1),
        ('def f(\n    x,\n):\n    """Return it.\n\n    As it is.\n    """\n    return x\n', 4),
        ('x = """text\n\nthat is data"""\n', 3),
    ],
)
def test_lines_of_code_are_counted(source, count):
    assert code_lines(source) == count


def test_the_path_to_a_trained_network_is_read_in_an_afternoon():
    steps = PAGE.read_text(encoding="utf-8").split("## Where to go next")[0]
    names = re.findall(r"`(lucid/[\w/]+\.py)`", steps)
    assert len(names) > 20
    assert len(set(names)) == len(names)
    counts = {name: code_lines((ROOT / name).read_text(encoding="utf-8")) for name in names}
    assert sum(counts.values()) <= 5000, counts


def test_the_library_stays_small():
    """The caps are what there is; to raise one is a decision that a commit explains."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "lucid").rglob("*.py")]
    assert sum(source.count("\n") for source in sources) <= 70_194
    assert sum(map(code_lines, sources)) <= 45_394
