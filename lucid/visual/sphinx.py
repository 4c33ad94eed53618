"""A Sphinx extension: models in the documentation, drawn when it is built.

Put ``"lucid.visual.sphinx"`` into ``extensions`` (it needs ``sphinxcontrib-mermaid``), then

.. code-block:: rst

    .. lucid-model:: mobilenet_v4_conv_medium
        :input-shape: 1, 3, 224, 224
        :depth: 4

builds the model and shows its stages, which open into blocks and layers, the chart of its layers,
and their table. The argument is a name of
:func:`lucid.models.list_models`, or ``package.module:name`` of a class or function that builds a
model, called without arguments. Options, all of them optional:

- ``:input-shape:`` of the run, batch included (default: ``1, 3, 224, 224``);
- ``:depth:`` of the diagram (default: 4; ``all`` opens everything);
- ``:direction:`` ``LR``, ``RL``, ``TB`` or ``BT``;
- ``:repeats:`` ``like``, ``exact`` or ``all``: see ``collapse_repeats`` of
  :func:`lucid.visual.mermaid`;
- ``:table-depth:`` fold modules of this depth into one row of the table;
- ``:no-diagram:``, ``:no-table:`` leave one of them out;
- ``:caption:`` of the diagram; ``:name:`` to refer to it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinxcontrib.mermaid import mermaid as mermaid_node

from lucid import models
from lucid._version import __version__
from lucid.nn import Module
from lucid.nn.utils import skip_init
from lucid.visual._chart import REPEATS, layers_of
from lucid.visual._mermaid import mermaid
from lucid.visual._outline import outline
from lucid.visual._picture import STATIC, rows_html, rows_svg
from lucid.visual._summary import Summary, summary

_HEADER = ("Name", "Kind", "Output shape", "Parameters", "Multiply-adds")
_FIRST_NUMBER = 3  # the columns from here on are numbers


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.strip("() ").rstrip(",").split(","))
    except ValueError:
        raise ValueError(f"expected sizes such as 1, 3, 224, 224, got {text!r}") from None


def _depth(text: str) -> int | None:
    return None if text == "all" else directives.positive_int(text)


def _direction(text: str) -> str:
    return directives.choice(text, ("LR", "RL", "TB", "BT", "lr", "rl", "tb", "bt")).upper()


class LucidModel(SphinxDirective):
    """The directive ``lucid-model``."""

    required_arguments = 1
    final_argument_whitespace = False
    option_spec = {  # noqa: RUF012  (as in the base class)
        "input-shape": _shape,
        "depth": _depth,
        "direction": _direction,
        "repeats": lambda text: directives.choice(text, tuple(REPEATS)),
        "table-depth": directives.positive_int,
        "no-diagram": directives.flag,
        "no-table": directives.flag,
        "caption": directives.unchanged,
        "name": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Build the model and lay it out."""
        name = self.arguments[0]
        try:
            model, sources = _build(name)
            for source in sources:  # a page is built again when one of them has changed
                self.env.note_dependency(source)
            shape = self.options.get("input-shape", (1, 3, 224, 224))
            result: list[nodes.Node] = []
            if "no-diagram" not in self.options:
                result.append(self._diagram(name, model, shape))
            if "no-table" not in self.options:
                depth = self.options.get("table-depth")
                counts = summary(model, shape, depth=depth)
                result += _folded(_in_words(counts), _table(counts), "lucid-layers")
            return result
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise self.error(f"lucid-model: {name!r}: {error}") from error

    def _diagram(self, name: str, model: Module, shape: tuple[int, ...]) -> nodes.Node:
        chart = mermaid_node()
        chart["code"] = mermaid(
            model,
            shape,
            depth=self.options.get("depth", 4),
            direction=self.options.get("direction", "LR"),
            collapse_repeats=REPEATS[self.options.get("repeats", "like")],
        )
        chart["options"] = {}
        chart["alt"] = f"Diagram of {name}"
        self.set_source_info(chart)
        whole = outline(layers_of("lucid-model", model, shape))
        files = [
            ("SVG", f"{name}.svg", rows_svg(whole, "stage")),
            ("Mermaid", f"{name}.mmd", mermaid(model, shape, level="stage")),
        ]
        diagram: nodes.Element = nodes.container(
            "",
            nodes.raw("", rows_html(whole, files), format="html"),
            *_folded("Chart of all layers, with the ways of the data", chart, "lucid-chart"),
            classes=["lucid-model"],
        )
        if "caption" in self.options:
            caption = nodes.caption(self.options["caption"], "", *self._inline())
            diagram = nodes.figure("", diagram, caption)
        self.add_name(diagram)
        return diagram

    def _inline(self) -> list[nodes.Node]:
        parsed, messages = self.parse_inline(self.options["caption"], lineno=self.lineno)
        return [*parsed, *messages]


