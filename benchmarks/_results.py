"""What ``benchmarks/results/results.json`` holds: read by README's section, the pages and tests.

The file is written by ``python -m benchmarks.all``: a head, which says where and on what code all
of it was measured, and parts by name. A case is a variant, a mode and a batch.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from benchmarks import growth
from benchmarks._contenders import CONTENDERS
from benchmarks._report import best_of_family, least_of_family, ratios

FILE = Path(__file__).resolve().parent / "results" / "results.json"
#: In the order of their size.
VARIANTS = ("conv_small", "conv_medium", "hybrid_medium", "conv_large", "hybrid_large")
#: Mode and batch of what is shown, with what it is called.
KINDS = {
    ("inference", 1): "one image",
    ("inference", 16): "16 images",
    ("training", 16): "a training step of 16 images",
}
#: What has to be the same for all parts of a run.
SAME = ("commit", "processor", "processors_available", "threads", "system", "python", "numpy")

Case = dict[str, Any]


@functools.cache
def load() -> dict[str, Any]:
    """Return the whole file."""
    result: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return result


def head() -> dict[str, Any]:
    """Return commit, machine, versions and time of the run."""
    result: dict[str, Any] = load()["head"]
    return result


def part(name: str) -> dict[str, Any]:
    """Return a part."""
    result: dict[str, Any] = load()["parts"][name]
    return result


def strangers(data: dict[str, Any]) -> list[str]:
    """Return the parts that were not measured at the head's commit and on its machine."""
    return [
        name
        for name, one in data["parts"].items()
        if any(one["measured"].get(key) != data["head"][key] for key in SAME)
    ]


def find(variant: str, mode: str, batch: int) -> Case:
    """Return a case."""
    cases: list[Case] = part(f"{mode} {variant}")["cases"]
    return next(case for case in cases if case["batch"] == batch)


def cases(mode: str, batch: int) -> dict[str, Case]:
    """Return the cases of all variants, in the order of their size."""
    return {variant: find(variant, mode, batch) for variant in VARIANTS}


def times(case: Case) -> dict[str, float]:
    """Return the contenders' times in ms, the fastest first."""
    found = {name: row["median_ms"] for name, row in case["rows"].items() if "median_ms" in row}
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def label(contender: str) -> str:
    """Return what the tables call a contender."""
    return CONTENDERS[contender].label


def best_label(case: Case, family: str) -> str:
    """Return what the tables call the fastest contender of a family."""
    return label(next(name for name in times(case) if CONTENDERS[name].family == family))


def all_ratios(mode: str, batch: int, what: str = "time") -> dict[str, dict[str, float]]:
    """Return lucid's backends over the others, each family's best: by variant, then by pair."""
    of_family = {"time": best_of_family, "memory": least_of_family}[what]
    return {variant: ratios(of_family(case)) for variant, case in cases(mode, batch).items()}


def ratio_range(mode: str, batch: int, pair: str, what: str = "time") -> tuple[float, float]:
    """Return the least and the largest of a ratio over the variants that have it."""
    found = [of[pair] for of in all_ratios(mode, batch, what).values() if pair in of]
    return min(found), max(found)


def over_arithmetic(mode: str, batch: int, family: str) -> tuple[float, float]:
    """Return the least and the largest of a family's best time over the arithmetic's."""
    found = [best_of_family(c)[family] / c["floor_ms"] for c in cases(mode, batch).values()]
    return min(found), max(found)


def curves(mode: str) -> list[dict[str, Any]]:
    """Return time and memory over batch and side, with their exponents."""
    return growth.curves(part(f"growth {mode}")["points"])


def evaluator() -> float:
    """Return what ONNX's evaluator takes over lucid's compiled plan, both on NumPy alone."""
    rows = part("numpy alone")["cases"][0]["rows"]
    ratio: float = rows["onnx-reference"]["median_ms"] / rows["lucid-numpy-compiled"]["median_ms"]
    return ratio


def largest_difference() -> float:
    """Return how far lucid's logits are from timm's, over the largest of them."""
    return max(row["difference"] for row in part("accuracy")["rows"])


def megabytes(name: str) -> float:
    """Return what an installation weighs."""
    size: float = part("size")["rows"][name]["bytes"] / 1e6
    return size


def span(low: float, high: float) -> str:
    """Return a range of ratios in words."""
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
