"""The methods of Tensor: which function of lucid.ops each name stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lucid._check import named
from lucid.autograd import Tensor
from lucid.ops import _activation as activation
from lucid.ops import _elementwise as elementwise
from lucid.ops import _index as index
from lucid.ops import _inplace as inplace
from lucid.ops import _matmul as matmul
from lucid.ops import _reduce as reduce
from lucid.ops import _shape as shape


def _numeric(function: Callable[[Any, Any], Any]) -> Callable[[Tensor, Any], Any]:
    """Return an operator that leaves operands which are no numbers to their own class."""

    def operator(x: Tensor, other: Any) -> Any:
        if isinstance(other, (Tensor, int, float, np.ndarray, np.generic, list, tuple)):
            return function(x, other)
        if hasattr(other, "__array__") or hasattr(other, "__dlpack__"):
            return function(x, other)
        return NotImplemented

    operator.__name__ = function.__name__
    operator.__doc__ = function.__doc__
    return operator


def _reflected(function: Callable[[Any, Any], Any]) -> Callable[[Tensor, Any], Any]:
    def swapped(x: Tensor, other: Any) -> Any:
        return function(other, x)

    return _numeric(swapped)


def _iterate(x: Tensor) -> Iterator[Tensor]:
    """Go through the first axis."""
    if x.ndim == 0:
        raise TypeError("a tensor with zero axes cannot be iterated over; use item()")
    return iter(shape.unbind(x))


def _contains(x: Tensor, value: Any) -> bool:
    """Return whether an element equals ``value``."""
    return bool(elementwise.eq(x, value).data.any())


def to(x: Tensor, dtype: Any) -> Tensor:
    """Return ``x`` converted to a dtype, or to that of another tensor."""
    return elementwise.astype(x, dtype.dtype if isinstance(dtype, Tensor) else dtype)


def type_as(x: Tensor, other: Tensor) -> Tensor:
    """Return ``x`` converted to the dtype of ``other``."""
    return elementwise.astype(x, other.dtype)


def _convert(name: str, dtype: Any) -> Callable[[Tensor], Tensor]:
    def method(x: Tensor) -> Tensor:
        return elementwise.astype(x, dtype)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"Return the tensor converted to {np.dtype(dtype)}."
    return method


OPERATORS: dict[str, Callable[..., Any]] = {
    "__add__": _numeric(elementwise.add),
    "__radd__": _reflected(elementwise.add),
    "__iadd__": _numeric(inplace.add_),
    "__sub__": _numeric(elementwise.sub),
    "__rsub__": _reflected(elementwise.sub),
    "__isub__": _numeric(inplace.sub_),
    "__mul__": _numeric(elementwise.mul),
    "__rmul__": _reflected(elementwise.mul),
    "__imul__": _numeric(inplace.mul_),
    "__truediv__": _numeric(elementwise.div),
    "__rtruediv__": _reflected(elementwise.div),
    "__itruediv__": _numeric(inplace.div_),
    "__floordiv__": _numeric(elementwise.floor_divide),
    "__rfloordiv__": _reflected(elementwise.floor_divide),
    "__ifloordiv__": _numeric(inplace.floor_divide_),
    "__mod__": _numeric(elementwise.remainder),
    "__rmod__": _reflected(elementwise.remainder),
    "__imod__": _numeric(inplace.remainder_),
    "__pow__": _numeric(elementwise.pow),
    "__rpow__": _reflected(elementwise.pow),
    "__ipow__": _numeric(inplace.pow_),
    "__matmul__": _numeric(matmul.matmul),
    "__rmatmul__": _reflected(matmul.matmul),
    "__neg__": elementwise.neg,
    "__pos__": elementwise.positive,
    "__abs__": elementwise.abs,
    "__invert__": elementwise.bitwise_not,
    "__and__": _numeric(elementwise.bitwise_and),
    "__rand__": _reflected(elementwise.bitwise_and),
    "__or__": _numeric(elementwise.bitwise_or),
    "__ror__": _reflected(elementwise.bitwise_or),
    "__xor__": _numeric(elementwise.bitwise_xor),
    "__rxor__": _reflected(elementwise.bitwise_xor),
    "__eq__": _numeric(elementwise.eq),
    "__ne__": _numeric(elementwise.ne),
    "__lt__": _numeric(elementwise.lt),
    "__le__": _numeric(elementwise.le),
    "__gt__": _numeric(elementwise.gt),
    "__ge__": _numeric(elementwise.ge),
    "__getitem__": index.getitem,
    "__setitem__": index.setitem,
    "__iter__": _iterate,
    "__contains__": _contains,
}

METHODS: dict[str, Callable[..., Any]] = {
    # element by element
    "add": elementwise.add,
    "sub": elementwise.sub,
    "mul": elementwise.mul,
    "div": elementwise.div,
    "floor_divide": elementwise.floor_divide,
    "remainder": elementwise.remainder,
    "neg": elementwise.neg,
    "abs": elementwise.abs,
    "pow": elementwise.pow,
    "sqrt": elementwise.sqrt,
    "rsqrt": elementwise.rsqrt,
    "square": elementwise.square,
    "reciprocal": elementwise.reciprocal,
    "exp": elementwise.exp,
    "expm1": elementwise.expm1,
    "log": elementwise.log,
    "log1p": elementwise.log1p,
    "sigmoid": elementwise.sigmoid,
    "erf": elementwise.erf,
    "relu": activation.relu,
    "sin": elementwise.sin,
    "cos": elementwise.cos,
    "tan": elementwise.tan,
    "tanh": elementwise.tanh,
    "sign": elementwise.sign,
    "floor": elementwise.floor,
    "ceil": elementwise.ceil,
    "round": elementwise.round,
    "eq": elementwise.eq,
    "ne": elementwise.ne,
    "lt": elementwise.lt,
    "le": elementwise.le,
    "gt": elementwise.gt,
    "ge": elementwise.ge,
    "logical_not": elementwise.logical_not,
    "logical_and": elementwise.logical_and,
    "logical_or": elementwise.logical_or,
    "logical_xor": elementwise.logical_xor,
    "isnan": elementwise.isnan,
    "isinf": elementwise.isinf,
    "isfinite": elementwise.isfinite,
    "isclose": elementwise.isclose,
    "allclose": elementwise.allclose,
    "equal": elementwise.equal,
    "masked_fill": elementwise.masked_fill,
    "maximum": elementwise.maximum,
    "minimum": elementwise.minimum,
    "clamp": elementwise.clamp,
    # in place
    "add_": inplace.add_,
    "sub_": inplace.sub_,
    "mul_": inplace.mul_,
    "div_": inplace.div_,
    "pow_": inplace.pow_,
    "clamp_": inplace.clamp_,
    "copy_": inplace.copy_,
    "fill_": inplace.fill_,
    "zero_": inplace.zero_,
    # shape
    "reshape": shape.reshape,
    "view": shape.reshape,
    "view_as": shape.view_as,
    "reshape_as": shape.view_as,
    "flatten": shape.flatten,
    "unflatten": shape.unflatten,
    "permute": shape.permute,
    "transpose": shape.transpose,
    "swapaxes": shape.transpose,
    "t": shape.t,
    "movedim": shape.movedim,
    "squeeze": shape.squeeze,
    "unsqueeze": shape.unsqueeze,
    "expand": shape.expand,
    "expand_as": shape.expand_as,
    "broadcast_to": shape.broadcast_to,
    "clone": shape.clone,
    "contiguous": shape.contiguous,
    "flip": shape.flip,
    "roll": shape.roll,
    "tile": shape.tile,
    "repeat": shape.repeat,
    "split": shape.split,
    "chunk": shape.chunk,
    "unbind": shape.unbind,
    "numel": shape.numel,
    "size": shape.size,
    # by index
    "index_select": index.index_select,
    "gather": index.gather,
    "take_along_dim": index.take_along_dim,
    "scatter": index.scatter,
    "scatter_add": index.scatter_add,
    "tril": index.tril,
    "triu": index.triu,
    # reductions
    "sum": reduce.sum,
    "mean": reduce.mean,
    "var": reduce.var,
    "std": reduce.std,
    "norm": reduce.norm,
    "prod": reduce.prod,
    "cumsum": reduce.cumsum,
    "amax": reduce.amax,
    "amin": reduce.amin,
    "max": reduce.max,
    "min": reduce.min,
    "argmax": reduce.argmax,
    "argmin": reduce.argmin,
    "all": reduce.all,
    "any": reduce.any,
    "count_nonzero": reduce.count_nonzero,
    "logsumexp": reduce.logsumexp,
    "softmax": activation.softmax,
    "log_softmax": activation.log_softmax,
    "sort": reduce.sort,
    "argsort": reduce.argsort,
    "topk": reduce.topk,
    # matrices
    "matmul": matmul.matmul,
    "mm": matmul.mm,
    "bmm": matmul.bmm,
    "dot": matmul.dot,
    "outer": matmul.outer,
    # dtype
    "astype": elementwise.astype,
    "to": to,
    "type": elementwise.astype,
    "type_as": type_as,
    "half": _convert("half", np.float16),
    "float": _convert("float", np.float32),
    "double": _convert("double", np.float64),
    "int": _convert("int", np.int32),
    "long": _convert("long", np.int64),
    "bool": _convert("bool", np.bool_),
}

PROPERTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "T": shape.reverse_axes,
    "mT": shape.matrix_transpose,
}


def attach() -> None:
    """Make the functions methods of Tensor."""
    for name, function in OPERATORS.items():
        setattr(Tensor, name, function)
    for name, function in METHODS.items():
        setattr(Tensor, name, named(function))
    for name, function in PROPERTIES.items():
        setattr(Tensor, name, property(function))


attach()