def _build(name: str) -> tuple[Module, set[str]]:
    """Return the model that ``name`` says, without random weights, and the files it is made by."""
    module, colon, attribute = name.partition(":")
    factory: Any = partial(models.create_model, name)
    sources = set()
    if colon:
        factory = importlib.import_module(module)
        sources.add(factory.__file__)
        for part in attribute.split("."):
            factory = getattr(factory, part)
    model = skip_init(factory)
    if not isinstance(model, Module):
        raise TypeError(f"expected a lucid.nn.Module, got {type(model).__name__}")
    kinds = {kind for layer in model.modules() for kind in type(layer).__mro__}
    sources |= {getattr(sys.modules[kind.__module__], "__file__", None) for kind in kinds}
    return model, {source for source in sources if source is not None}


def _in_words(counts: Summary) -> str:
    layers = "1 layer" if len(counts.layers) == 1 else f"{len(counts.layers)} layers"
    return f"{layers}, {counts.total_params:,} parameters, {counts.total_macs:,} multiply-adds"


def _folded(title: str, content: nodes.Node, name: str) -> list[nodes.Node]:
    """Return ``content`` under a line that opens it: other formats than HTML show it as it is."""
    start = f'<details class="{name}" data-part="{name}"><summary>{title}</summary>'
    return [
        nodes.raw("", start, format="html"),
        content,
        nodes.raw("", "</details>", format="html"),
    ]


def _table(counts: Summary) -> nodes.table:
    rows, (_, *sums) = counts.rows()
    total = ("Total", *sums)
    group = nodes.tgroup("", cols=len(_HEADER))
    for column in zip(_HEADER, *rows, total):
        # Builders for plain text break words that are wider, with the signs they put around.
        group += nodes.colspec(colwidth=max(len(text) for text in column) + 4)
    group += nodes.thead("", _row(_HEADER, literal=False))
    body = nodes.tbody("", *(_row(row, literal=True) for row in rows))
    body += _row(total, literal=False, strong=True)
    group += body
    return nodes.table("", group, classes=["lucid-layers"])


def _row(texts: Sequence[str], *, literal: bool, strong: bool = False) -> nodes.row:
    row = nodes.row()
    for index, text in enumerate(texts):
        words: nodes.Node = nodes.Text(text)
        if literal and index < 2:
            words = nodes.literal("", text)
        elif strong and text:
            words = nodes.strong("", text)
        number = ["lucid-number"] if index >= _FIRST_NUMBER else []
        entry = nodes.entry("", nodes.paragraph("", "", words), classes=number)
        row += entry
    return row


def _add_static(app: Sphinx) -> None:
    app.config.html_static_path.append(str(STATIC))


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive, how its rows look, and sphinxcontrib-mermaid, which draws its charts."""
    app.setup_extension("sphinxcontrib.mermaid")
    app.connect("builder-inited", _add_static)
    app.add_css_file("lucid-model.css")
    app.add_js_file("lucid-model.js", loading_method="defer")
    app.add_directive("lucid-model", LucidModel)
    return {
        "version": __version__,
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
