"""Directives for tables, plots and drawings.

- ``variant-table``: the five variants with parameters and multiply-adds, as lucid counts them; with
  ``released``, the twelve architectures in the form that was released.
- ``forms-table``: what the five cost in the page's form and in the released one.
- ``pretrained-table``: all published weights; ``checkpoint-table``: those of one architecture.
- ``published-table``: the variants' published accuracy.
- ``accuracy-plot``: accuracy over one of the figures; ``size-plot``: the figures as bars.
- ``project-file``: CONTRIBUTING.md and its like.
- ``storeys``: the package's storeys, from the linter's contract.
- ``drawing``: an SVG file, put into the page itself so that its colours follow the page's.
"""

from __future__ import annotations

import functools
import html
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from plots import Bar, bars, both, figure, scatter
from published import PAPER
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import lucid
from lucid import models
from lucid.nn.utils import skip_init

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # Sphinx requires it there

ROOT = Path(__file__).resolve().parents[2]
#: In the order of their size.
VARIANTS = tuple(PAPER)


@functools.cache
def figures(name: str, size: int) -> lucid.visual.Summary:
    """Return the summary of a variant for one square image."""
    return lucid.summary(skip_init(models.create_model, name), (1, 3, size, size))


def short(name: str) -> str:
    """Return a variant's name without the family."""
    return name.removeprefix("mobilenet_v4_").removeprefix("mobilenetv4_")


# -- tables -----------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a ``list-table`` in reStructuredText; all columns but the first are numbers."""
    lines = [".. list-table::", "    :header-rows: 1", "    :class: figures", ""]
    for row in [head, *rows]:
        for index, cell in enumerate(row):
            lines.append(f"    {'*' if index == 0 else ' '} - {cell}")
    return "\n".join(lines)


class Generated(SphinxDirective):
    """A directive whose content is reStructuredText or HTML that is computed.

    The page's HTML has it between two comments, so that a test can tell what was computed from what
    somebody wrote.
    """

    computed = True

    def run(self) -> list[nodes.Node]:
        """Return the content; it does not only depend on the page's own file."""
        self.env.note_reread()
        content = self.content_nodes()
        if not self.computed:
            return content
        return [*self.html("<!--computed-->"), *content, *self.html("<!--/computed-->")]

    def content_nodes(self) -> list[nodes.Node]:
        """Return the content."""
        raise NotImplementedError

    def rst(self, text: str) -> list[nodes.Node]:
        """Return parsed reStructuredText."""
        return self.parse_text_to_nodes(text)

    def html(self, text: str) -> list[nodes.Node]:
        """Return HTML as it stands."""
        return [nodes.raw("", text, format="html")]


class VariantTable(Generated):
    """``variant-table``."""

    optional_arguments = 1

    def content_nodes(self) -> list[nodes.Node]:
        """Return the table."""
        head = ["model", "parameters", "multiply-adds", "activations"]
        rows = []
        released = sorted(models.configs.RELEASED, key=lambda n: figures(n, 224).total_params)
        for name in released if self.arguments else VARIANTS:
            counts = figures(name, 224)
            rows.append(
                [
                    f":doc:`{name} </models/{name}>`",
                    f"{counts.total_params:,}",
                    f"{counts.total_macs:,}",
                    f"{counts.total_activations * 4 / 2**20:.1f} MiB",
                ]
            )
        note = (
            "For 1000 classes and one image of 224×224; activations are the outputs of all layers "
            "in float32. Counted from the running models when these pages were built."
        )
        return self.rst(table(head, rows) + "\n\n" + note)


def measured(entry: models.Pretrained) -> list[tuple[float | None, tuple[int, int, int]]]:
    """Return the accuracies of weights, None where nobody measured, and the sizes of images."""
    pairs = [(entry.top1, entry.input_size), (entry.test_top1, entry.test_input_size)]
    return [(top1, size) for top1, size in pairs if size is not None]


