"""Directives for what was measured, drawn and computed from the files in ``benchmarks/results``.

A kind is a mode and a batch, such as ``inference 1``. What is said to be of each machine is there
for each file; the rest is of the first one.

- ``machines-table``: the ratios that README quotes, of each machine.
- ``time-plot`` of a kind: all contenders' times over what the arithmetic alone takes, on each
  machine.
- ``ratio-table`` of a kind, with ``memory`` behind it for memory: lucid over the others, on each
  machine.
- ``memory-plot``: peak memory of all contenders.
- ``start-tables``: new processes, to their first logits, and their memory, on each machine.
- ``growth-plot``: time over batch and resolution; ``growth-table``: the exponents.
- ``result-rows`` of a kind, or of ``growth``: every row of each machine, folded away.
- ``measured-on``: the runs: their code, machines, versions, dates and files.
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
from benchmarks._machine import UNLIMITED
from benchmarks._report import where
from benchmarks._results import Run, span, spanned
from lucid import models

FIRST = results.VARIANTS[0]
OTHERS = ("ONNX Runtime", "PyTorch", "OpenVINO")
OURS = {"lucid numba": "lucid with numba", "lucid numpy": "lucid on NumPy alone"}


def colour(contender: str) -> str:
    """Return the class of a contender's marks: lucid's have the first colour."""
    return "a" if contender.startswith("lucid") else "other"


def folded(title: str, content: Sequence[nodes.Node], open_: bool = False) -> list[nodes.Node]:
    """Return content behind a title that opens it."""
    tag = f'<details class="rows"{" open" * open_}><summary>{title}</summary>'
    first, last = (nodes.raw("", text, format="html") for text in (tag, "</details>"))
    return [first, *content, last]


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


class MachinesTable(Generated):
    """``machines-table``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return the table: a column for each kind of machine."""
        head = ["time or memory over the other's", *(run.title for run in results.runs())]
        limited = any(run.head.get("code") for run in results.runs())
        note = (
            "“AVX2 code” is of a machine with AVX-512, which was left unused by all that can do "
            "without; the end of this page tells what that leaves out."
        )
        return self.rst(table(head, results.quoted_rows()) + f"\n\n{note}" * limited)


class TimePlot(OfKind):
    """``time-plot``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return a plot for each machine; the first one is open."""
        found: list[nodes.Node] = []
        for number, run in enumerate(results.runs()):
            found += folded(run.title, self.html(self.plot(run)), open_=number == 0)
        return found

    def plot(self, run: Run) -> str:
        """Return a machine's plot: a bar for the smallest variant, dots for the others."""
        cases = run.cases(*self.kind)
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
        title = f"{run.title}: time for {results.KINDS[self.kind]} over the arithmetic's"
        caption = (
            f"{run.title}: time over what the multiply-adds alone take at the machine's best speed "
            f"({milliseconds(first['floor_ms'])} for {FIRST}). Bars: {FIRST}. Dots: the other "
            f"variants, where they were measured. Blue: lucid. Shorter is better."
        )
        return figure(both(lambda width: bars(rows, width, title, "arithmetic alone")), caption)


class RatioTable(OfKind):
    """``ratio-table``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return the table: the range over the variants, for each backend and machine."""
        what = self.arguments[2] if len(self.arguments) > 2 else "time"
        runs = results.runs()
        rows = [
            [f"{title}; {run.title}"]
            + [spanned(run.ratio_range(*self.kind, f"{ours} / {o}", what)) for o in OTHERS]
            for ours, title in OURS.items()
            for run in runs
        ]
        kept = [0, *(n for n in range(1, len(OTHERS) + 1) if any(row[n] != "–" for row in rows))]
        head = [f"{what}, {results.KINDS[self.kind]}", *(f"÷ {other}" for other in OTHERS)]
        return self.rst(table([head[n] for n in kept], [[row[n] for n in kept] for row in rows]))


class MemoryPlot(Generated):
    """``memory-plot``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return a panel for each kind."""
        panels, run = [], results.first()
        for kind, title in results.KINDS.items():
            peaks = {
                name: row["peak_bytes"] / 2**20
                for name, row in run.find(FIRST, *kind)["rows"].items()
                if "peak_bytes" in row
            }
            rows = [
                Bar(results.label(name), peak, f"{peak:.0f} MiB", colour(name))
                for name, peak in sorted(peaks.items(), key=lambda pair: pair[1])
            ]
            drawing = bars(rows, 320, f"Peak memory, {title}")
            panels.append(f'<div class="panel"><p>{title}</p>{drawing}</div>')
        caption = (
            f"{run.title}: peak resident memory of the process while {FIRST} runs, the library "
            "itself included. Blue: lucid. Shorter is better."
        )
        return self.html(figure(f'<div class="panels">{"".join(panels)}</div>', caption))


