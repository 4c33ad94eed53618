"""The directive ``command-line``: the help texts of a command and its subcommands."""

from __future__ import annotations

import argparse
import os
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lucid.cli import _main

WIDTH = "80"  # what a box of these pages holds on a desk's screen


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the subcommands' parsers by name."""
    for action in _main._parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


class CommandLine(SphinxDirective):
    """See the module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a section for each subcommand."""
        program = self.arguments[0]
        self.env.note_reread()
        before = os.environ.get("COLUMNS")
        os.environ["COLUMNS"] = WIDTH  # argparse wraps to the width of the terminal
        os.environ["NO_COLOR"] = "1"
        try:
            texts = {name: parser.format_help() for name, parser in parsers().items()}
        finally:
            if before is None:
                del os.environ["COLUMNS"]
            else:
                os.environ["COLUMNS"] = before
        lines = []
        for name, text in texts.items():
            title = f"{program} {name}"
            lines += [title, "-" * len(title), "", ".. code-block:: text", ""]
            lines += [f"    {line}" for line in text.splitlines()] + [""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