class CheckpointTable(Generated):
    """``checkpoint-table``: a name of timm's."""

    required_arguments = 1

    def content_nodes(self) -> list[nodes.Node]:
        """Return the table, or the sentence that there is none."""
        head = ["weights", "classes", "top-1", "at size", "top-1", "at size"]
        rows = []
        for entry in models.list_pretrained(f"{self.arguments[0]}.*"):
            cells = [f"``{entry.tag}``", f"{entry.num_classes:,}"]
            for top1, size in measured(entry):
                cells += [f"{top1:.2f} %" if top1 else "", str(size[-1])]
            rows.append(cells + [""] * (len(head) - len(cells)))
        if not rows:
            return self.rst("No weights are published for this architecture.")
        note = "Accuracy on ImageNet-1k, as timm reports it; ``weights=`` takes the tag."
        return self.rst(table(head, rows) + "\n\n" + note)


class PublishedTable(Generated):
    """``published-table``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return the table."""
        head = ["model", "paper: top-1", "timm: top-1", "at size", "timm's weights"]
        rows = []
        for name in VARIANTS:
            top1, size, tag = max(
                (top1, size[-1], entry.tag)
                for entry in models.list_pretrained(f"mobilenetv4_{short(name)}.*")
                for top1, size in measured(entry)
                if top1 is not None
            )
            link = f":doc:`{short(name)} </models/{name}>`"
            cells = [f"{PAPER[name].top1:.1f} %", f"{top1:.1f} %", str(size), f"``{tag}``"]
            rows.append([link, *cells])
        return self.rst(table(head, rows))


class FormsTable(Generated):
    """``forms-table``: what the two forms of the five variants cost."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return the table."""
        head = ["model", "parameters, released", "page", "multiply-adds, released", "page", "more"]
        rows = []
        for name in VARIANTS:
            released, page = figures(f"mobilenetv4_{short(name)}", 224), figures(name, 224)
            counts = [released.total_params, page.total_params]
            counts += [released.total_macs, page.total_macs]
            more = f"{page.total_macs / released.total_macs - 1:.1%}"
            rows.append([short(name), *(f"{count:,}" for count in counts), more])
        return self.rst(table(head, rows) + "\n\nFor 1000 classes and one image of 224×224.")


class PretrainedTable(Generated):
    """``pretrained-table``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return the table, in the order of the architectures' size."""
        head = ["mobilenetv4\\_…", "parameters", "size", "top-1", "larger", "top-1", "mean"]
        entries = models.list_pretrained()
        rows = []
        for entry in entries:
            cells = []
            for top1, size in measured(entry):
                cells += [str(size[-1]), "–" if top1 is None else f"{top1:.2f}"]
            cells += [""] * (4 - len(cells))
            imagenet = "ImageNet" if entry.mean != (0.5, 0.5, 0.5) else "0.5"
            rows.append([f"``{short(entry.name)}``", f"{entry.parameters:,}", *cells, imagenet])
        usual = next(entry for entry in entries if entry.mean != (0.5, 0.5, 0.5))
        licences = " and ".join(sorted({entry.license for entry in entries}))
        note = (
            f"Licence of all: {licences}. ImageNet's mean, of red, green and blue between 0 and 1, "
            f"is {', '.join(map(str, usual.mean))}, with a standard deviation of "
            f"{', '.join(map(str, usual.std))}; where it is 0.5, so is the standard deviation."
        )
        return self.rst(table(head, rows) + "\n\n" + note)


# -- plots ------------------------------------------------------------------------------------


def kind(name: str) -> str:
    """Return the class of a variant's marks: hybrids have the second colour."""
    return "b" if "hybrid" in name else "a"


class AccuracyPlot(Generated):
    """``accuracy-plot``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return the plot."""
        points = [
            (short(name), paper.macs, paper.top1, kind(name)) for name, paper in PAPER.items()
        ]
        caption = (
            "Top-1 accuracy on ImageNet-1k and multiply-adds as the paper reports them, each "
            "variant at its own image size. Orange: with attention."
        )
        titles = (
            "multiply-adds, billions",
            "top-1 accuracy, per cent",
            "Accuracy over multiply-adds",
        )
        return self.html(figure(both(lambda width: scatter(points, *titles, width)), caption))