class StartTables(Generated):
    """``start-tables``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return a table for each machine that has it; the first one is open."""
        found: list[nodes.Node] = []
        for run in results.runs():
            if "start" in run:
                text = "\n\n".join([table(*self.warm(run)), self.cold(run)])
                found += folded(run.title, self.rst(text), open_=not found)
        return found or self.rst("Not measured yet by the runs on this page.")

    def warm(self, run: Run) -> tuple[list[str], list[list[str]]]:
        """Return the head and the rows: seconds, and peak memory in brackets."""
        cases = sorted(
            run.part("start")["cases"],
            key=lambda case: (results.VARIANTS.index(case["variant"]), case["batch"]),
        )
        names = [
            name
            for name in CONTENDERS
            if all("median_ms" in c["rows"].get(name, {}) for c in cases)
        ]
        rows = [
            [case["variant"], str(case["batch"])]
            + [
                f"{case['rows'][name]['median_ms'] / 1e3:.2f} "
                f"({case['rows'][name]['peak_bytes'] / 2**20:.0f})"
                for name in names
            ]
            for case in cases
        ]
        return ["s (MiB)", "images", *map(results.label, names)], rows

    def cold(self, run: Run) -> str:
        """Return a sentence on lucid with an empty cache."""
        if "cold" not in run:
            return ""
        cases = {case["mode"]: case["rows"] for case in run.part("cold")["cases"]}
        stages = cases["cold start"]["lucid-numba-compiled"]["stages_ms"]
        told = [f"the first logits of {FIRST} are there after {stages['first'] / 1e3:.1f} s"]
        if "all kernels" in stages:
            told.append(f"all kernels after {stages['all kernels'] / 1e3:.1f} s")
        step = cases["cold training"]["lucid-numba"]["stages_ms"]["first"]
        told.append(f"a first training step after {step / 1e3:.1f} s")
        return f"With an empty cache of kernels, numba backend: {', '.join(told)}."


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
            points = results.first().part(f"growth {mode}")["points"]
            curves = results.first().curves(mode)
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
        caption = f"{results.first().title}: time of conv_small; both axes are logarithmic."
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
            curves = results.first().curves(mode)
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
            return folded(f"All points: {results.first().title}", self.rst(self.points()))
        kind = self.arguments[0], int(self.arguments[1])
        found: list[nodes.Node] = []
        for run in results.runs():
            title = f"All rows: {results.KINDS[kind]}; {run.title}"
            found += folded(title, self.rst(self.rows(run.cases(*kind))))
        return found

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
            for curve in results.first().curves(mode):
                points = ", ".join(f"{x}: {ms:.1f}" for x, ms in zip(curve["x"], curve["ms"]))
                name = f"{results.label(curve['contender'])}, {curve['mode']}"
                body.append([name, AXES[curve["axis"]][0], points])
        return table(["", "over", "ms"], body)


class ExpectedTable(Generated):
    """``expected-table``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return what was measured on each kind of processor, and which kinds were not."""
        batches = [kind for kind in results.KINDS if kind[0] == "inference"]
        rows = [
            [f"{run.title}{more}"]
            + [f"{span(*run.over_arithmetic(*kind, ours))} ×" for kind in batches]
            for ours, more in (("lucid numba", ""), ("lucid numpy", "; NumPy alone"))
            for run in results.runs()
        ]
        vectors = {results.kind_of(run.head)[0] for run in results.runs()}
        rows += [
            [
                f"x86-64 with {results.VECTORS[other]}",
                "kernels of its own, not timed here",
                "the same",
            ]
            for other in ("avx512", "avx2")
            if other not in vectors
        ]
        rows.append(
            [
                "ARM, 64 bits (Apple, phones, many clouds)",
                "tested in an emulator, not timed",
                "the same",
            ]
        )
        head = ["processor", *(f"{results.KINDS[kind]}" for kind in batches)]
        note = "Time over what the arithmetic alone takes, with numba, over the five variants."
        return self.rst(table(head, rows) + "\n\n" + note)


