"""What ``benchmarks/results`` holds: read by the plots and tables, and by the test of README.

Every figure comes from one file of one run. A case is a variant, a mode and a batch;
``COMPARISONS`` are the runs of ``benchmarks.compare``, of which each case is in exactly one.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from benchmarks._contenders import CONTENDERS
from benchmarks._report import best_of_family, least_of_family, ratios

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
COMPARISONS = ("conv_small", "medium", "large-inference", "large-training")
GROWTH = ("growth-inference", "growth-training")
#: In the order of their size.
VARIANTS = ("conv_small", "conv_medium", "hybrid_medium", "conv_large", "hybrid_large")
#: Mode and batch of what was measured, with what it is called.
KINDS = {
    ("inference", 1): "one image",
    ("inference", 16): "16 images",
    ("training", 16): "a training step of 16 images",
}

Case = dict[str, Any]


@functools.cache
def load(name: str) -> dict[str, Any]:
    """Return a results file."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


@functools.cache
def homes() -> dict[tuple[str, str, int], str]:
    """Return the file of each case; a case in two files is an error, as they would disagree."""
    found: dict[tuple[str, str, int], str] = {}
    for name in COMPARISONS:
        for case in load(name)["cases"]:
            key = case["variant"], case["mode"], case["batch"]
            if key in found:
                raise ValueError(f"{key} is in {found[key]}.json and in {name}.json")
            found[key] = name
    return found


def find(variant: str, mode: str, batch: int) -> Case:
    """Return a case."""
    cases = load(homes()[variant, mode, batch])["cases"]
    key = variant, mode, batch
    return next(c for c in cases if (c["variant"], c["mode"], c["batch"]) == key)


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


def all_ratios(mode: str, batch: int, what: str = "time") -> dict[str, dict[str, float]]:
    """Return lucid's backends over the others, each family's best: by variant, then by pair."""
    of_family = {"time": best_of_family, "memory": least_of_family}[what]
    return {variant: ratios(of_family(case)) for variant, case in cases(mode, batch).items()}


def ratio_range(mode: str, batch: int, pair: str, what: str = "time") -> tuple[float, float]:
    """Return the least and the largest of a ratio over the variants that have it."""
    found = [of[pair] for of in all_ratios(mode, batch, what).values() if pair in of]
    return min(found), max(found)


def largest_difference() -> float:
    """Return how far lucid's logits are from timm's, over the largest of them."""
    return max(row["difference"] for row in load("accuracy")["rows"])


def megabytes(name: str) -> float:
    """Return what an installation weighs."""
    return load("size")["rows"][name]["bytes"] / 1e6


def over_arithmetic(mode: str, batch: int, family: str) -> tuple[float, float]:
    """Return the least and the largest of a family's best time over the arithmetic's."""
    found = [best_of_family(c)[family] / c["floor_ms"] for c in cases(mode, batch).values()]
    return min(found), max(found)
