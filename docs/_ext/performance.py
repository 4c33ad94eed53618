"""Directives for what was measured, drawn and computed from ``benchmarks/results/results.json``.

A kind is a mode and a batch, such as ``inference 1``.

- ``time-plot`` of a kind: all contenders' times over what the arithmetic alone takes.
- ``ratio-table`` of a kind, with ``memory`` behind it for memory: lucid over the others.
- ``memory-plot``: peak memory of all contenders.
- ``growth-plot``: time over batch and resolution; ``growth-table``: the exponents.
- ``result-rows`` of a kind, or of ``growth``: every row, folded away.
- ``measured-on``: the run: its code, machine, versions, date and file.
- ``expected-table``: what a processor may expect.
- ``latency-table``: a line for each variant and batch.
- ``front-figures``: the three figures of the front page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from docutils import nodes
from figures import Generated, table
from plots import Bar, Line, bars, both, figure, lines
from sphinx.application import Sphinx

from benchmarks import _results as results
from benchmarks._contenders import CONTENDERS
from benchmarks._report import where
from benchmarks._results import span
from lucid import models

FIRST = results.VARIANTS[0]
OTHERS = ("ONNX Runtime", "PyTorch", "OpenVINO")
OURS = {"lucid numba": "lucid with numba", "lucid numpy": "lucid on NumPy alone"}


def colour(contender: str) -> str:
    """Return the class of a contender's marks: lucid's have the first colour."""
    return "a" if contender.startswith("lucid") else "other"


def milliseconds(value: float) -> str:
    """Return a time as it is shown."""
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


class OfKind(Generated):
    """A directive about a mode and a batch."""

    required_arguments = 2
    optional_arguments = 1

    @property
    def kind(self) -> tuple[str, int]:
        """The mode and the batch."""
        return self.arguments[0], int(self.arguments[1])


class TimePlot(OfKind):
    """``time-plot``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return the plot: a bar for the smallest variant, dots for the others."""
        cases = results.cases(*self.kind)
        first = cases[FIRST]
        rows = []
        for name, time in results.times(first).items():
            dots = [
                case["rows"][name]["median_ms"] / case["floor_ms"]
                for variant, case in cases.items()
                if variant != FIRST and "median_ms" in case["rows"].get(name, {})
            ]
            over = time / first["floor_ms"]
            text = f"{over:.1f}×, {milliseconds(time)}"
            rows.append(Bar(results.label(name), over, text, colour(name), dots))
        title = f"Time for {results.KINDS[self.kind]} over what the arithmetic alone takes"
        caption = (
            f"Time over what the multiply-adds alone take at the machine's best speed "
            f"({milliseconds(first['floor_ms'])} for {FIRST}). Bars: {FIRST}. Dots: the other "
            f"variants, where they were measured. Blue: lucid. Shorter is better."
        )
        return self.html(
            figure(both(lambda width: bars(rows, width, title, "arithmetic alone")), caption)
        )


class RatioTable(OfKind):
    """``ratio-table``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return the table: the range over the variants."""
        what = self.arguments[2] if len(self.arguments) > 2 else "time"
        of_variants = results.all_ratios(*self.kind, what)
        pairs = {pair for of in of_variants.values() for pair in of}
        others = [other for other in OTHERS if f"lucid numba / {other}" in pairs]
        rows = [
            [title]
            + [span(*results.ratio_range(*self.kind, f"{ours} / {o}", what)) for o in others]
            for ours, title in OURS.items()
        ]
        head = [f"{what}, {results.KINDS[self.kind]}", *(f"÷ {other}" for other in others)]
        return self.rst(table(head, rows))


class MemoryPlot(Generated):
    """``memory-plot``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return a panel for each kind."""
        panels = []
        for kind, title in results.KINDS.items():
            peaks = {
                name: row["peak_bytes"] / 2**20
                for name, row in results.find(FIRST, *kind)["rows"].items()
                if "peak_bytes" in row
            }
            rows = [
                Bar(results.label(name), peak, f"{peak:.0f} MiB", colour(name))
                for name, peak in sorted(peaks.items(), key=lambda pair: pair[1])
            ]
            drawing = bars(rows, 320, f"Peak memory, {title}")
            panels.append(f'<div class="panel"><p>{title}</p>{drawing}</div>')
        caption = (
            f"Peak resident memory of the process while {FIRST} runs, the library itself "
            "included. Blue: lucid. Shorter is better."
        )
        return self.html(figure(f'<div class="panels">{"".join(panels)}</div>', caption))


AXES = {
    "batch": ("images at 224×224", (1, 4, 16, 64)),
    "size": ("side of 4 images", (96, 224, 512)),
}


MODES = {"inference": "inference", "training": "training step"}


class GrowthPlot(Generated):
    """``growth-plot``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return a panel for each mode and axis."""
        panels = []
        for mode, title in MODES.items():
            points = results.part(f"growth {mode}")["points"]
            curves = results.curves(mode)
            for axis, (x_title, x_ticks) in AXES.items():
                found = [curve for curve in curves if curve["axis"] == axis]
                shown = [
                    Line(results.label(curve["contender"]), curve["x"], curve["ms"], kind)
                    for curve, kind in zip(found, curve_kinds(found))
                ]
                floors = {p[axis]: p["floor_ms"] for p in points if p["axis"] == axis}
                shown.append(Line("arithmetic alone", list(floors), list(floors.values()), "floor"))
                drawing = lines(shown, title, x_title, "ms", x_ticks)
                panels.append(f'<div class="panel">{drawing}</div>')
        caption = "Time of conv_small; both axes are logarithmic."
        return self.html(figure(f'<div class="panels">{"".join(panels)}</div>', caption))


def curve_kinds(curves: Sequence[dict[str, Any]]) -> list[str]:
    """Return the class of each curve: lucid's differ by their dashes."""
    return [
        "other" if not c["contender"].startswith("lucid") else "a" if i == 0 else "a-second"
        for i, c in enumerate(curves)
    ]


