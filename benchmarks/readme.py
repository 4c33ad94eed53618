"""README's section on speed, size and accuracy, written from ``results/results.json``.

python -m benchmarks.readme
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

from benchmarks import _results as results
from benchmarks._report import best_of_family
from benchmarks._results import FILE, KINDS, span
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
    """Return the times of the smallest variant."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    for kind in KINDS:
        best = best_of_family(results.find(FIRST, *kind))
        cells = [ROWS[kind], *(milliseconds(best.get(family)) for family in COLUMNS)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def both(pair: str) -> str:
    """Return a ratio's range over all inference, of one image and of a batch."""
    ranges = [results.ratio_range("inference", batch, pair) for batch in (1, 16)]
    return span(min(low for low, _ in ranges), max(high for _, high in ranges))


def power(value: float) -> str:
    """Return a small number as a power of ten."""
    digits, exponent = f"{value:.1e}".split("e-")
    return f"{digits}·10⁻{str(int(exponent)).translate(SUPERSCRIPTS)}"


def section() -> str:
    """Return what stands between the marks."""
    head = results.head()
    cores = NUMBERS.get(head["threads"], f"{head['threads']} cores")
    size = results.part(f"inference {FIRST}")["settings"]["size"]
    mixed = " of several runs" * bool(results.strangers(results.load()))
    intro = (
        f"`mobilenet_v4_{FIRST}` at {size}×{size} on {cores} of an {head['processor']}, "
        "milliseconds, each library in its best form:"
    )

    def ratio(mode: str, batch: int, pair: str, what: str = "time") -> str:
        return span(*results.ratio_range(mode, batch, pair, what))

    of_torch, numpy = "lucid numba / PyTorch", "lucid numpy / PyTorch"
    times = (
        f"Over the five variants the numba backend takes {both('lucid numba / ONNX Runtime')} of "
        f"ONNX Runtime's time in inference, and for a training step "
        f"{ratio('training', 16, of_torch)} of PyTorch's time and "
        f"{ratio('training', 16, of_torch, 'memory')} of its memory. NumPy alone takes "
        f"{ratio('training', 16, numpy)} of PyTorch's best for a step, "
        f"{ratio('inference', 16, numpy)} for 16 images and {ratio('inference', 1, numpy)} for "
        f"one, where ONNX's evaluator, also on NumPy alone, takes {results.evaluator():.1f} times "
        "lucid's time."
    )
    loader = results.part("loader")
    rest = (
        f"Installed, lucid is {results.megabytes('lucid'):.0f} MB, NumPy included, and "
        f"{results.megabytes('lucid[fast]'):.0f} MB with numba; ONNX Runtime is "
        f"{results.megabytes('onnxruntime'):.0f} MB, PyTorch with timm "
        f"{results.megabytes('torch and timm'):.0f} MB. The loader of photographs has "
        f"{loader['lucid, times PyTorch']:.2f} of the speed of PyTorch's, and "
        f"{loader['lucid, cached, times PyTorch']:.2f} with decoded pictures in memory. From the "
        f"same weights, lucid's logits are timm's to {power(results.largest_difference())} of the "
        f"largest. All figures are from [one file{mixed}](benchmarks/results/{FILE.name})."
    )
    wrapped = (textwrap.fill(text, 100, break_on_hyphens=False) for text in (intro, times, rest))
    intro, times, rest = wrapped
    return "\n".join([intro, "", *table(), "", times, "", rest])


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
