"""NumPy's functions of tensors: those that lucid has are its operations, so gradients are kept.

- A universal function, such as ``np.exp(x)``, ``np.add(a, x)`` and so ``a + x``, gives a tensor.
- Another function that lucid has, such as ``np.concatenate``, gives a tensor too.
- All others give what they give for arrays.

What is no operation of lucid, or is called with arguments that the operation does not have, is
computed on arrays. It would lose the gradient, so tensors that require grad are refused there.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from lucid.autograd import Tensor
from lucid.autograd._tensor import check_writeable, mark_changed, wrap
from lucid.ops import _create as create
from lucid.ops import _elementwise as elementwise
from lucid.ops import _index as index
from lucid.ops import _join as join
from lucid.ops import _matmul as matmul
from lucid.ops import _reduce as reduce
from lucid.ops import _scan as scan
from lucid.ops import _search as search
from lucid.ops import _shape as shapes

UFUNCS: dict[np.ufunc, Callable[..., Any]] = {
    np.absolute: elementwise.abs,
    np.add: elementwise.add,
    np.bitwise_and: elementwise.bitwise_and,
    np.bitwise_or: elementwise.bitwise_or,
    np.bitwise_xor: elementwise.bitwise_xor,
    np.divide: elementwise.div,
    np.equal: elementwise.eq,
    np.greater: elementwise.gt,
    np.greater_equal: elementwise.ge,
    np.invert: elementwise.bitwise_not,
    np.less: elementwise.lt,
    np.less_equal: elementwise.le,
    np.matmul: matmul.matmul,
    np.multiply: elementwise.mul,
    np.negative: elementwise.neg,
    np.not_equal: elementwise.ne,
    np.positive: elementwise.positive,
    np.power: elementwise.pow,
    np.rint: elementwise.round,
    np.subtract: elementwise.sub,
    **{
        getattr(np, name): getattr(elementwise, name)
        for name in (
            "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "ceil",
            "copysign", "cos", "cosh", "deg2rad", "exp", "exp2", "expm1", "floor",
            "floor_divide", "fmax", "fmin", "hypot", "isfinite",
            "isinf", "isnan", "log", "log10", "log1p", "log2", "logaddexp", "logaddexp2",
            "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum",
            "rad2deg", "reciprocal", "remainder", "sign", "signbit", "sin", "sinh",
            "sqrt", "square", "tan", "tanh", "trunc",
        )
    },
}  # fmt: skip


# -- functions, with NumPy's names of those arguments that lucid's operation has ------------------


def _reduction(operation: Any) -> Any:
    return lambda a, axis=None, *, keepdims=False: operation(a, axis, keepdims)


def _total(operation: Any) -> Any:
    return lambda a, axis=None, dtype=None, *, keepdims=False: operation(a, axis, keepdims, dtype)


def _spread(operation: Any) -> Any:
    return lambda a, axis=None, *, ddof=0, keepdims=False: operation(
        a, axis, keepdim=keepdims, correction=ddof
    )


def _cumsum(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    return scan.cumsum(shapes.flatten(a) if axis is None else a, axis or 0, dtype)


def _concatenate(arrays: Any, axis: Any = 0) -> Any:
    return join.cat([shapes.flatten(a) for a in arrays] if axis is None else arrays, axis or 0)


def _transpose(a: Any, axes: Any = None) -> Any:
    return shapes.reverse_axes(a) if axes is None else shapes.permute(a, *axes)


def _flip(m: Any, axis: Any = None) -> Any:
    return shapes.flip(m, dims=tuple(range(np.ndim(m))) if axis is None else axis)


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    lowest, highest = (min if a_min is None else a_min), (max if a_max is None else a_max)
    return elementwise.clamp(a, lowest, highest)


def _dot(a: Any, b: Any) -> Any:
    if 0 in (np.ndim(a), np.ndim(b)):
        return elementwise.mul(a, b)
    return matmul.matmul(a, b) if np.ndim(b) <= 2 else NotImplemented


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord is not None and not (isinstance(axis, int) or np.ndim(x) == 1):
        return NotImplemented  # a norm of matrices
    return reduce.norm(x, ord, axis, keepdims)


def _by_number(operation: Any) -> Any:
    """An operation along one axis that is a number."""
    return lambda a, axis=-1: NotImplemented if axis is None else operation(a, axis)


def _rounded(a: Any, decimals: int = 0) -> Any:
    return elementwise.round(a) if decimals == 0 else NotImplemented


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.all: _reduction(reduce.all),
    np.amax: _reduction(reduce.amax),
    np.amin: _reduction(reduce.amin),
    np.any: _reduction(reduce.any),
    np.argmax: _reduction(reduce.argmax),
    np.argmin: _reduction(reduce.argmin),
    np.argsort: _by_number(search.argsort),
    np.around: _rounded,
    np.broadcast_to: lambda array, shape: shapes.expand(array, shape),
    np.clip: _clip,
    np.concatenate: _concatenate,
    np.copy: lambda a: shapes.clone(a),
    np.cumsum: _cumsum,
    np.dot: _dot,
    np.einsum: lambda equation, *operands: matmul.einsum(equation, *operands),
    np.empty_like: lambda prototype, dtype=None: create.empty_like(prototype, dtype),
    np.expand_dims: _by_number(shapes.unsqueeze),
    np.flip: _flip,
    np.full_like: lambda a, fill_value, dtype=None: create.full_like(a, fill_value, dtype),
    np.isclose: elementwise.isclose,
    np.linalg.norm: _norm,
    np.max: _reduction(reduce.amax),
    np.mean: _total(reduce.mean),
    np.min: _reduction(reduce.amin),
    np.moveaxis: shapes.movedim,
    np.ones_like: lambda a, dtype=None: create.ones_like(a, dtype),
    np.outer: lambda a, b: matmul.outer(shapes.flatten(a), shapes.flatten(b)),
    np.prod: _total(reduce.prod),
    np.ravel: lambda a: shapes.flatten(a),
    np.reshape: lambda a, shape: shapes.reshape(a, shape),
    np.roll: lambda a, shift, axis=None: shapes.roll(a, shift, axis),
    np.round: _rounded,
    np.sort: _by_number(lambda a, axis: search.sort(a, axis).values),
    np.squeeze: lambda a: shapes.squeeze(a),
    np.stack: lambda arrays, axis=0: join.stack(arrays, axis),
    np.std: _spread(reduce.std),
    np.sum: _total(reduce.sum),
    np.swapaxes: shapes.transpose,
    np.tile: lambda A, reps: shapes.tile(A, reps),
    np.transpose: _transpose,
    np.tril: lambda m, k=0: index.tril(m, k),
    np.triu: lambda m, k=0: index.triu(m, k),
    np.var: _spread(reduce.var),
    np.where: lambda condition, x, y: elementwise.where(condition, x, y),
    np.zeros_like: lambda a, dtype=None: create.zeros_like(a, dtype),
}

# Results of these have no gradient, so they may be asked of tensors that require grad.
_WITHOUT_GRADIENT = {
    np.allclose, np.argwhere, np.array_equal, np.array_equiv, np.can_cast, np.count_nonzero,
    np.flatnonzero, np.iscomplexobj, np.isrealobj, np.may_share_memory, np.ndim, np.nonzero,
    np.result_type, np.shape, np.shares_memory, np.size,
}  # fmt: skip

# These write into their first argument.
_IN_PLACE = {np.copyto, np.fill_diagonal, np.place, np.put, np.put_along_axis, np.putmask}


_signature = functools.cache(inspect.signature)


def _operation(operation: Callable[..., Any] | None, args: Any, kwargs: Any) -> Any:
    """Return what lucid's operation makes of them; NotImplemented if it has no such arguments."""
    if operation is None:
        return NotImplemented
    try:
        _signature(operation).bind(*args, **kwargs)
    except TypeError:
        return NotImplemented
    return operation(*args, **kwargs)


