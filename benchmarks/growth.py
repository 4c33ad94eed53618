"""How time and memory grow with the batch and with the resolution.

    python -m benchmarks.growth
    python -m benchmarks.growth --contenders lucid-numpy-compiled --modes inference

Measured as by ``benchmarks.compare``, each point in fresh processes. An exponent is the slope of a
straight line through the logarithms: 1 where twice the input takes twice as much. Resolutions are
sides in pixels, so 2 is what the arithmetic has there.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._case import MODES, VARIANTS, Case
from benchmarks._contenders import CONTENDERS
from benchmarks._machine import available_processors, describe
from benchmarks._report import OUTPUT, where, write_json
from benchmarks.compare import PEAK_SIZE, CaseError, measure
from lucid._files import atomic_path

AXES = ("batch", "size")
BATCHES = (1, 2, 4, 8, 16, 32, 64)
SIZES = (96, 128, 160, 192, 224, 256, 320, 384, 448, 512)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--variant", choices=VARIANTS, default="conv_small")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--size", type=int, default=224, help="while the batch grows")
    parser.add_argument("--batch", type=int, default=4, help="while the resolution grows")
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=list(CONTENDERS),
        default=[name for name in CONTENDERS if name.startswith("lucid")],
        metavar="NAME",
        help="as for benchmarks.compare (default: lucid's)",
    )
    parser.add_argument("--threads", type=int, default=available_processors())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--limit", type=float, default=600)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--name", default="growth", help="of the files written there")
    parser.set_defaults(peak_size=PEAK_SIZE)
    return parser


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the slope of the least-squares line through ``(log x, log y)``; NaN without two x."""
    a, b = [math.log(v) for v in x], [math.log(v) for v in y]
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    spread = sum((v - mean_a) ** 2 for v in a)
    if not spread:
        return math.nan
    return sum((v - mean_a) * (w - mean_b) for v, w in zip(a, b)) / spread


def curves(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a curve for each mode, axis and contender, with the exponents."""
    found: dict[tuple[str, str, str], list[tuple[int, float, float]]] = {}
    for point in points:
        for name, row in point["rows"].items():
            if "median_ms" in row:
                found.setdefault((point["mode"], point["axis"], name), []).append(
                    (point[point["axis"]], row["median_ms"], row["peak_bytes"] / 2**20)
                )
    result = []
    for (mode, axis, name), values in found.items():
        x, ms, mib = zip(*sorted(values))
        # Below, what does not grow (calls of Python, the library itself) hides what does.
        upper = len(x) // 2
        result.append(
            {
                "mode": mode,
                "axis": axis,
                "contender": name,
                "x": x,
                "ms": ms,
                "mib": mib,
                "time_exponent": exponent(x, ms),
                "time_exponent_upper_half": exponent(x[upper:], ms[upper:]),
                "memory_exponent": exponent(x, mib),
                "memory_exponent_upper_half": exponent(x[upper:], mib[upper:]),
            }
        )
    return result


def table(found: list[dict[str, Any]]) -> str:
    """Return the exponents as a Markdown table."""
    lines = [
        "| | grows | time ~ | upper half | memory ~ | upper half | points |",
        "| --- | --- | --: | --: | --: | --: | --- |",
    ]
    for curve in found:
        points = ", ".join(f"{x}: {ms:.1f} ms" for x, ms in zip(curve["x"], curve["ms"]))
        exponents = " | ".join(
            f"{curve[key]:.2f}"
            for key in (
                "time_exponent",
                "time_exponent_upper_half",
                "memory_exponent",
                "memory_exponent_upper_half",
            )
        )
        label = CONTENDERS[curve["contender"]].label
        lines.append(f"| {label}, {curve['mode']} | {curve['axis']} | {exponents} | {points} |")
    return "\n".join(lines) + "\n"


def plot(found: list[dict[str, Any]], path: Path) -> None:
    """Draw time and memory over each axis, both logarithmic."""
    from matplotlib.figure import Figure

    panels = sorted({(curve["mode"], curve["axis"]) for curve in found})
    figure = Figure(figsize=(9, 3.2 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 2, squeeze=False)
    for row, panel in zip(axes, panels):
        for curve in found:
            if (curve["mode"], curve["axis"]) != panel:
                continue
            label = CONTENDERS[curve["contender"]].label
            for axis, key, slope in (
                (row[0], "ms", curve["time_exponent"]),
                (row[1], "mib", curve["memory_exponent"]),
            ):
                axis.loglog(curve["x"], curve[key], "o-", label=f"{label}: {slope:.2f}")
        for axis, what in zip(row, ("ms", "peak MiB")):
            axis.set_xlabel("batch" if panel[1] == "batch" else "pixels of a side")
            axis.set_ylabel(f"{panel[0]}: {what}")
            axis.legend(fontsize=7, title="exponent", title_fontsize=7)
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    args = parser().parse_args(argv)
    points: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    machine = describe(args.threads)
    failed = False
    for mode in args.modes:
        for axis in args.axes:
            for value in args.batches if axis == "batch" else args.sizes:
                batch, size = (value, args.size) if axis == "batch" else (args.batch, value)
                case = Case(args.variant, mode, batch, size)
                print(f"\n{case}, {size}×{size}", flush=True)
                try:
                    measured = measure(case, args, versions)
                except CaseError as error:
                    failed = True
                    print(f"  not measured: {error}", file=sys.stderr)
                    continue
                points.append({**measured, "axis": axis, "size": size})
                _write(machine, versions, points, args)
    print("\n" + table(curves(points)))
    return 1 if failed else 0


def _write(
    machine: dict[str, Any],
    versions: dict[str, str],
    points: list[dict[str, Any]],
    args: argparse.Namespace,
) -> None:
    found = curves(points)
    result = {"machine": machine, "versions": versions, "curves": found, "points": points}
    write_json(result, args.output / f"{args.name}.json")
    with atomic_path(args.output / f"{args.name}.md") as path:
        title = f"## Growth of {args.variant} with batch and resolution"
        path.write_text(f"{where(result)}\n\n{title}\n\n{table(found)}")
    with contextlib.suppress(ModuleNotFoundError):
        plot(found, args.output / f"{args.name}.png")


if __name__ == "__main__":
    os.chdir(Path(__file__).parent.parent)
    sys.exit(main())