class SizePlot(Generated):
    """``size-plot``: ``params``, ``macs`` or ``activations``."""

    required_arguments = 1

    def content_nodes(self) -> list[nodes.Node]:
        """Return the plot."""
        get: dict[str, tuple[Callable[[lucid.visual.Summary], float], str, str]] = {
            "params": (lambda s: s.total_params / 1e6, "Parameters", "M"),
            "macs": (lambda s: s.total_macs / 1e9, "Multiply-adds of one image", "G"),
            "activations": (
                lambda s: s.total_activations * 4 / 2**20,
                "Activation memory of one image",
                "MiB",
            ),
        }
        read, title, unit = get[self.arguments[0]]
        values = {name: read(figures(name, 224)) for name in VARIANTS}
        rows = [
            Bar(short(name), value, f"{value:.3g} {unit}", kind(name))
            for name, value in values.items()
        ]
        caption = f"{title}, at 224×224, counted by lucid. Orange: with attention."
        return self.html(figure(both(lambda width: bars(rows, width, title)), caption))


# -- files and drawings ----------------------------------------------------------------------


class ProjectFile(Generated):
    """``project-file``: a Markdown file of the project's root; its links lead to these pages."""

    computed = False
    required_arguments = 1

    def content_nodes(self) -> list[nodes.Node]:
        """Return its content."""
        path = ROOT / self.arguments[0]
        text = path.read_text(encoding="utf-8")
        text = text.replace("](docs/", "](").replace("](CHANGELOG.md)", "](changelog.md)")
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class Drawing(Generated):
    """``drawing``: a file of the folder drawings, with its caption as content."""

    computed = False
    required_arguments = 1
    has_content = True

    def content_nodes(self) -> list[nodes.Node]:
        """Return the figure."""
        path = Path(self.env.srcdir) / "drawings" / self.arguments[0]
        caption = html.escape(" ".join(self.content))
        svg = path.read_text(encoding="utf-8")
        text = f'<figure class="drawing">\n{svg}\n<figcaption>{caption}</figcaption>\n</figure>'
        return self.html(text)


class Storeys(Generated):
    """``storeys``: the storeys of the package, drawn from the linter's contract."""

    WIDTH, STEP, GAP = 520, 42, 8

    def content_nodes(self) -> list[nodes.Node]:
        """Return the figure."""
        settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        contracts = settings["tool"]["importlinter"]["contracts"]
        (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
        storeys = [[name.strip() for name in layer.split(":")] for layer in layers]
        height = self.STEP * len(storeys)
        label = "Storeys from above: " + "; ".join(", ".join(storey) for storey in storeys)
        shapes = [box for level, storey in enumerate(storeys) for box in self.boxes(level, storey)]
        x = self.WIDTH + 24
        svg = (
            f'<svg viewBox="0 0 {self.WIDTH + 90} {height}" width="{self.WIDTH + 90}" role="img" '
            f'aria-label="{html.escape(label)}"><defs><marker id="storeys-tip" viewBox="0 0 8 8" '
            'refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path class="tip" d="M0 0 L8 4 L0 8 z"/></marker></defs>'
            + "".join(shapes)
            + f'<path class="arrow" d="M{x} 8 V{height - 14}" marker-end="url(#storeys-tip)"/>'
            f'<text class="small" x="{x + 8}" y="{height / 2}">imports</text></svg>'
        )
        caption = "A module imports from the storeys below its own, and from no other."
        return self.html(
            f'<figure class="drawing">{svg}<figcaption>{caption}</figcaption></figure>'
        )

    def boxes(self, level: int, storey: Sequence[str]) -> Iterable[str]:
        """Return the boxes of a storey, side by side."""
        width = (self.WIDTH - self.GAP * (len(storey) - 1)) / len(storey)
        for place, name in enumerate(storey):
            x, y = place * (width + self.GAP), level * self.STEP + 2
            yield (
                f'<rect class="box" x="{x:.1f}" y="{y}" width="{width:.1f}" height="32" rx="5"/>'
                f'<text class="mono" x="{x + width / 2:.1f}" y="{y + 21}" text-anchor="middle">'
                f"{html.escape(name)}</text>"
            )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    for name, directive in {
        "variant-table": VariantTable,
        "checkpoint-table": CheckpointTable,
        "published-table": PublishedTable,
        "accuracy-plot": AccuracyPlot,
        "size-plot": SizePlot,
        "project-file": ProjectFile,
        "drawing": Drawing,
        "storeys": Storeys,
        "pretrained-table": PretrainedTable,
        "forms-table": FormsTable,
    }.items():
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
