"""The file itself: ONNX's checks, and weights beside it where they are too many for one file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lucid._files import atomic_path
from lucid._files._common import PathLike
from lucid._version import __version__
from lucid.onnx._context import Context, element_type
from lucid.onnx._traced import Array, ExportError

# A file is one message of Protocol Buffers, which has at most 2 GB, and room is left for the nodes.
_LARGEST = 2**31 - 2**24

# Bytes from which a constant goes beside the file, if one does. Shapes and such stay, for checks.
_SMALLEST_BESIDE = 1024


def write(
    onnx: Any,
    path: PathLike,
    context: Context,
    inputs: list[Any],
    outputs: list[Any],
    metadata: dict[str, str],
) -> None:
    """Write what the outputs are made of, once ONNX's checks hold.

    Weights of more than 2 GB are written first, into a file of the same name with ``.data`` behind.

    Raises:
        ExportError: if an operator does not take what it is given; nothing is written.
    """
    helper = onnx.helper
    nodes, constants = context.used([each.name for each in outputs])
    too_large = sum(array.nbytes for array in constants.values()) > _LARGEST
    beside = {
        name: array
        for name, array in constants.items()
        if too_large and array.nbytes >= _SMALLEST_BESIDE
    }
    inside = [
        onnx.numpy_helper.from_array(array, name)
        for name, array in constants.items()
        if name not in beside
    ]
    opsets = [helper.make_opsetid("", context.opset)]

    def file(inputs: list[Any], weights: list[Any]) -> Any:
        graph = helper.make_graph(
            [helper.make_node(*each[:3], name=each.name, **each.attributes) for each in nodes],
            "lucid",
            inputs,
            outputs,
            weights,
        )
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="lucid",
            producer_version=__version__,
        )
        helper.set_model_props(model, metadata)
        return model

    declared = [
        helper.make_tensor_value_info(name, element_type(array.dtype), array.shape)
        for name, array in beside.items()
    ]
    model = file([*inputs, *declared], inside)
    _check(onnx, model, context.opset)
    if beside:
        target = Path(os.path.realpath(path))
        target = target.with_name(f"{target.name}.data")
        model = file(inputs, [*inside, *_references(onnx, target.name, beside)])
        with atomic_path(target) as temporary:
            _write_arrays(temporary, beside.values())
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _check(onnx: Any, model: Any, opset: int) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"export: ONNX does not take the file with opset {opset}: "
            f"{' '.join(str(error).split())}"
        ) from error


def _references(onnx: Any, location: str, arrays: dict[str, Array]) -> list[Any]:
    """Return tensors that say where in a file their elements lie, one after the other."""
    found = []
    offset = 0
    for name, array in arrays.items():
        tensor = onnx.TensorProto(
            name=name,
            dims=array.shape,
            data_type=element_type(array.dtype),
            data_location=onnx.TensorProto.EXTERNAL,
        )
        for key, value in (("location", location), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        found.append(tensor)
        offset += array.nbytes
    return found


def _write_arrays(path: Path, arrays: Iterable[Array]) -> None:
    with path.open("wb") as file:
        for array in arrays:
            little: Array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            file.write(np.ascontiguousarray(little).data)
