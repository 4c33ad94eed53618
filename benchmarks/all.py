"""All that README and the documentation show, measured in one run and written to one file.

    python -m benchmarks.all --short
    python -m benchmarks.all --short --code avx2
    python -m benchmarks.readme

A run is the commands of this folder, one after the other (``parts``); it takes some half an hour on
two cores that do nothing else, and half of that with ``--short``. What it has is kept after every
part. A run that was interrupted, of which a part failed or of which ``--only`` named some parts,
goes on where it was, at the same commit and on the same machine; the file of the machine's kind in
``results`` is replaced when all parts are there. ``--code avx2`` stands in for a machine without
AVX-512: who cannot be kept to AVX2 is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._contenders import CONTENDERS
from benchmarks._machine import CODES, UNLIMITED, available_processors, describe, environment
from benchmarks._report import OUTPUT, write_json
from benchmarks._results import SAME, VARIANTS, Run
from benchmarks.compare import SLOW

ROOT = Path(__file__).resolve().parents[1]
OF_RUN = (*SAME, "vector_extensions", "time")

_ALL = [name for name in CONTENDERS if name not in SLOW]
_BEST = ["lucid-numpy-compiled", "lucid-numba-compiled", "torch-compile", "onnxruntime"]
_STEP = ["lucid-numpy", "lucid-numba", "torch-channels-last"]
_START = ("conv_small", "hybrid_medium", "hybrid_large")


def parts(short: bool = False, code: str = "") -> dict[str, str]:
    """Return the command of each part, by its name.

    The smallest variant has all contenders; of the others what is never the best of its library is
    left out, and where PyTorch takes minutes to compile a step, that too. Most of the time goes
    into setting up, so what is small gets more rounds.

    Args:
        short: fewer rounds and points, and less of what is seldom the best of its library.
        code: who cannot be limited to these instructions is left out: a key of ``CODES``.
    """

    def compare(modes: str, variants: Sequence[str], repeats: int, names: Sequence[str]) -> str:
        able = [name for name in names if not (code and name in UNLIMITED)]
        command = f"compare --modes {modes} --variants {' '.join(variants)} --repeats {repeats}"
        return f"{command} --contenders {' '.join(able)}"

    more = [] if short else ["torch-channels-last", "openvino"]
    compiled = () if short else VARIANTS[1:3]
    found = {}
    for variant in VARIANTS:
        small = variant == "conv_small"
        names = _ALL if small else _BEST + more
        repeats = 4 if short else 7 if small else 5
        found[f"inference {variant}"] = compare("inference", [variant], repeats, names)
    for variant in VARIANTS:
        small = variant == "conv_small"
        names = _ALL if small else _STEP + ["torch-compile"] * (variant in compiled)
        repeats = 3 if short or not small else 5
        found[f"training {variant}"] = compare("training", [variant], repeats, names)
    evaluator = ["lucid-numpy", "lucid-numpy-compiled", "onnx-reference"]
    numpy = compare("inference", ["conv_small"], 3 if short else 5, evaluator)
    axes = "--batches 1 4 16 64 --sizes 96 160 224 352 512"
    if short:
        axes = "--batches 1 4 16 64 --sizes 96 224 512 --repeats 3"
    curves = ["lucid-numba-compiled", *["lucid-numba"] * (not short), *["onnxruntime"] * (not code)]
    start = [name for name in _ALL if "start" in CONTENDERS[name].modes]
    cold = ["lucid-numba-compiled", "lucid-numba"]
    return {
        **found,
        "numpy alone": f"{numpy} --batches 1",
        "start": compare("start", _START, 2 if short else 4, start),
        "cold": f"{compare('cold', ['conv_small'], 2 if short else 3, cold)} --batches 1",
        "growth inference": f"growth --modes inference {axes} --contenders {' '.join(curves)}",
        "growth training": f"growth --modes training {axes} --contenders lucid-numba",
        "loader": f"loader --rounds 3{' --pictures 1000' * short}",
        "accuracy": "accuracy",
        "size": "size",
    }


_FEW = "--contenders lucid-numpy-compiled onnxruntime lucid-numpy"
_TINY = "--repeats 1 --seconds 0.01"
#: The same kinds of parts, tried.
QUICK = {
    "inference conv_small": f"compare --quick --modes inference {_FEW}",
    "training conv_small": "compare --quick --modes training --contenders lucid-numpy",
    "start": f"compare --quick --modes start {_FEW}",
    "growth inference": f"growth --modes inference --batches 1 2 --sizes 32 64 --size 64 {_TINY} "
    "--contenders lucid-numpy",
    "loader": "loader --pictures 128 --rounds 1 --steps 1",
    "accuracy": "accuracy --only mobilenetv4_conv_small",
    "size": "size --only lucid",
}


def commit() -> str:
    """Return the commit of the code, with a plus if it is not quite that; "" of a mere copy."""
    tree = ["lucid", "benchmarks"]
    found = [
        subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        for arguments in (
            ["rev-parse", "--short=10", "HEAD"],
            ["status", "--porcelain", "--untracked-files=no", "--", *tree],
        )
    ]
    if any(each.returncode for each in found):
        return ""
    return found[0].stdout.strip() + "+" * bool(found[1].stdout.strip())


def measure(command: str, code: str) -> dict[str, Any]:
    """Run a command of this folder, limited to some instructions, and return the file it writes.

    Raises:
        subprocess.CalledProcessError: if the command fails.
    """
    module, *arguments = command.split()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", f"benchmarks.{module}", *arguments, "--output", folder],
            cwd=ROOT,
            # So that each part has all processors, whatever the caller's environment says.
            env=environment(available_processors()) | CODES[code],
            check=True,
        )
        result: dict[str, Any] = json.loads((Path(folder) / f"{module}.json").read_text("utf-8"))
    return result


def split(result: dict[str, Any], of: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what of a command's file is the part's, and the versions that it used."""
    machine = {"commit": of, **result.pop("machine")}
    versions = result.pop("versions", {})
    result.pop("curves", None)  # they follow from the points
    for case in result.get("cases", []):
        del case["time_ratios"], case["memory_ratios"]  # from the rows
    return {"measured": machine, **result}, versions


