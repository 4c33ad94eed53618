"""How many pictures a second two shards of ``lucid embed`` do, beside one, with one thread each.

    python -m benchmarks.shards
    python -m benchmarks.shards --pictures 400 --rounds 1

The pictures are those of ``benchmarks.loader``, JPEGs of 500×375; conv_small computes their
features at 224×224 on a compiled plan, in batches of 16, and writes them in parts of Parquet. Each
shard is a process of one thread that has a processor to itself and decodes in between. It compiles,
does a batch, and waits for the start of all. One shard, the first of two, and both take turns.

The second ratio takes the processors' time for the clock's: what it would be if they did nothing
else.
"""

from __future__ import annotations

import argparse
import operator
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._machine import available_processors, describe, environment
from benchmarks._report import OUTPUT, write_json
from benchmarks.loader import write_photographs

BATCH, PART = 16, 256


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shards", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--shard", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def run_shard(folder: Path, index: int, count: int) -> None:
    """Do a shard's pictures when a line comes in, and print when that began and ended."""
    import lucid
    from lucid import data, models
    from lucid._files import Parts
    from lucid.distributed._map_images import fill
    from lucid.distributed._picture_model import PictureModel
    from lucid.distributed._tables import Features

    if hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {processors[index % len(processors)]})
    lucid.set_num_threads(1)
    lucid.manual_seed(0)
    model = PictureModel(models.create_model("mobilenetv4_conv_small").eval(), Features(), BATCH)
    source = data.open_source(folder).part(index, count)
    first = next(iter(source))
    model([model.load(first)] * BATCH)
    with tempfile.TemporaryDirectory() as output:
        parts = Parts(output, {})
        with parts.held():
            print("ready", flush=True)
            sys.stdin.readline()
            begin, used = time.monotonic(), time.process_time()
            done = sum(1 for _ in fill(parts, source, model, PART, workers=0))
            print(done, begin, time.monotonic(), time.process_time() - used, flush=True)


def rate(folder: Path, shards: list[int]) -> tuple[float, float]:
    """Return how many pictures a second these shards of two do, by the clock and the processors."""
    command = [sys.executable, "-m", "benchmarks.shards", "--folder", str(folder), "--shard"]
    processes = [
        subprocess.Popen(
            [*command, str(index), "2"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(1),
        )
        for index in shards
    ]
    for process in processes:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        process.stdin.write("go\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    found = [list(map(float, process.communicate()[0].split())) for process in processes]
    done, begins, ends, used = zip(*found)
    return sum(done) / (max(ends) - min(begins)), sum(map(operator.truediv, done, used))


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    args = parser().parse_args(arguments)
    if args.shard:
        run_shard(args.folder, *args.shard)
        return
    rates: dict[str, list[tuple[float, float]]] = {"one": [], "two": []}
    with tempfile.TemporaryDirectory() as name:
        write_photographs(Path(name), args.pictures)
        for number in range(args.rounds):
            rates["one"].append(rate(Path(name), [0]))
            rates["two"].append(rate(Path(name), [0, 1]))
            one, two = rates["one"][-1], rates["two"][-1]
            print(f"round {number + 1}: {one[0]:.1f}, {two[0]:.1f} pictures a second", flush=True)
    pairs = list(zip(rates["one"], rates["two"]))
    ratio, by_processors = (
        statistics.median(two[way] / one[way] for one, two in pairs) for way in (0, 1)
    )
    print(f"two shards do {ratio:.2f} times what one does, {by_processors:.2f} by processors' time")
    results = {
        "machine": describe(available_processors()),
        "pictures": args.pictures,
        "pictures_a_second": rates,
        "ratio": ratio,
        "ratio_by_processors": by_processors,
    }
    write_json(results, args.output / "shards.json")


if __name__ == "__main__":
    main()
