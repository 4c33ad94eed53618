"""What the files in ``benchmarks/results`` hold: read by README's section, the pages and tests.

A file is a run of ``python -m benchmarks.all`` on one kind of machine, and there is one at most of
each kind: the vector instructions, and who makes the processor. It has a head, which says where and
on what code all of it was measured, and parts by name. A case is a variant, a mode and a batch.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import growth
from benchmarks._contenders import CONTENDERS
from benchmarks._report import best_of_family, least_of_family, ratios

FOLDER = Path(__file__).resolve().parent / "results"
OTHERS = ("ranks.json", "timeline.json")  # of benchmarks.ranks
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
SAME += ("code",)
VECTORS = {"avx512": "AVX-512", "avx2": "AVX2", "neon": "NEON"}

Case = dict[str, Any]
Range = tuple[float, float]


def kind_of(head: dict[str, Any]) -> tuple[str, str]:
    """Return a machine's vector instructions, as far as code may use them, and its maker."""
    extensions, made = head["vector_extensions"], re.split(r"\W+", head["processor"])
    arm = "neon" if re.search("arm|aarch", head["system"], re.IGNORECASE) else "other"
    own = "avx512" if "avx512f" in extensions else "avx2" if "avx2" in extensions else arm
    return head.get("code") or own, made[0]


@dataclass(frozen=True)
class Run:
    """One file."""

    data: dict[str, Any]

    @property
    def head(self) -> dict[str, Any]:
        """Commit, machine, versions and time."""
        head: dict[str, Any] = self.data["head"]
        return head

    @property
    def file(self) -> Path:
        """Where the run is kept: by the kind of its machine."""
        return FOLDER / ("-".join(kind_of(self.head)).lower() + ".json")

    @property
    def title(self) -> str:
        """What the pages call the machine's kind: "AVX2 code" is of one that has AVX-512 too."""
        vectors, maker = kind_of(self.head)
        limited = " code" * bool(self.head.get("code"))
        return f"{VECTORS.get(vectors, 'scalar')}{limited}, {maker}"

    @property
    def strangers(self) -> list[str]:
        """The parts that were not measured at the head's commit and on its machine."""
        return [
            name
            for name, one in self.data["parts"].items()
            if any(one["measured"].get(key, "") != self.head.get(key, "") for key in SAME)
        ]

    def __contains__(self, name: str) -> bool:
        return name in self.data["parts"]

    def part(self, name: str) -> dict[str, Any]:
        """Return a part."""
        result: dict[str, Any] = self.data["parts"][name]
        return result

    def find(self, variant: str, mode: str, batch: int) -> Case:
        """Return a case."""
        cases: list[Case] = self.part(f"{mode} {variant}")["cases"]
        return next(case for case in cases if case["batch"] == batch)

    def cases(self, mode: str, batch: int) -> dict[str, Case]:
        """Return the cases of all variants that there are, in the order of their size."""
        if mode in self:
            found = [case for case in self.part(mode)["cases"] if case["batch"] == batch]
            return {case["variant"]: case for case in found if case["mode"] == mode}
        return {
            variant: self.find(variant, mode, batch)
            for variant in VARIANTS
            if f"{mode} {variant}" in self
        }

    def all_ratios(self, mode: str, batch: int, what: str = "time") -> dict[str, dict[str, float]]:
        """Return lucid's backends over the others, each family's best: by variant, then by pair."""
        of_family = {"time": best_of_family, "memory": least_of_family}[what]
        return {variant: ratios(of_family(c)) for variant, c in self.cases(mode, batch).items()}

    def ratio_range(self, mode: str, batch: int, pair: str, what: str = "time") -> Range | None:
        """Return the least and the largest of a ratio over the variants; None if none has it."""
        found = [of[pair] for of in self.all_ratios(mode, batch, what).values() if pair in of]
        return (min(found), max(found)) if found else None

    def over_arithmetic(self, mode: str, batch: int, family: str) -> Range:
        """Return the least and the largest of a family's best time over the arithmetic's."""
        found = [
            best_of_family(c)[family] / c["floor_ms"] for c in self.cases(mode, batch).values()
        ]
        return min(found), max(found)

    def curves(self, mode: str) -> list[dict[str, Any]]:
        """Return time and memory over batch and side, with their exponents."""
        return growth.curves(self.part(f"growth {mode}")["points"])

    def evaluator(self) -> float:
        """Return what ONNX's evaluator takes over lucid's compiled plan, both on NumPy alone."""
        rows = self.part("numpy alone")["cases"][0]["rows"]
        ours, theirs = rows["lucid-numpy-compiled"], rows["onnx-reference"]
        ratio: float = theirs["median_ms"] / ours["median_ms"]
        return ratio

    def largest_difference(self) -> float:
        """Return how far lucid's logits are from timm's, over the largest of them."""
        return max(row["difference"] for row in self.part("accuracy")["rows"])

    def megabytes(self, name: str) -> float:
        """Return what an installation weighs."""
        size: float = self.part("size")["rows"][name]["bytes"] / 1e6
        return size


