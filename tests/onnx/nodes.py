"""ONNX's own tests of single nodes: ``python -m tests.onnx.nodes`` runs all and counts.

They are made by the package onnx: a model of one operator, inputs, and the outputs expected.
"""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import lucid
from lucid.onnx._operators import OPERATORS

# Tests of operators in the table that are left out: a pattern of their names, and the reason.
LEFT_OUT = {
    r".*(BFLOAT16|bf16|bfloat16).*": "NumPy has no bfloat16",
    r".*(FLOAT8|FLOAT4|float4|e8m0|e4m3|e5m2).*": "NumPy has no floats of 4 or 8 bits",
    r".*(INT4|int4|INT2|int2|blocked_symmetric).*": "NumPy has no integers of 2 or 4 bits",
    r"test_equal_string.*": "strings are no tensors of lucid's",
    r"test_identity_(sequence|opt)": "a list of tensors and an optional one are no tensors",
    r"test_(averagepool|maxpool|conv|convtranspose|globalaveragepool)_3d.*": "three-dimensional",
    r"test_maxpool_with_argmax.*": "the output of indices",
    r"test_training_dropout(_default)?(_mask)?": "the numbers that NumPy's old generator draws",
    r"test_not_[234]d": "of opset 1, where broadcasting had to be asked for",
    r"test_resize_tf_crop_and_resize.*": "cuts out a part, which no classifier does",
    r"test_attention_4d_causal_fp16_expanded": "lucid's softmax rounds float16 once, not each step",
}


def reason(name: str) -> str | None:
    """Return why a test is left out; None if it is not."""
    return next((why for pattern, why in LEFT_OUT.items() if re.fullmatch(pattern, name)), None)


def cases() -> Iterator[Any]:
    """Yield the tests whose operators are all in the table."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    for case in found:
        if {_kind(node) for node in case.model.graph.node} <= set(OPERATORS):
            yield case


def _kind(node: Any) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else str(node.op_type)


def check(case: Any, folder: Path) -> None:
    """Raise unless lucid's outputs are those expected."""
    path = folder / "node.onnx"
    path.write_bytes(case.model.SerializeToString())
    net = lucid.onnx.load(path)
    for inputs, outputs in case.data_sets:
        results = net(*[_array(value) for value in inputs])
        results = results if isinstance(results, tuple) else (results,)
        assert len(results) == len(outputs)
        for result, expected in zip(results, map(_array, outputs)):
            assert result.dtype == expected.dtype
            assert result.shape == expected.shape
            np.testing.assert_allclose(
                result.data.astype(np.float64), expected, rtol=case.rtol, atol=case.atol
            )


def _array(value: Any) -> np.ndarray:
    from onnx import TensorProto, numpy_helper

    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def main() -> int:
    """Run all tests, and print how many passed and which were left out; 1 if one failed."""
    passed, left_out, failed = 0, [], []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            why = reason(case.name)
            if why is not None:
                left_out.append(case.name)
                continue
            try:
                check(case, Path(folder))
                passed += 1
            except Exception as error:
                failed.append(case.name)
                print(f"{case.name}: {' '.join(str(error).split())[:300]}")
    for pattern, why in LEFT_OUT.items():
        count = sum(re.fullmatch(pattern, name) is not None for name in left_out)
        print(f"{count:4} left out: {pattern}: {why}")
    print(f"{passed} passed, {len(failed)} failed, {len(left_out)} left out")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
