"""A model as an ONNX file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lucid._extras import extra
from lucid._files import atomic_path
from lucid._files._common import PathLike
from lucid._version import __version__
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.graph import Operation, Value, items, leaves
from lucid.nn import Module
from lucid.onnx._context import Context
from lucid.onnx._emit import KEPT, SIZED, emitter_of
from lucid.onnx._emit import softmax as add_softmax
from lucid.onnx._traced import ExportError, Size, Traced, arguments, place, trace
from lucid.ops._batch_norm import BatchNormInference, scale_and_shift
from lucid.ops._conv import Conv2d

DEFAULT_OPSET = 17
OLDEST_OPSET = 11

# A file is one message, and those have at most 2 GB.
_LARGEST = 2**31 - 2**20

_Shape = tuple[int, ...]


def export(
    model: Module,
    path: PathLike,
    input_shape: Sequence[Any],
    *,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
    opset: int | None = None,
    fold_batch_norm: bool = True,
    softmax: bool = False,
    preprocessing: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Write ``model``, as it evaluates, as an ONNX file.

    Args:
        model: of lucid's layers and operations; it is left as it is.
        path: the file; it appears whole or not at all.
        input_shape: of the input, such as ``(1, 3, 224, 224)``; or a list of shapes.
        dynamic_batch: let the file take any number of images.
        dynamic_size: let the file take images of any height and width.
        opset: the version of ONNX's operators.
        fold_batch_norm: multiply batch norms into the weights of the convolutions before them.
        softmax: end with a softmax.
        preprocessing: what images the model expects; by default what its weights say.
        classes: the names of the classes; by default what its weights say.
    """
    onnx = extra("onnx", "onnx", "export: ONNX files need onnx")
    opset = DEFAULT_OPSET if opset is None else opset
    shapes = (
        [tuple(each) for each in input_shape]
        if isinstance(input_shape[0], (tuple, list))
        else [tuple(input_shape)]
    )
    runs = _runs(model, shapes, dynamic_batch, dynamic_size)
    traced = trace(model, runs, KEPT)
    _check(traced)
    if fold_batch_norm:
        traced.operations = _folded(traced)
    context = Context(traced, opset)
    symbols = _symbols(runs, dynamic_batch, dynamic_size)
    graph_inputs = _inputs(onnx, traced, context, symbols)
    for operation in traced.operations:
        context.operation = operation
        emitter = emitter_of(operation)
        assert emitter is not None
        made = emitter(context, *operation.args)
        for value, name in zip(operation.outputs, made if isinstance(made, tuple) else (made,)):
            context.define(value, name)
    context.operation = None
    graph_outputs = _outputs(onnx, traced, context, symbols, softmax)
    proto = _proto(
        onnx, context, graph_inputs, graph_outputs, _metadata(model, shapes, preprocessing, classes)
    )
    content = proto.SerializeToString()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _runs(
    model: Module, shapes: list[_Shape], dynamic_batch: bool, dynamic_size: bool
) -> list[list[np.ndarray]]:
    """Return the inputs of the runs; each but the first differs from it in one thing only."""
    dtype = next((each.dtype for each in model.parameters()), np.dtype(np.float32))
    rng = np.random.default_rng(0)

    def inputs(**other: int) -> list[np.ndarray]:
        sizes = []
        for shape in shapes:
            size = list(shape)
            if dynamic_batch:
                size[0] = 2
            for axis, factor in ((0, other.get("batch", 0)),):
                size[axis] += factor
            if len(shape) == 4:
                size[2] *= other.get("height", 1)
                size[3] *= other.get("width", 1)
            sizes.append(size)
        return [rng.standard_normal(size).astype(dtype) for size in sizes]

    runs = [inputs()]
    runs.append(inputs(batch=1) if dynamic_batch else inputs())
    if dynamic_size:
        runs += [inputs(height=2), inputs(width=2)]
    return runs


def _symbols(
    runs: list[list[np.ndarray]], dynamic_batch: bool, dynamic_size: bool
) -> dict[tuple[int, ...], str]:
    """Return names of sizes."""
    symbols: dict[tuple[int, ...], str] = {}
    for arrays in zip(*runs):
        sizes = list(zip(*[array.shape for array in arrays]))
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            if axis < len(sizes) and len(set(sizes[axis])) > 1:
                symbols.setdefault(sizes[axis], name)
    return symbols


