"""All that README and the documentation show, measured in one run and written to one file.

    python -m benchmarks.all
    python -m benchmarks.readme

A run is the commands of this folder, one after the other (``PARTS``); it takes some 25 minutes on
two cores that do nothing else. What it has is kept after every part. A run that was interrupted, or
of which a part failed, goes on where it was, at the same commit and on the same machine;
``results/results.json`` is replaced when all parts are there.
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

from benchmarks._machine import available_processors, describe, environment
from benchmarks._report import OUTPUT, write_json
from benchmarks._results import FILE, SAME, VARIANTS, strangers

ROOT = Path(__file__).resolve().parents[1]
OF_RUN = (*SAME, "vector_extensions", "time")

_BEST = "lucid-numpy-compiled lucid-numba-compiled torch-channels-last torch-compile onnxruntime"
_STEP = "lucid-numpy lucid-numba torch-channels-last"
#: The contenders of each variant. The smallest one has all of them; of the others what is never the
#: best of its library is left out, and where PyTorch takes minutes to compile a step, that too.
_INFERENCE = {"conv_small": "", **dict.fromkeys(VARIANTS[1:], f"--contenders {_BEST} openvino")}
_TRAINING = {
    "conv_small": "",
    **dict.fromkeys(VARIANTS[1:3], f"--contenders {_STEP} torch-compile"),
    **dict.fromkeys(VARIANTS[3:], f"--contenders {_STEP}"),
}
_AXES = "--batches 1 4 16 64 --sizes 96 160 224 352 512"
#: Name -> command. Most of the time goes into setting up, so what is small gets more rounds.
PARTS = {
    **{
        f"inference {variant}": f"compare --modes inference --variants {variant} "
        f"--repeats {7 if variant == 'conv_small' else 5} {contenders}"
        for variant, contenders in _INFERENCE.items()
    },
    **{
        f"training {variant}": f"compare --modes training --variants {variant} "
        f"--repeats {5 if variant == 'conv_small' else 3} {contenders}"
        for variant, contenders in _TRAINING.items()
    },
    "numpy alone": "compare --modes inference --variants conv_small --batches 1 --repeats 5 "
    "--contenders lucid-numpy lucid-numpy-compiled onnx-reference",
    "growth inference": f"growth --modes inference {_AXES} "
    "--contenders lucid-numba-compiled lucid-numba onnxruntime",
    "growth training": f"growth --modes training {_AXES} --contenders lucid-numba",
    "loader": "loader --rounds 3",
    "accuracy": "accuracy",
    "size": "size",
}
_FEW = "--contenders lucid-numpy-compiled onnxruntime lucid-numpy"
_TINY = "--repeats 1 --seconds 0.01"
#: The same kinds of parts, tried.
QUICK = {
    "inference conv_small": f"compare --quick --modes inference {_FEW}",
    "training conv_small": "compare --quick --modes training --contenders lucid-numpy",
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


def measure(command: str) -> dict[str, Any]:
    """Run a command of this folder, and return the file that it writes.

    Raises:
        subprocess.CalledProcessError: if the command fails.
    """
    module, *arguments = command.split()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", f"benchmarks.{module}", *arguments, "--output", folder],
            cwd=ROOT,
            # So that each part has all processors, whatever the caller's environment says.
            env=environment(available_processors()),
            check=True,
        )
        result: dict[str, Any] = json.loads((Path(folder) / f"{module}.json").read_text("utf-8"))
    return result


def split(result: dict[str, Any], code: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what of a command's file is the part's, and the versions that it used."""
    machine = {"commit": code, **result.pop("machine")}
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
        if data["head"][key] != head[key]:
            raise SystemExit(
                f"benchmarks.all: {path} is a run that was begun with {key} {data['head'][key]}, "
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
        "--quick", action="store_true", help="try it on something tiny; results.json is left alone"
    )
    parser.add_argument("--output", type=Path, help="the file to write (default: the results)")
    args = parser.parse_args(argv)
    parts = QUICK if args.quick else PARTS
    output = args.output or (ROOT / OUTPUT / "quick.json" if args.quick else FILE)
    kept = ROOT / OUTPUT / f"unfinished-{output.name}"
    machine = describe(available_processors())
    code = commit()
    head = {"commit": code, **{key: machine[key] for key in OF_RUN if key != "commit"}}
    data = unfinished(kept, {**head, "versions": {}})
    failed = []
    for number, (name, command) in enumerate(parts.items(), 1):
        if name in data["parts"]:
            continue
        print(f"\n== {number} of {len(parts)}: {name}\n   {command}", flush=True)
        began = time.monotonic()
        try:
            part, versions = split(measure(command), code)
        except subprocess.CalledProcessError as error:
            failed.append(name)
            print(f"   failed with status {error.returncode}", file=sys.stderr, flush=True)
            continue
        part["measured"]["seconds"] = round(time.monotonic() - began)
        data["parts"][name] = part
        data["head"]["versions"] |= versions
        write_json(data, kept)
    if failed:
        print(f"\nwithout {', '.join(failed)}; the same command goes on", file=sys.stderr)
        return 1
    assert not strangers(data)
    data["parts"] = {name: data["parts"][name] for name in parts}
    write_json(data, output)
    kept.unlink(missing_ok=True)
    seconds = sum(part["measured"]["seconds"] for part in data["parts"].values())
    print(f"\nwritten to {output}, after {seconds / 60:.0f} minutes")
    return 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
