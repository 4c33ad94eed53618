"""Two commits of lucid beside each other: did a change cost time?

    python -m benchmarks.between HEAD~5            # HEAD~5 and the working tree
    python -m benchmarks.between v0.1.0 main --variants conv_small --backends numba

Each commit computes in a process of its own, and the parent asks one after the other for a timing.
What is printed is the median of the ratios new/old of neighbouring timings: the machine's speed,
which changes from minute to minute, is the same in both. README.md tells the rest.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._case import MODES, VARIANTS, Case, write_case
from benchmarks._machine import available_processors, describe, environment
from benchmarks._process import WorkerError, WorkerProcess, run_module

ROOT = Path(__file__).resolve().parents[1]
WORKING_TREE = "the working tree"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.between", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("old", help="a commit")
    parser.add_argument("new", nargs="?", default=WORKING_TREE, help=f"default: {WORKING_TREE}")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=["conv_small", "hybrid_medium"]
    )
    parser.add_argument("--backends", nargs="+", default=["numpy", "numba"])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16], help="of inference")
    parser.add_argument("--training-batches", nargs="+", type=int, default=[16])
    parser.add_argument("--size", type=int, default=224, help="pixels of a side (default: 224)")
    parser.add_argument("--threads", type=int, default=available_processors())
    parser.add_argument("--repeats", type=int, default=15, help="pairs of timings (default: 15)")
    parser.add_argument("--seconds", type=float, default=0.3, help="of one timing (default: 0.3)")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one answer")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a case failed."""
    args = parser().parse_args(argv)
    machine = describe(args.threads)
    print(f"{args.new} / {args.old}; {machine['processor']}, {args.threads} threads", flush=True)
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        folders = [
            lay_out(commit, Path(temporary) / str(i))
            for i, commit in enumerate([args.old, args.new])
        ]
        show("import lucid", compare([importing(folder, args.threads) for folder in folders], args))
        cases = [
            (backend, Case(variant, mode, batch, args.size))
            for variant, mode, backend in itertools.product(
                args.variants, args.modes, args.backends
            )
            for batch in (args.batches if mode == "inference" else args.training_batches)
        ]
        for backend, case in cases:
            try:
                show(f"{case}, {backend}", measure(case, backend, folders, args))
            except WorkerError as error:
                print(f"{case}, {backend}: not measured: {error}", file=sys.stderr)
                failed = True
    return int(failed)


def lay_out(commit: str, folder: Path) -> Path:
    """Write a commit's ``lucid`` to a folder, beside this checkout's ``benchmarks``."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=ignore)
    if commit == WORKING_TREE:
        shutil.copytree(ROOT / "lucid", folder / "lucid", ignore=ignore)
    else:
        archive = subprocess.run(
            ["git", "archive", commit, "lucid"], cwd=ROOT, check=True, stdout=subprocess.PIPE
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
    return folder


def importing(folder: Path, threads: int) -> Callable[[], float]:
    """Return a timing of a process that imports lucid, in ms."""
    env = environment(threads)
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # users have byte code after the first time

    def run() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import lucid"], cwd=folder, env=env, check=True)
        return 1e3 * (time.perf_counter() - start)

    run()  # writes the byte code
    return run


def measure(
    case: Case, backend: str, folders: list[Path], args: argparse.Namespace
) -> list[list[float]]:
    """Return the times of one case, as :func:`compare` does."""
    name = f"lucid-{backend}" + ("-compiled" if case.mode == "inference" else "")
    with tempfile.TemporaryDirectory() as temporary:
        write_case(case, Path(temporary))
        problem = run_module("benchmarks._case", [temporary], args.threads, args.limit)
        if problem is not None:
            raise WorkerError(problem)
        workers: list[WorkerProcess] = []
        try:
            for folder in folders:
                workers.append(WorkerProcess([name, temporary], args.threads, args.limit, folder))
                _answer(workers[-1], "load")
            return compare([_timing(worker, args.seconds) for worker in workers], args)
        finally:
            for worker in workers:
                worker.stop()


def _timing(worker: WorkerProcess, seconds: float) -> Callable[[], float]:
    return lambda: statistics.median(_answer(worker, "time", seconds=seconds)["ms"])


def _answer(worker: WorkerProcess, do: str, **arguments: Any) -> dict[str, Any]:
    answer = worker.ask(do, **arguments)
    for reason in ("skipped", "failed"):
        if reason in answer:
            raise WorkerError(answer[reason])
    return answer


def compare(timings: list[Callable[[], float]], args: argparse.Namespace) -> list[list[float]]:
    """Return the times of both, in pairs; the other one begins each time."""
    times: list[list[float]] = [[], []]
    for turn in range(args.repeats):
        for which in (turn % 2, 1 - turn % 2):
            times[which].append(timings[which]())
    return times


def show(what: str, times: list[list[float]]) -> None:
    """Print the times and the ratio of one comparison."""
    old, new = times
    ratios = sorted(b / a for a, b in zip(old, new))
    quarter = len(ratios) // 4
    print(
        f"{what:45}{statistics.median(old):9.2f} ms{statistics.median(new):9.2f} ms   "
        f"ratio {statistics.median(ratios):.3f} "
        f"(half of them {ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f})",
        flush=True,
    )


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