class GrowthTable(Generated):
    """``growth-table``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return the exponents: 1 over the batch and 2 over the side is the arithmetic's."""
        head = ["", "time ~ batch", "time ~ side", "memory ~ batch", "memory ~ side"]
        rows: dict[str, list[str]] = {}
        for mode in MODES:
            curves = results.curves(mode)
            for what in ("time_exponent", "memory_exponent"):
                for axis in AXES:
                    for curve in curves:
                        if curve["axis"] == axis:
                            name = f"{results.label(curve['contender'])}, {curve['mode']}"
                            rows.setdefault(name, []).append(f"{curve[what]:.2f}")
        return self.rst(table(head, [[name, *cells] for name, cells in rows.items()]))


class ResultRows(Generated):
    """``result-rows``."""

    required_arguments = 1
    optional_arguments = 1

    def content_nodes(self) -> list[nodes.Node]:
        """Return the rows between the tags of a fold."""
        if self.arguments[0] == "growth":
            title, text = "All points", self.points()
        else:
            kind = self.arguments[0], int(self.arguments[1])
            title, text = f"All rows: {results.KINDS[kind]}", self.rows(results.cases(*kind))
        opened = f'<details class="rows"><summary>{title}</summary>'
        return [*self.html(opened), *self.rst(text), *self.html("</details>")]

    def rows(self, cases: dict[str, results.Case]) -> str:
        """Return the table of a kind: time, and peak memory in brackets."""
        head = ["ms (MiB)", *cases]
        floor = [f"{case['floor_ms']:.1f}" for case in cases.values()]
        body = [["arithmetic alone", *floor]]
        for name in CONTENDERS:
            found = [case["rows"].get(name, {}) for case in cases.values()]
            if any("median_ms" in row for row in found):
                cells = [
                    f"{row['median_ms']:.1f} ({row['peak_bytes'] / 2**20:.0f})"
                    if "median_ms" in row
                    else "–"
                    for row in found
                ]
                body.append([results.label(name), *cells])
        return table(head, body)

    def points(self) -> str:
        """Return the table of growth."""
        body = []
        for mode in MODES:
            for curve in results.curves(mode):
                points = ", ".join(f"{x}: {ms:.1f}" for x, ms in zip(curve["x"], curve["ms"]))
                name = f"{results.label(curve['contender'])}, {curve['mode']}"
                body.append([name, AXES[curve["axis"]][0], points])
        return table(["", "over", "ms"], body)