def _check(traced: Traced) -> None:
    """Raise ExportError if there is an operation that no file can say."""
    for operation in traced.operations:
        if emitter_of(operation) is None:
            raise ExportError(
                f"export: {place(operation.module)} {operation.name} cannot be exported"
            )
        if operation.kind not in SIZED and any(
            isinstance(leaf, Size) for leaf in leaves(operation.args)
        ):
            raise ExportError(
                f"export: {place(operation.module)} {operation.name} depends on the input's size"
            )


def _folded(traced: Traced) -> list[Operation]:
    """Return the operations with each batch norm in the convolution before it, if it can be."""
    uses = Counter(leaves([arguments(traced.operations), traced.result], Value))
    makers: dict[Value, int] = {}
    operations: list[Operation] = []
    for operation in traced.operations:
        made = makers.get(operation.args[0]) if operation.kind is BatchNormInference else None
        if made is not None and uses[operation.args[0]] == 1:
            convolution = operations[made]
            _, scale, shift, mean, variance, eps = operation.args
            x, weight, bias, conv = convolution.args
            if all(
                each is None or isinstance(each, Tensor) for each in (weight, bias, scale, shift)
            ):
                factors, summands = scale_and_shift(
                    scale, shift, mean, variance, eps, np.dtype(np.float64)
                )
                name = traced.names.get(id(weight.data), "")
                kernel = weight.data * factors.reshape(-1, 1, 1, 1)
                if bias is not None:
                    summands = summands + bias.data * factors
                new = [wrap(each.astype(weight.dtype)) for each in (kernel, summands)]
                if name:
                    traced.names[id(new[0].data)] = name
                    traced.names[id(new[1].data)] = name.rpartition("weight")[0] + "bias"
                operations[made] = replace(
                    convolution, args=[x, *new, conv], outputs=operation.outputs
                )
                continue
        if operation.kind is Conv2d:
            makers[operation.outputs[0]] = len(operations)
        operations.append(operation)
    return operations


def _inputs(onnx: Any, traced: Traced, context: Context, symbols: Any) -> list[Any]:
    infos = []
    for number, value in enumerate(traced.inputs):
        name = context.unique("image" if number == 0 else f"input_{number}")
        context.define(value, name)
        infos.append(_info(onnx, name, traced, value, symbols))
    return infos


def _info(onnx: Any, name: str, traced: Traced, value: Value, symbols: Any) -> Any:
    dims = [
        symbols.get(size.runs) if isinstance(size, Size) else size for size in traced.shape(value)
    ]
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, dims)


def _outputs(onnx: Any, traced: Traced, context: Context, symbols: Any, softmax: bool) -> list[Any]:
    infos = []
    found = list(items(traced.result))
    for key, value in found:
        if not isinstance(value, Value):
            raise ExportError("export: the model returns something that is no computed tensor")
        name = ("probabilities" if softmax else "logits") if len(found) == 1 else f"output.{key}"
        source = context.names[value]
        if softmax:
            source = add_softmax(context, source, value.ndim, value.ndim - 1)
        name = context.unique(name)
        context.nodes.append(("Identity", [source], [name], name, {}))
        infos.append(_info(onnx, name, traced, value, symbols))
    return infos


def _metadata(model: Module, shapes: Any, preprocessing: Any, classes: Any) -> dict[str, Any]:
    known = dict(getattr(model, "pretrained_cfg", None) or {})
    given = known if preprocessing is None else dict(preprocessing)
    names = known.get("classes") if classes is None else list(classes)
    found = {
        "lucid.model": getattr(model, "name", None),
        "lucid.size": list(shapes[0][2:]) if len(shapes[0]) == 4 else None,
        **{f"lucid.{key}": given.get(key) for key in ("crop_pct", "interpolation", "mean", "std")},
        "lucid.classes": names,
    }
    return {key: value for key, value in found.items() if value is not None}


def _proto(onnx: Any, context: Context, inputs: Any, outputs: Any, metadata: dict[str, Any]) -> Any:
    helper = onnx.helper
    graph = helper.make_graph(
        [
            helper.make_node(kind, given, made, name, **attributes)
            for kind, given, made, name, attributes in context.nodes
        ],
        "lucid",
        inputs,
        outputs,
        [
            onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
            for name, array in context.constants.items()
        ],
    )
    versions = [helper.make_opsetid("", context.opset)]
    proto = helper.make_model(
        graph,
        opset_imports=versions,
        ir_version=helper.find_min_ir_version_for(versions),
        producer_name="lucid",
        producer_version=__version__,
    )
    helper.set_model_props(proto, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    return proto