def _arrays(value: Any, name: str, *, lost: bool = True) -> Any:
    """Return a value, or what is within it, with arrays in the place of tensors.

    Raises:
        RuntimeError: if a gradient would be lost.
    """
    if isinstance(value, Tensor):
        if lost and value.requires_grad:
            raise RuntimeError(
                f"{name} would be computed by NumPy, which loses the gradient of a tensor of shape "
                f"{value.shape}: use an operation of lucid, or call .detach() first"
            )
        return value.data
    if isinstance(value, (list, tuple)):
        parts = [_arrays(part, name, lost=lost) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    if isinstance(value, dict):
        return {key: _arrays(part, name, lost=lost) for key, part in value.items()}
    return value


def _call(function: Any, name: str, args: Any, kwargs: Any, changed: Any, lost: bool) -> Any:
    """Return what NumPy makes of the arrays; tensors that it writes into know it."""
    written = [tensor for tensor in changed if isinstance(tensor, Tensor)]
    for tensor in written:
        check_writeable(tensor)
    result = function(*_arrays(args, name, lost=lost), **_arrays(kwargs, name, lost=lost))
    for tensor in written:
        mark_changed(tensor)
        if result is tensor.data:
            return tensor
    return result


def array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """Compute a universal function of tensors: see this module."""
    if method == "__call__" and not kwargs and ufunc in UFUNCS:
        return UFUNCS[ufunc](*inputs)
    out = kwargs.get("out") or ()
    name = f"numpy.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
    changed = inputs[:1] if method == "at" else out
    result = _call(getattr(ufunc, method), name, inputs, kwargs, changed, True)
    if out or result is None:
        return result
    return tuple(map(wrap, result)) if isinstance(result, tuple) else wrap(result)


def array_function(self: Tensor, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """Compute another of NumPy's functions of tensors: see this module."""
    result = _operation(FUNCTIONS.get(function), args, kwargs)
    if result is not NotImplemented:
        return result
    name = f"{function.__module__}.{function.__name__}"
    changed = args[:1] if function in _IN_PLACE else (kwargs.get("out"),)
    return _call(function, name, args, kwargs, changed, function not in _WITHOUT_GRADIENT)