class ExpectedTable(Generated):
    """``expected-table``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return what was measured on this kind of processor, and which kinds were not."""
        extensions = results.head()["vector_extensions"]
        kind = "AVX-512" if "avx512f" in extensions else "AVX2"
        batches = [kind for kind in results.KINDS if kind[0] == "inference"]
        rows = [
            [title] + [f"{span(*results.over_arithmetic(*kind, ours))} ×" for kind in batches]
            for ours, title in (
                ("lucid numba", f"x86-64 with {kind}: measured here"),
                ("lucid numpy", "the same, NumPy alone"),
            )
        ]
        other = "AVX2 (most other PCs)" if kind == "AVX-512" else "AVX-512"
        rows += [
            [f"x86-64 with {other}", "kernels of its own, not timed here", "the same"],
            [
                "ARM, 64 bits (Apple, phones, many clouds)",
                "tested in an emulator, not timed",
                "the same",
            ],
        ]
        head = ["processor", *(f"{results.KINDS[kind]}" for kind in batches)]
        note = "Time over what the arithmetic alone takes, with numba, over the five variants."
        return self.rst(table(head, rows) + "\n\n" + note)


class MeasuredOn(Generated):
    """``measured-on``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return where all was measured; of several runs put together, where each part was."""
        data = results.load()
        head = data["head"]
        told = where({"machine": head, "versions": head["versions"]})
        text = [
            f"All figures are from ``benchmarks/results/{results.FILE.name}``, which one run "
            f"wrote, at commit {head['commit']}: {told}"
        ]
        if strangers := results.strangers(data):
            text = [
                f"**Mixed.** ``benchmarks/results/{results.FILE.name}`` holds several runs. "
                f"{data['mixed']} Most are of commit {head['commit']}: {told} But:"
            ]
            text += ["", *(f"- {name}: {self.measured(name)}" for name in strangers)]
        return self.rst("\n".join(text))

    def measured(self, part: str) -> str:
        """Return where a part was measured that is of another run."""
        told = results.part(part)["measured"]
        return f"commit {told['commit']}, {told.get('processor', told['system'])}, {told['time']}"


class LatencyTable(Generated):
    """``latency-table``: the fastest way of each backend, by size and batch."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return the table."""
        rows = []
        kinds = [kind for kind in results.KINDS if kind[0] == "inference"]
        for variant in results.VARIANTS:
            for kind in kinds:
                best = results.best_of_family(results.find(variant, *kind))
                cells = [f"{best[ours]:.1f}" for ours in OURS]
                rows.append([f":doc:`{variant} </models/mobilenet_v4_{variant}>`", str(kind[1])])
                rows[-1] += cells
        machine = results.head()
        note = (
            f"Milliseconds at 224×224 on {machine['processor']}, {machine['threads']} threads, "
            "compiled. :doc:`/performance` has the others' beside them."
        )
        head = ["model", "images", "with numba", "NumPy alone"]
        return self.rst(table(head, rows) + "\n\n" + note)


