"""What a second rank brings, and how far ``lucid plan`` is from what many ranks take.

    python -m benchmarks.ranks
    python -m benchmarks.ranks --quick

Two ranks with one thread each train beside one that has the machine to itself, in turns: one
alone, both without a word, both with the sums of their gradients. Then 4 and 8 ranks that sleep
after each layer, so that they fit on two processors, train over the machine's memory and over
wires that take the time of slower ones. Beside each stands what the plan says. README.md tells the
rest.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._machine import available_processors, describe, environment
from benchmarks._rank_worker import LATENCY
from benchmarks._report import OUTPUT, write_json
from lucid.distributed import StepTimes, Wire, plan
from lucid.distributed._wire import bandwidth

ROOT = Path(__file__).resolve().parents[1]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ranks", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--model", default="mobilenet_v4_conv_small")
    parser.add_argument("--batch", type=int, default=16, help="images a rank (default: 16)")
    parser.add_argument("--size", type=int, default=224, help="pixels of a side (default: 224)")
    parser.add_argument("--rounds", type=int, default=15, help="of turns (default: 15)")
    parser.add_argument("--slowed", type=int, nargs="*", default=[4, 8], help="ranks that sleep")
    parser.add_argument("--slowed-batch", type=int, default=4, help="default: 4")
    parser.add_argument("--slowed-size", type=int, default=96, help="default: 96")
    parser.add_argument("--wires", nargs="*", default=["1Gbit", "300Mbit"], help="that are slower")
    parser.add_argument("--limit", type=float, default=900, help="seconds for one start of ranks")
    parser.add_argument("--quick", action="store_true", help="try it; the times mean nothing")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser


def start(ranks: int, limit: float, **settings: Any) -> dict[str, Any]:
    """Return what so many ranks measured."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    launcher = shutil.which("mpiexec", path=path)
    if launcher is None:
        sys.exit("mpiexec is missing: pip install mpi4py mpich")
    worker = [sys.executable, "-m", "benchmarks._rank_worker", json.dumps(settings)]
    done = subprocess.run(
        [launcher, "-n", str(ranks), *worker],
        cwd=ROOT,
        env=environment(threads=1),
        stdout=subprocess.PIPE,
        text=True,
        timeout=limit,
    )
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout.strip().splitlines()[-1])


def step_of(parts: dict[str, Any]) -> StepTimes:
    """Return the step that a rank has measured."""
    return StepTimes(**{**parts, "gradients": tuple(map(tuple, parts["gradients"]))})


def compare(measured: dict[str, Any], slowed: bool) -> list[dict[str, Any]]:
    """Print what was measured beside what the plan says; return the rows.

    The step of the plan is that of a rank beside others: what they take of the machine's memory and
    caches is no matter of the wire.
    """
    ranks, turns = measured["ranks"], measured["turns"]
    one, beside = (step_of(measured["parts"][kind]) for kind in ("one", "beside"))
    rows = []
    for kind, times in turns.items():
        if kind == "few":
            continue
        planned = one.seconds if kind == "one" else beside.seconds
        if kind == "memory":
            planned = plan(beside, ranks, ranks_per_machine=ranks).steps[-1].seconds
        elif kind not in ("one", "beside"):
            planned = plan(beside, ranks, Wire(bandwidth(kind), LATENCY)).steps[-1].seconds
        rows.append(
            {
                "ranks": ranks,
                "slowed": slowed,
                "kind": kind,
                "rounds": times,
                "seconds": statistics.median(times),
                "planned": planned,
                "error": planned / statistics.median(times) - 1,
                "efficiency": statistics.median(a / b for a, b in zip(turns["one"], times)),
                "planned_efficiency": one.seconds / planned,
            }
        )
    print(f"\n{ranks} ranks" + (", slowed down" if slowed else ""))
    print(f"{'':12}{'ms a step':>12}{'planned':>10}{'error':>9}{'efficiency':>12}{'planned':>10}")
    for row in rows:
        print(
            f"{row['kind']:12}{row['seconds'] * 1e3:12.1f}{row['planned'] * 1e3:10.1f}"
            f"{row['error']:+9.1%}{row['efficiency']:12.3f}{row['planned_efficiency']:10.3f}",
            flush=True,
        )
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    args = parser().parse_args(argv)
    common = {"model": args.model, "rounds": args.rounds}
    if args.quick:
        args.batch, args.size, args.slowed, args.slowed_size = 4, 32, [4], 32
        common["rounds"] = 2
    machine = describe(1)
    print(f"{args.model}, {machine['processor']}, load {machine['load_at_start']}")
    args.output.mkdir(parents=True, exist_ok=True)
    settings = {"batch": args.batch, "size": args.size, "slow": 1, "wires": []}
    timeline = str((args.output / "timeline.json").resolve())
    two = start(2, args.limit, **common, **settings, timeline=timeline)
    rows = compare(two, slowed=False)
    for ranks in args.slowed:
        settings = {"batch": args.slowed_batch, "size": args.slowed_size, "wires": args.wires}
        slow = 2 * ranks / available_processors()  # half of the processors' time is left
        slowed = start(ranks, args.limit, **common, **settings, slow=slow, timeline=None)
        rows += compare(slowed, slowed=True)
    shape = [args.batch, 3, args.size, args.size]
    facts = {"model": args.model, "input_shape": shape, "measured": two["parts"]["one"]}
    write_json({"machine": machine, **facts, "rows": rows}, args.output / "ranks.json")


if __name__ == "__main__":
    main()
