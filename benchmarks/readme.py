"""README's section on speed, size and accuracy, written from the files in ``results``.

python -m benchmarks.readme
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

from benchmarks import _results as results
from benchmarks._report import best_of_family
from benchmarks._results import KINDS, QUOTED, quoted, runs, spanned, widest
from lucid._files import atomic_path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- speed: written by python -m benchmarks.readme -->", "<!-- /speed -->"
#: A column for each family.
COLUMNS = {
    "lucid numba": "lucid, numba",
    "lucid numpy": "lucid, NumPy alone",
    "PyTorch": "PyTorch",
    "ONNX Runtime": "ONNX Runtime",
}
ROWS = {
    ("inference", 1): "inference, one image",
    ("inference", 16): "inference, 16 images",
    ("training", 16): "training step, 16 images",
}
NUMBERS = {1: "one core", 2: "two cores", 4: "four cores"}
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
FIRST = results.VARIANTS[0]


def milliseconds(value: float | None) -> str:
    """Return a time with two digits, or three from 100 on."""
    return "–" if value is None else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def table() -> list[str]:
    """Return the times of the smallest variant on the first machine."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    for kind in KINDS:
        best = best_of_family(results.first().find(FIRST, *kind))
        cells = [ROWS[kind], *(milliseconds(best.get(family)) for family in COLUMNS)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def machines() -> list[str]:
    """Return a table of ratios with a column for each kind of machine."""
    head = ["time or memory over the other's", *(run.title for run in runs())]
    lines = [head, ["---", *["---:"] * len(runs())], *results.quoted_rows()]
    return ["| " + " | ".join(line) + " |" for line in lines]


def power(value: float) -> str:
    """Return a small number as a power of ten."""
    digits, exponent = f"{value:.1e}".split("e-")
    return f"{digits}·10⁻{str(int(exponent)).translate(SUPERSCRIPTS)}"


def section() -> str:
    """Return what stands between the marks."""
    run = results.first()
    head = run.head
    cores = NUMBERS.get(head["threads"], f"{head['threads']} cores")
    size = run.part(f"inference {FIRST}")["settings"]["size"]
    intro = (
        f"`mobilenet_v4_{FIRST}` at {size}×{size} on {cores} of an {head['processor']} "
        f"({run.title}), milliseconds, each library in its best form:"
    )

    def overall(name: str) -> str:
        return spanned(widest(quoted(one, name) for one in runs()))

    inference, step, *_ = QUOTED
    kinds = "; ".join(one.title for one in runs())
    ranges = (
        f"Over the five variants and the kinds of machine that were measured ({kinds}) the numba "
        f"backend takes {overall(inference)} of ONNX Runtime's time in inference, and "
        f"{overall(step)} of PyTorch's for a training step. Each kind by itself:"
    )
    loader = run.part("loader")
    files = ", ".join(
        f"[{one.title}{', of several runs' * bool(one.strangers)}]"
        f"(benchmarks/results/{one.file.name})"
        for one in runs()
    )
    rest = (
        f"ONNX's evaluator, also on NumPy alone, takes {run.evaluator():.1f} times the time that "
        f"lucid takes on NumPy alone. Installed, lucid is {run.megabytes('lucid'):.0f} MB, NumPy "
        f"included, and {run.megabytes('lucid[fast]'):.0f} MB with the extra `fast`; ONNX Runtime "
        f"is {run.megabytes('onnxruntime'):.0f} MB, PyTorch with timm "
        f"{run.megabytes('torch and timm'):.0f} MB. The loader of photographs has "
        f"{loader['lucid, times PyTorch']:.2f} of the speed of PyTorch's, and "
        f"{loader['lucid, cached, times PyTorch']:.2f} with decoded pictures in memory. From the "
        f"same weights, lucid's logits are timm's to {power(run.largest_difference())} of the "
        f"largest. All figures are from one file for each kind of machine: {files}."
    )
    wrapped = (textwrap.fill(text, 100, break_on_hyphens=False) for text in (intro, ranges, rest))
    intro, ranges, rest = wrapped
    return "\n".join([intro, "", *table(), "", ranges, "", *machines(), "", rest])


def rewritten(text: str) -> str:
    """Return README's text with the present figures."""
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n{section()}\n{END}", text)


def main() -> int:
    """Write README."""
    text = README.read_text(encoding="utf-8")
    with atomic_path(README) as path:
        Path(path).write_text(rewritten(text), encoding="utf-8")
    print(section())
    return 0


if __name__ == "__main__":
    sys.exit(main())