@functools.cache
def runs() -> tuple[Run, ...]:
    """Return all runs. The first is what is shown where one is enough.

    That is the latest of those on machines as they are, not limited to some of their instructions.
    """
    files = [file for file in sorted(FOLDER.glob("*.json")) if file.name not in OTHERS]
    found = [Run(json.loads(file.read_text(encoding="utf-8"))) for file in files]
    found.sort(key=lambda run: run.head["time"], reverse=True)
    return tuple(sorted(found, key=lambda run: bool(run.head.get("code"))))


def first() -> Run:
    """Return the first run."""
    return runs()[0]


def widest(ranges: Iterable[Range | None]) -> Range | None:
    """Return the range over several; None without any."""
    found = [one for one in ranges if one is not None]
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


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


def span(low: float, high: float) -> str:
    """Return a range of ratios in words."""
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"


def spanned(found: Range | None) -> str:
    """Return a range in words, or a dash if it was not measured."""
    return "–" if found is None else span(*found)


#: What is quoted of each kind of machine: mode, batches, lucid's backend over whom, and of what.
QUOTED = {
    "inference: numba over ONNX Runtime": (
        ("inference", (1, 16), "lucid numba / ONNX Runtime", "time")
    ),
    "training step: numba over PyTorch": ("training", (16,), "lucid numba / PyTorch", "time"),
    "a step's memory: numba over PyTorch": ("training", (16,), "lucid numba / PyTorch", "memory"),
    "one image: NumPy alone over PyTorch": ("inference", (1,), "lucid numpy / PyTorch", "time"),
    "16 images: NumPy alone over PyTorch": ("inference", (16,), "lucid numpy / PyTorch", "time"),
    "training step: NumPy alone over PyTorch": (
        ("training", (16,), "lucid numpy / PyTorch", "time")
    ),
    "a process's start to its first logits: numba over ONNX Runtime": (
        ("start", (1, 16), "lucid numba / ONNX Runtime", "time")
    ),
    "a process's memory: numba over ONNX Runtime": (
        ("start", (1, 16), "lucid numba / ONNX Runtime", "memory")
    ),
}


def quoted(run: Run, name: str) -> Range | None:
    """Return the range of a row of ``QUOTED`` on one kind of machine, over variants and batches."""
    mode, batches, pair, what = QUOTED[name]
    return widest(run.ratio_range(mode, batch, pair, what) for batch in batches)


def quoted_rows() -> list[list[str]]:
    """Return the rows of ``QUOTED`` that any machine has, a cell for each kind."""
    rows = [[name, *(spanned(quoted(run, name)) for run in runs())] for name in QUOTED]
    return [row for row in rows if set(row[1:]) != {"–"}]
