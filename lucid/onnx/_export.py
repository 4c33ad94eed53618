"""A model as an ONNX file."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lucid._check import is_integer, is_list, short
from lucid._extras import extra
from lucid._files._common import PathLike, as_path, check_target
from lucid.autograd import Tensor
from lucid.graph import Value, items
from lucid.models._checkpoints import DEFAULT, check_settings
from lucid.nn import Module
from lucid.onnx._context import Context, element_type
from lucid.onnx._emit import KEPT, check_emitted, emit, softmax_of
from lucid.onnx._fold import fold_batch_norms
from lucid.onnx._traced import Array, ExportError, Size, Traced, trace
from lucid.onnx._write import write

DEFAULT_OPSET = 17
OLDEST_OPSET = 11

_AXES = {"batch": 0, "height": 2, "width": 3}


class _Input(NamedTuple):
    """What the model is run on: a shape, or an array as an example."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    example: Array | None

    def of(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Return an array of ``shape``: random numbers, or the example, repeated."""
        if self.example is None:
            return rng.standard_normal(shape).astype(self.dtype)
        array = self.example
        for axis, size in enumerate(shape):
            array = array.take(np.arange(size) % array.shape[axis], axis)
        return array


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

    The model runs on inputs of a few sizes, and its operations become the nodes of the file. A
    node has the path of its module in its name; a weight has its name in ``state_dict()``. The
    input is called ``image`` and the output ``logits``, or ``probabilities`` after a softmax;
    several inputs are called as the parameters of ``forward``, several outputs by their places or
    keys. Weights, bounds and so on are constants, of the values they have now.

    Args:
        model: any module whose ``forward`` is made of lucid's operations. It is left as it is, and
            may be in training mode.
        path: the file. It appears whole or not at all, and only if ONNX's checks hold. Weights of
            more than 2 GB, the most that such a file has, go into one beside it: ``path.data``.
        input_shape: the input's shape, such as ``(1, 3, 224, 224)``. For several inputs a list:
            each a shape, or an array or tensor as an example, whose dtype then counts too.
        dynamic_batch: let the file take any number of images; the batch in ``input_shape`` does
            not count then.
        dynamic_size: let the file take images of any height and width.
        opset: the version of ONNX's operators, from 11 to the newest that the installed ``onnx``
            knows; by default 17. An operation that needs a later one says so.
        fold_batch_norm: multiply batch norms into the convolutions and linear layers before them.
        softmax: end with a softmax over the last axis.
        preprocessing: what images the model expects, for the file's metadata: ``mean``, ``std``,
            ``crop_pct`` and ``interpolation``, as in ``pretrained_cfg``; by default what that says.
        classes: the names of the classes, for the metadata; by default those of ``pretrained_cfg``.

    Raises:
        ExportError: a ValueError: if the model does something that the file could not say. The
            message names the operation and its module; nothing is written.
        ValueError: if an argument cannot be.
        ImportError: if ``onnx`` is not installed.

    Example:
        >>> model = models.create_model("mobilenetv4_conv_small_035", num_classes=10)
        >>> lucid.onnx.export(model, "small.onnx", (1, 3, 64, 64), softmax=True)
        >>> import onnx
        >>> file = onnx.load("small.onnx")
        >>> [each.name for each in (*file.graph.input, *file.graph.output)]
        ['image', 'probabilities']
        >>> file.graph.node[0].name, file.graph.node[0].input[1]
        ('conv0.convbn_0.conv/Conv', 'conv0.convbn_0.conv.weight')
    """
    onnx = extra("onnx", "onnx", "export: ONNX files need onnx")
    if not isinstance(model, Module):
        raise TypeError(f"export: expected a Module, got {type(model).__name__}")
    path = as_path(path, "export(model, path, input_shape)")
    check_target(Path(os.path.realpath(path)), "export")
    version = _opset(onnx, opset)
    inputs = _inputs(model, input_shape)
    runs = _runs(inputs, dynamic_batch, dynamic_size)
    traced = trace(model, runs, KEPT)
    check_emitted(traced)
    known = _metadata(model, inputs[0], traced, preprocessing, classes)
    if fold_batch_norm:
        fold_batch_norms(traced)
    context = Context(traced, version)
    symbols = _symbols(runs)
    names = [context.unique(name) for name in _input_names(model, inputs)]
    for name, value in zip(names, traced.inputs):
        context.define(value, name)
    # The outputs' names are taken before a module's node could have one of them.
    results = _results(context, traced, softmax)
    for operation in traced.operations:
        emit(context, operation)
    context.operation = None
    for name, value in results.items():
        made = context.names[value]
        if softmax:
            made = softmax_of(context, made, value.ndim, value.ndim - 1)
        context.rename(made, name)
    write(
        onnx,
        path,
        context,
        [_info(onnx, name, value, traced, symbols) for name, value in zip(names, traced.inputs)],
        [_info(onnx, name, value, traced, symbols) for name, value in results.items()],
        known,
    )


# -- arguments --------------------------------------------------------------------------------


def _opset(onnx: Any, opset: int | None) -> int:
    newest = onnx.defs.onnx_opset_version()
    if opset is None:
        return DEFAULT_OPSET
    if not is_integer(opset, OLDEST_OPSET, newest):
        raise ValueError(
            f"export: expected an opset from {OLDEST_OPSET} to {newest}, the newest of "
            f"onnx {onnx.__version__}, got {opset!r}"
        )
    return opset


def _inputs(model: Module, given: Any) -> list[_Input]:
    """Return what ``input_shape`` says of each input."""
    dtype = next((each.dtype for each in model.parameters()), np.dtype(np.float32))
    several = isinstance(given, list) and not all(is_integer(each) for each in given)
    inputs = []
    for each in given if several else [given]:
        if isinstance(each, (Tensor, np.ndarray)):
            array = each.data if isinstance(each, Tensor) else each
            inputs.append(_Input(array.shape, array.dtype, array))
        elif isinstance(each, (tuple, list)) and each and all(is_integer(n, 1) for n in each):
            inputs.append(_Input(tuple(each), dtype, None))
        else:
            raise ValueError(
                "export: expected an input_shape of positive integers such as (1, 3, 224, 224), or "
                f"a list of shapes and arrays, got {short(each)}"
            )
    return inputs


def _runs(inputs: list[_Input], dynamic_batch: bool, dynamic_size: bool) -> list[list[Array]]:
    """Return the inputs of the runs: all sizes as they are, and each dynamic one in another way.

    A batch of 1 would hide what repeats, so it is 2 and 3. The last run's sizes are no multiples
    of a stride, which tells a window over the end of an image.
    """
    changes: list[dict[str, Any]] = [{}, {}]
    if dynamic_batch:
        changes[1] = {"batch": lambda size: 3}
    if dynamic_size:
        for each in inputs:
            if len(each.shape) != 4:
                raise ValueError(
                    "export: dynamic_size needs inputs of shape (N, C, H, W), got an input of "
                    f"shape {each.shape}"
                )
        changes += [{"height": lambda size: 2 * size}, {"width": lambda size: 2 * size}]
        changes += [{"height": lambda size: size + 1, "width": lambda size: size + 3}]
    rng = np.random.default_rng(0)
    runs = []
    for change in changes:
        arrays = []
        for each in inputs:
            shape = list(each.shape)
            if dynamic_batch and shape:
                shape[0] = 2
            for name, new in change.items():
                if _AXES[name] < len(shape):
                    shape[_AXES[name]] = new(shape[_AXES[name]])
            arrays.append(each.of(tuple(shape), rng))
        runs.append(arrays)
    return runs


def _symbols(runs: list[list[Array]]) -> dict[tuple[int, ...], str]:
    """Return the names of the input's sizes by what they were in each run."""
    symbols: dict[tuple[int, ...], str] = {}
    for arrays in zip(*runs):
        sizes = list(zip(*[array.shape for array in arrays]))
        for name, axis in _AXES.items():
            if axis < len(sizes) and len(set(sizes[axis])) > 1:
                symbols.setdefault(sizes[axis], name)
    return symbols


# -- metadata ---------------------------------------------------------------------------------


def _metadata(
    model: Module,
    first: _Input,
    traced: Traced,
    preprocessing: Mapping[str, Any] | None,
    classes: Sequence[str] | None,
) -> dict[str, str]:
    """Return what the file says of the images and classes: JSON by key."""
    known = dict(getattr(model, "pretrained_cfg", None) or {})
    given = known if preprocessing is None else preprocessing
    if preprocessing is not None and (unknown := sorted(set(preprocessing) - set(DEFAULT))):
        raise ValueError(
            f"export: preprocessing: expected {', '.join(sorted(DEFAULT))}, got {unknown[0]!r}"
        )
    settings = check_settings(
        {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()},
        "export: preprocessing",
    )
    names = known.get("classes") if classes is None else classes
    if names is not None:
        names = list(names)
        count = traced.result.shape[-1] if isinstance(traced.result, Value) else None
        if not is_list(names, lambda name: isinstance(name, str)) or len(names) != count:
            raise ValueError(
                f"export: expected the names of {count} classes, got {len(names)}: {short(names)}"
            )
    size = settings.pop("input_size", None)
    if len(first.shape) == 4:
        size = first.shape[1:]
    found = {
        "model": getattr(model, "name", None),
        "size": None if size is None else list(size[1:]),
        **settings,
        "classes": names,
    }
    return {
        f"lucid.{key}": json.dumps(value, ensure_ascii=False)
        for key, value in found.items()
        if value is not None
    }


# -- inputs and outputs -----------------------------------------------------------------------


def _input_names(model: Module, inputs: list[_Input]) -> list[str]:
    if len(inputs) == 1:
        return ["image"]
    names = list(inspect.signature(model.forward).parameters)
    return (names + [f"input_{number}" for number in range(len(inputs))])[: len(inputs)]


def _results(context: Context, traced: Traced, softmax: bool) -> dict[str, Value]:
    """Return the outputs by name.

    Raises:
        ExportError: if something that is returned is none.
    """
    found = list(items(traced.result))
    if softmax and len(found) != 1:
        raise ExportError(f"export: softmax needs a model of one output, got {len(found)}")
    results = {}
    for key, value in found:
        if not isinstance(value, Value):
            what = f"its output {key!r}" if key else "what it returns"
            raise ExportError(
                f"export: {what} is no tensor that depends on the input, but "
                f"{'a constant' if isinstance(value, Tensor) else short(value)}"
            )
        name = f"output_{key}" if key[:1].isdigit() else key
        name = name or ("probabilities" if softmax else "logits")
        results[context.unique(name)] = value
    return results


def _info(onnx: Any, name: str, value: Value, traced: Traced, symbols: Any) -> Any:
    dims = [
        symbols.get(size.runs) if isinstance(size, Size) else size for size in traced.shape(value)
    ]
    return onnx.helper.make_tensor_value_info(name, element_type(value.dtype), dims)
