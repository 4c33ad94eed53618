"""The directive ``ported-programs``: what had to change in programs that were PyTorch's.

It is read from the docstrings in ``examples/from_pytorch``.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "from_pytorch"
CHANGES = "What had to change from PyTorch:"


class Program(NamedTuple):
    """A program: where it is, what it does in a sentence, and what had to change, as a list."""

    path: str
    summary: str
    changes: str


def programs() -> list[Program]:
    """Return the programs, by name."""
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        about, _, changes = text.partition(CHANGES)
        place = path.relative_to(FOLDER.parents[1]).as_posix()
        found.append(Program(place, about.splitlines()[0], changes.strip()))
    return found


class PortedPrograms(SphinxDirective):
    """See the module."""

    def run(self) -> list[nodes.Node]:
        """Return a definition of each program."""
        self.env.note_reread()
        lines = []
        for program in programs():
            lines += [f"``{program.path}``", f"    {program.summary}", ""]
            lines += [*(f"    {line}" for line in program.changes.splitlines()), ""]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("ported-programs", PortedPrograms)
    return {"parallel_read_safe": True}