class FrontFigures(Generated):
    """``front-figures``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return three cards: speed, size, accuracy."""
        cards = "".join(card() for card in (self.speed, self.size, self.accuracy))
        return self.html(f'<div class="cards figures">{cards}</div>')

    def card(self, title: str, drawing: str, text: str, link: str) -> str:
        """Return a card; ``text`` and ``link`` are HTML."""
        return f'<section class="card"><h2>{title}</h2>{drawing}<p>{text} {link}</p></section>'

    def speed(self) -> str:
        """Return the time of one image beside the others' best."""
        case = results.find(FIRST, "inference", 1)
        best = results.best_of_family(case)
        names = {**OURS, "ONNX Runtime": "ONNX Runtime"}
        names["PyTorch"] = results.best_label(case, "PyTorch")
        rows = [
            Bar(title, best[name], milliseconds(best[name]), "a" if name in OURS else "other")
            for name, title in sorted(names.items(), key=lambda pair: best[pair[0]])
        ]
        machine = results.head()
        low, high = results.ratio_range("inference", 1, "lucid numba / ONNX Runtime")
        return self.card(
            "Fast",
            bars(rows, 300, "One image of 224×224"),
            f"One image of 224×224, {FIRST}, {machine['threads']} cores of an "
            f"{machine['processor']}. Over five variants: {low:.2f} to {high:.2f} of ONNX "
            "Runtime’s time.",
            '<a href="performance.html#on-your-machine">Is it fast on my machine?</a>',
        )

    def size(self) -> str:
        """Return what the installations weigh."""
        names = {
            "lucid": "lucid, NumPy included",
            "onnxruntime": "ONNX Runtime",
            "lucid[fast]": "lucid[fast], with numba",
            "torch and timm": "PyTorch and timm",
        }
        rows = [
            Bar(
                title,
                results.megabytes(name),
                f"{results.megabytes(name):.0f} MB",
                "a" if name.startswith("lucid") else "other",
            )
            for name, title in sorted(names.items(), key=lambda pair: results.megabytes(pair[0]))
        ]
        torch = results.part("size")["rows"]["torch and timm"]["packages"]["torch"]
        build = "the build for the CPU" if torch.endswith("+cpu") else "the default build"
        return self.card(
            "Small",
            bars(rows, 300, "Size of an installation"),
            f"What pip installs into a fresh environment, with all that it requires; of PyTorch, "
            f"{build}. NumPy is all that lucid needs.",
            '<a href="installation.html">Installation</a>',
        )

    def accuracy(self) -> str:
        """Return the best published accuracies, and how far lucid's logits are from timm's."""
        best: dict[str, float] = {}
        for entry in models.list_pretrained():
            name = entry.name.split(".")[0].removeprefix("mobilenetv4_")
            measured = max(entry.top1 or 0, entry.test_top1 or 0)
            best[name] = max(best.get(name, 0), measured)
        names = ("conv_small", "conv_medium", "hybrid_medium", "conv_aa_large")
        rows = [Bar(name, best[name], f"{best[name]:.1f} %") for name in names]
        digits, exponent = f"{results.largest_difference():.1e}".split("e-0")
        power = f"{digits}\u00a0·\u00a010<sup>−{exponent}</sup>"
        return self.card(
            "Exact",
            bars(rows, 300, "Top-1 accuracy on ImageNet-1k"),
            "Top-1 on ImageNet-1k of timm’s weights, as timm reports it. From the same weights, "
            f"lucid’s logits are timm’s, to {power} of the largest.",
            '<a href="checkpoints.html">All published weights</a>',
        )


DIRECTIVES: dict[str, Callable[..., Any]] = {
    "time-plot": TimePlot,
    "ratio-table": RatioTable,
    "memory-plot": MemoryPlot,
    "growth-plot": GrowthPlot,
    "growth-table": GrowthTable,
    "result-rows": ResultRows,
    "expected-table": ExpectedTable,
    "measured-on": MeasuredOn,
    "latency-table": LatencyTable,
    "front-figures": FrontFigures,
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    for name, directive in DIRECTIVES.items():
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
