"""lucid beside PyTorch, ONNX Runtime and OpenVINO on the five MobileNetV4 variants.

    python -m benchmarks.compare
    python -m benchmarks.compare --variants conv_small --batches 1 --modes inference
    python -m benchmarks.compare --variants conv_small --modes start cold

Every contender computes the same model with the same weights on the same input in a process of its
own, and is compared with lucid before it is timed. The parent asks one process at a time for a
timing, in rounds; the others wait. README.md tells how to read what is written.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import _start
from benchmarks._case import MODES, STARTS, VARIANTS, Case, write_case
from benchmarks._contenders import CONTENDERS
from benchmarks._machine import available_processors, describe
from benchmarks._process import WorkerError, WorkerProcess, run_module
from benchmarks._report import OUTPUT, markdown, write_report
from benchmarks._worker import version

TOLERANCE = 1e-3  # of the largest value of the result
PAUSE = 0.05  # seconds between two contenders, in which idle threads stop spinning
PEAK_SIZE = 3072  # of the matrix product that tells the machine's peak
COLD = {"cold": STARTS[1:]}
SLOW = ("torch-compile-channels-last", "onnx-reference")  # only measured when named


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16], help="of inference")
    parser.add_argument("--training-batches", nargs="+", type=int, default=[16])
    parser.add_argument(
        "--modes",
        nargs="+",
        choices=(*MODES, "start", "cold"),
        default=list(MODES),
        help="start: new processes, until their first logits, and their memory; cold: the same, "
        "and until the first training step, with an empty cache (default: inference training)",
    )
    parser.add_argument("--size", type=int, default=224, help="pixels of a side (default: 224)")
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=list(CONTENDERS),
        default=[name for name in CONTENDERS if name not in SLOW],
        metavar="NAME",
        help=f"of {', '.join(CONTENDERS)} (default: all but {', '.join(SLOW)})",
    )
    parser.add_argument("--threads", type=int, default=available_processors())
    parser.add_argument("--repeats", type=int, default=7, help="rounds of timings (default: 7)")
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="of one timing, at least one run (default: 0.3)"
    )
    parser.add_argument(
        "--form",
        choices=("paper", "timm"),
        default="paper",
        help="of the models: the documentation page's, or the released one (default: paper)",
    )
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="sgd")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--name", default="compare", help="of the files written there")
    parser.add_argument(
        "--limit", type=float, default=600, help="seconds that one answer may take (default: 600)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="try everything on something tiny; no real times"
    )
    parser.set_defaults(peak_size=PEAK_SIZE)
    return parser


def make_quick(args: argparse.Namespace) -> None:
    """Shrink what is measured to seconds."""
    # Batch norms over fewer values than these turn rounding errors into differences of the loss.
    args.variants, args.batches, args.training_batches = ["conv_small"], [2], [8]
    args.size, args.repeats, args.seconds, args.peak_size = 64, 2, 0.01, 256
    args.contenders = [name for name in args.contenders if not name.startswith("torch-compile")]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    args = parser().parse_args(argv)
    if args.quick:
        make_quick(args)
    result: dict[str, Any] = {
        "machine": describe(args.threads),
        "settings": {
            "size": args.size,
            "form": args.form,
            "optimizer": args.optimizer,
            "rounds": args.repeats,
            "seconds_a_timing": args.seconds,
            "pause_s": PAUSE,
        },
        "versions": {},
        "cases": [],
    }
    modes = [name for mode in args.modes for name in COLD.get(mode, (mode,))]
    cases = [
        Case(variant, mode, batch, args.size, args.form, args.optimizer)
        for mode, variant in itertools.product(modes, args.variants)
        for batch in (args.training_batches if "training" in mode else args.batches)
    ]
    for case in cases:
        print(f"\n{case}, {args.threads} threads", flush=True)
        try:
            measured = measure(case, args, result["versions"])
        except CaseError as error:
            print(f"  not measured: {error}", file=sys.stderr)
            continue
        result["cases"].append(measured)
        write_report(result, args.output, args.name)  # after each case: an interrupted run counts
    print("\n" + markdown(result))
    print(f"written to {args.output / args.name}.json, .md and, with matplotlib, .png")
    return 0 if len(result["cases"]) == len(cases) else 1


class CaseError(Exception):
    """The case itself could not be set up."""


def measure(case: Case, args: argparse.Namespace, versions: dict[str, str]) -> dict[str, Any]:
    """Return the case with all contenders' rows."""
    names = [name for name in args.contenders if case.mode in CONTENDERS[name].modes]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_case(case, folder)
        problem = run_module("benchmarks._case", [temporary], args.threads, args.limit)
        if problem is not None:
            raise CaseError(problem)
        no_onnx = None
        if any(CONTENDERS[name].needs_onnx for name in names):
            no_onnx = run_module("benchmarks._export", [temporary], args.threads, args.limit)
        facts = json.loads((folder / "facts.json").read_text())
        if case.mode in STARTS:
            found = starts(case, names, folder, args, no_onnx)
            versions.update(installed(name for name in names if "median_ms" in found[name]))
            return {**described(case), **facts, "rows": found}
        rows: dict[str, dict[str, Any]] = {}
        workers: dict[str, WorkerProcess] = {}
        peak = WorkerProcess(["peak", str(args.peak_size)], args.threads, args.limit)
        try:
            for name in names:
                if CONTENDERS[name].needs_onnx and no_onnx is not None:
                    rows[name] = without_onnx(no_onnx)
                    continue
                workers[name] = WorkerProcess([name, temporary], args.threads, args.limit)
                rows[name] = _load(workers[name], versions)
                _drop_if_out(name, rows, workers)
            gflops = _time_in_rounds(workers, rows, peak, args)
            for name in list(workers):
                _ask_into(rows[name], workers[name], "memory")
        finally:
            for worker in [*workers.values(), peak]:
                worker.stop()
    # A step's backward pass is two products for each of the forward pass.
    factor = 3 if case.mode == "training" else 1
    floor = 2e-6 * facts["multiply_adds"] * case.batch * factor / max(gflops)
    for name in names:
        print(f"  {CONTENDERS[name].label:34}{_shown(rows[name])}", flush=True)
    print(f"  {'arithmetic alone':34}{floor:9.2f} ms at {max(gflops):.0f} GFLOP/s")
    return {
        **described(case),
        **facts,
        "peak_gflops": max(gflops),
        "floor_ms": floor,
        "rows": {name: rows[name] for name in names},
    }


