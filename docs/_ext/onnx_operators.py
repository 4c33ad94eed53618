"""The directive ``onnx-operators``: what lucid computes of ONNX, and how, from its own table."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lucid.onnx._operators import OPERATORS


class OperatorsTable(SphinxDirective):
    """See the module."""

    def run(self) -> list[nodes.Node]:
        """Return the table, a row an operator."""
        self.env.note_reread()
        lines = [".. list-table::", "    :header-rows: 1", ""]
        rows = [["operator", "computed by"]]
        for name in sorted(OPERATORS):
            rows.append([f"``{name}``", OPERATORS[name].text.replace("`", "``")])
        for first, second in rows:
            lines += [f"    * - {first}", f"      - {second}"]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("onnx-operators", OperatorsTable)
    return {"parallel_read_safe": True}
