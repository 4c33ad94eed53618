"""The case's model as an ONNX file: ``python -m benchmarks._export FOLDER``.

PyTorch's exporter by tracing, opset 17, one fixed batch; it folds constants, and batch norms into
the convolutions before them.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np

from benchmarks._case import read_case

OPSET = 17


def main(folder: Path) -> None:
    """Write ``model.onnx``."""
    import torch

    from benchmarks._contenders import torch_model

    model = torch_model(read_case(folder), folder)
    x = torch.from_numpy(np.load(folder / "images.npy"))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (x,),
            str(folder / "model.onnx"),
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=True,
            input_names=["x"],
            output_names=["y"],
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