def described(case: Case) -> dict[str, Any]:
    """Return what a case of the results begins with."""
    return {"variant": case.variant, "mode": case.mode, "batch": case.batch}


def without_onnx(reason: str) -> dict[str, Any]:
    """Return the row of a contender whose file could not be written."""
    return {"skipped": f"no ONNX file: {reason}"}


def starts(
    case: Case, names: list[str], folder: Path, args: argparse.Namespace, no_onnx: str | None
) -> dict[str, dict[str, Any]]:
    """Return the rows of new processes."""
    able = [name for name in names if no_onnx is None or not CONTENDERS[name].needs_onnx]
    rows = {name: without_onnx(no_onnx or "") for name in names}
    rows |= _start.measure(case, able, folder, args.threads, args.repeats, args.limit)
    for name, row in rows.items():
        if not row.get("difference", 0.0) <= TOLERANCE:
            rows[name] = {"failed": differs(row["difference"])}
        print(f"  {CONTENDERS[name].label:34}{_shown(rows[name])}", flush=True)
        for stage, ms in rows[name].get("stages_ms", {}).items():
            print(f"  {'':34}{ms:9.0f} ms  {stage}", flush=True)
    return rows


def installed(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of what contenders import."""
    packages = dict.fromkeys(package for name in names for package in CONTENDERS[name].packages)
    return {package: version(package) for package in packages}


def differs(difference: float) -> str:
    """Return why a contender is out whose result is another one."""
    if not math.isfinite(difference):
        return "its result has numbers that are not finite"
    return f"its result differs from lucid's by {difference:.1e} of the largest value"


def _load(worker: WorkerProcess, versions: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    _ask_into(row, worker, "load")
    versions.update(row.pop("versions", {}))
    if not row.get("difference", 0.0) <= TOLERANCE:  # NaN too, which JSON does not have
        row["failed"] = differs(row.pop("difference"))
    return row


def _ask_into(row: dict[str, Any], worker: WorkerProcess, do: str, **arguments: Any) -> None:
    try:
        row.update(worker.ask(do, **arguments))
    except WorkerError as error:
        row["failed"] = str(error)


def _drop_if_out(name: str, rows: dict[str, Any], workers: dict[str, WorkerProcess]) -> None:
    if "failed" in rows[name] or "skipped" in rows[name]:
        workers.pop(name).stop()


def _time_in_rounds(
    workers: dict[str, WorkerProcess],
    rows: dict[str, dict[str, Any]],
    peak: WorkerProcess,
    args: argparse.Namespace,
) -> list[float]:
    """Fill the rows' times; return the peak's GFLOP/s of all rounds."""
    gflops: list[float] = []
    medians: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(args.repeats):
        order = list(workers)
        # Another one begins each round, so that no one always follows the same one.
        order = order[turn % max(1, len(order)) :] + order[: turn % max(1, len(order))]
        time.sleep(PAUSE)
        gflops += peak.ask("time", seconds=args.seconds)["gflops"]
        for name in order:
            time.sleep(PAUSE)
            answer: dict[str, Any] = {}
            _ask_into(answer, workers[name], "time", seconds=args.seconds)
            if "failed" in answer:
                rows[name]["failed"] = answer["failed"]
                _drop_if_out(name, rows, workers)
            else:
                medians[name].append(statistics.median(answer["ms"]))
    for name in workers:
        ordered = sorted(medians[name])
        rows[name].update(
            median_ms=statistics.median(ordered),
            fastest_ms=ordered[0],
            slowest_ms=ordered[-1],
            rounds_ms=[round(ms, 4) for ms in medians[name]],
        )
    return gflops


def _shown(row: dict[str, Any]) -> str:
    for reason in ("skipped", "failed"):
        if reason in row:
            return f"{reason}: {row[reason]}"
    megabytes = row.get("peak_bytes", 0) / 2**20
    spread = f"{row['fastest_ms']:.2f} to {row['slowest_ms']:.2f}"
    return f"{row['median_ms']:9.2f} ms  ({spread}),  peak {megabytes:.0f} MiB"


if __name__ == "__main__":
    os.chdir(Path(__file__).parent.parent)
    sys.exit(main())
