"""How far lucid's logits are from timm's, from the same weights and images.

    python -m benchmarks.accuracy

What timm computes is recorded in ``tests/reference``, so neither it nor PyTorch is needed. Each
backend runs each architecture that is recorded, as it is and compiled.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import lucid
from benchmarks._machine import describe
from benchmarks._report import OUTPUT, write_json
from lucid import models
from tests.reference import arrays

ROOT = Path(__file__).resolve().parents[1]


def differences(reference: dict[str, Any], backend: str) -> Iterator[tuple[str, float]]:
    """Yield each way of running with its largest difference, over the largest of timm's logits."""
    seed = reference["seed"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.npz"
        lucid.save(
            {name: arrays.weight(name, tuple(shape), seed) for name, shape in reference["entries"]},
            path,
        )
        model = models.create_model(reference["timm_model"], weights=path).eval()
    images = arrays.images(tuple(reference["images"]), seed)
    expected = np.array(reference["eval"]["logits_first_image"])
    lucid.set_backend(backend)
    for how, run in (("eager", model), ("compiled", lucid.compile(model, images.shape))):
        with lucid.no_grad():
            logits = run(lucid.tensor(images)).numpy()[0]
        yield how, float(np.abs(logits - expected).max() / np.abs(expected).max())


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="(default: all)")
    args = parser.parse_args(argv)
    rows, versions = [], {"lucid": lucid.__version__}
    for path in sorted((ROOT / "tests" / "reference").glob("*.json")):
        reference = json.loads(path.read_text(encoding="utf-8"))
        if args.only and reference["timm_model"] not in args.only:
            continue
        versions |= {"timm": reference["timm_version"], "torch": reference["torch_version"]}
        for backend in lucid.available_backends():
            for how, difference in differences(reference, backend):
                rows.append(
                    {
                        "model": reference["timm_model"],
                        "backend": backend,
                        "how": how,
                        "difference": difference,
                    }
                )
                print(f"{reference['timm_model']:30}{backend:7}{how:10}{difference:.1e}")
    result = {"machine": describe(lucid.get_num_threads()), "versions": versions, "rows": rows}
    write_json(result, args.output / "accuracy.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