def unfinished(path: Path, head: dict[str, Any]) -> dict[str, Any]:
    """Return the run to go on with; a new one if none was begun.

    Raises:
        SystemExit: if the one that was begun is of another commit or machine.
    """
    if not path.exists():
        return {"head": head, "parts": {}}
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key in SAME:
        begun = data["head"].get(key, "")
        if begun != head[key]:
            raise SystemExit(
                f"benchmarks.all: {path} is a run that was begun with {key} {begun}, "
                f"and it is {head[key]} now; remove the file to begin anew"
            )
    print(f"going on with the run of {data['head']['time']}", flush=True)
    return data


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is not there yet, and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.all", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="try it on something tiny; the results are left alone"
    )
    parser.add_argument(
        "--short", action="store_true", help="fewer rounds and points: half of the time"
    )
    parser.add_argument(
        "--code",
        choices=[name for name in CODES if name],
        default="",
        help="limit all who can be limited to these instructions (default: the machine's)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(parts()),
        metavar="PART",
        help=f"measure these now, and keep them for the run: of {', '.join(map(repr, parts()))}",
    )
    parser.add_argument("--output", type=Path, help="the file to write (default: the results)")
    args = parser.parse_args(argv)
    machine = describe(available_processors())
    machine["code"] = args.code or machine["code"]
    wanted = QUICK if args.quick else parts(args.short, machine["code"])
    of = commit()
    head = {"commit": of, **{key: machine[key] for key in OF_RUN if key != "commit"}}
    usual = Run({"head": head}).file
    output = args.output or (ROOT / OUTPUT / "quick.json" if args.quick else usual)
    kept = ROOT / OUTPUT / f"unfinished-{output.name}"
    data = unfinished(kept, {**head, "short": args.short, "versions": {}})
    failed = []
    for number, (name, command) in enumerate(wanted.items(), 1):
        if name in data["parts"] or (args.only and name not in args.only):
            continue
        print(f"\n== {number} of {len(wanted)}: {name}\n   {command}", flush=True)
        began = time.monotonic()
        try:
            part, versions = split(measure(command, args.code), of)
        except subprocess.CalledProcessError as error:
            failed.append(name)
            print(f"   failed with status {error.returncode}", file=sys.stderr, flush=True)
            continue
        part["measured"]["seconds"] = round(time.monotonic() - began)
        data["parts"][name] = part
        data["head"]["versions"] |= versions
        write_json(data, kept)
    missing = [name for name in wanted if name not in data["parts"]]
    if missing:
        how = "the same command without --only" if args.only else "the same command"
        print(f"\nwithout {', '.join(missing)}; {how} goes on", file=sys.stderr)
        return 1 if failed else 0
    assert not Run(data).strangers
    data["parts"] = {name: data["parts"][name] for name in wanted}
    write_json(data, output)
    kept.unlink(missing_ok=True)
    seconds = sum(part["measured"]["seconds"] for part in data["parts"].values())
    print(f"\nwritten to {output}, after {seconds / 60:.0f} minutes")
    return 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