class MeasuredOn(Generated):
    """``measured-on``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return where each run was; of several that were put together, where each part was."""
        runs = results.runs()
        text = ["All figures are from these files in ``benchmarks/results``, a run each:", ""]
        for run in runs:
            head = run.head
            told = where({"machine": head, "versions": head["versions"]})
            text.append(f"- {run.title}: ``{run.file.name}``, commit {head['commit']}: {told}")
            if head.get("code"):
                out = ", ".join(results.label(name) for name in UNLIMITED)
                text.append(
                    "  The machine has AVX-512; here lucid, NumPy and PyTorch were kept to AVX2. "
                    f"Left out, since they cannot be kept to it: {out}."
                )
            if run.strangers:
                text += [f"  **Mixed.** {run.data['mixed']} Of other runs:", ""]
                text += [f"  - {name}: {self.measured(run, name)}" for name in run.strangers]
                text.append("")
        return self.rst("\n".join(text))

    def measured(self, run: Run, part: str) -> str:
        """Return where a part was measured that is of another run."""
        told = run.part(part)["measured"]
        return f"commit {told['commit']}, {told.get('processor', told['system'])}, {told['time']}"


class LatencyTable(Generated):
    """``latency-table``: the fastest way of each backend, by size and batch."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return the table."""
        rows = []
        kinds = [kind for kind in results.KINDS if kind[0] == "inference"]
        for variant in results.VARIANTS:
            for kind in kinds:
                best = results.best_of_family(results.first().find(variant, *kind))
                cells = [f"{best[ours]:.1f}" for ours in OURS]
                rows.append([f":doc:`{variant} </models/mobilenet_v4_{variant}>`", str(kind[1])])
                rows[-1] += cells
        run = results.first()
        note = (
            f"Milliseconds at 224×224 on {run.head['processor']} ({run.title}), "
            f"{run.head['threads']} threads, compiled. "
            ":doc:`/performance` has the others' beside them."
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
        run = results.first()
        case = run.find(FIRST, "inference", 1)
        best = results.best_of_family(case)
        names = {**OURS, "ONNX Runtime": "ONNX Runtime"}
        names["PyTorch"] = results.best_label(case, "PyTorch")
        rows = [
            Bar(title, best[name], milliseconds(best[name]), "a" if name in OURS else "other")
            for name, title in sorted(names.items(), key=lambda pair: best[pair[0]])
        ]
        row = next(iter(results.QUOTED))  # inference, over ONNX Runtime
        ranges = ", ".join(
            f"{spanned(results.quoted(one, row))} ({one.title})"
            for one in results.runs()
            if results.quoted(one, row)
        )
        return self.card(
            "Fast",
            bars(rows, 300, "One image of 224×224"),
            f"One image of 224×224, {FIRST}, {run.head['threads']} cores of an "
            f"{run.head['processor']} ({run.title}). Of ONNX Runtime’s time, over five variants, "
            f"one image and 16: {ranges}.",
            '<a href="performance.html#on-your-machine">Is it fast on my machine?</a>',
        )

    def size(self) -> str:
        """Return what the installations weigh."""
        run = results.first()
        names = {
            "lucid": "lucid, NumPy included",
            "onnxruntime": "ONNX Runtime",
            "lucid[fast]": "lucid[fast]",
            "torch and timm": "PyTorch and timm",
        }
        rows = [
            Bar(
                title,
                run.megabytes(name),
                f"{run.megabytes(name):.0f} MB",
                "a" if name.startswith("lucid") else "other",
            )
            for name, title in sorted(names.items(), key=lambda pair: run.megabytes(pair[0]))
        ]
        torch = run.part("size")["rows"]["torch and timm"]["packages"]["torch"]
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
        digits, exponent = f"{results.first().largest_difference():.1e}".split("e-0")
        power = f"{digits}\u00a0·\u00a010<sup>−{exponent}</sup>"
        return self.card(
            "Exact",
            bars(rows, 300, "Top-1 accuracy on ImageNet-1k"),
            "Top-1 on ImageNet-1k of timm’s weights, as timm reports it. From the same weights, "
            f"lucid’s logits are timm’s, to {power} of the largest.",
            '<a href="checkpoints.html">All published weights</a>',
        )


DIRECTIVES: dict[str, Callable[..., Any]] = {
    "machines-table": MachinesTable,
    "start-tables": StartTables,
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
