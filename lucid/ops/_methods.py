"""The methods of Tensor: which function of lucid.ops each name stands for.

Most are the public functions of the modules, under their own names. Their signatures are declared
in the class, for type checkers; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lucid._check import named
from lucid.autograd import Tensor
from lucid.ops import _activation as activation
from lucid.ops import _attributes as attributes
from lucid.ops import _convert as convert
from lucid.ops import _create as create
from lucid.ops import _diagonal as diagonal
from lucid.ops import _elementwise as elementwise
from lucid.ops import _gather as gather
from lucid.ops import _index as index
from lucid.ops import _inplace as inplace
from lucid.ops import _join as join
from lucid.ops import _linalg as linalg
from lucid.ops import _matmul as matmul
from lucid.ops import _numpy as numpy_functions
from lucid.ops import _random as random
from lucid.ops import _reduce as reduce
from lucid.ops import _scan as scan
from lucid.ops import _scatter as scatter
from lucid.ops import _search as search
from lucid.ops import _shape as shape
from lucid.ops import _statistics as statistics


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
    return iter(join.unbind(x))


def _contains(x: Tensor, value: Any) -> bool:
    """Return whether an element equals ``value``."""
    return bool(elementwise.eq(x, value).data.any())


_CHANGING = {
    "add": elementwise.add,
    "sub": elementwise.sub,
    "mul": elementwise.mul,
    "truediv": elementwise.div,
    "floordiv": elementwise.floor_divide,
    "mod": elementwise.remainder,
    "pow": elementwise.pow,
    "and": elementwise.bitwise_and,
    "or": elementwise.bitwise_or,
    "xor": elementwise.bitwise_xor,
    "lshift": elementwise.bitwise_left_shift,
    "rshift": elementwise.bitwise_right_shift,
}
_BINARY = {**_CHANGING, "matmul": matmul.matmul}
_COMPARISONS = {
    "eq": elementwise.eq,
    "ne": elementwise.ne,
    "lt": elementwise.lt,
    "le": elementwise.le,
    "gt": elementwise.gt,
    "ge": elementwise.ge,
}

OPERATORS: dict[str, Callable[..., Any]] = {
    **{f"__{name}__": _numeric(function) for name, function in _BINARY.items()},
    **{f"__r{name}__": _reflected(function) for name, function in _BINARY.items()},
    **{
        f"__i{name}__": _numeric(inplace.in_place(function)) for name, function in _CHANGING.items()
    },
    **{f"__{name}__": _numeric(function) for name, function in _COMPARISONS.items()},
    "__neg__": elementwise.neg,
    "__pos__": elementwise.positive,
    "__abs__": elementwise.abs,
    "__invert__": elementwise.bitwise_not,
    "__getitem__": index.getitem,
    "__setitem__": index.setitem,
    "__iter__": _iterate,
    "__contains__": _contains,
    "__array_ufunc__": numpy_functions.array_ufunc,
    "__array_function__": numpy_functions.array_function,
}

# Public functions of the modules below that are no methods: their first argument is no tensor.
_NO_METHODS = {"cat", "einsum", "pad", "stack", "tensordot", "where"}
_NO_METHODS |= {"polygamma", "bucketize", "isin", "searchsorted"}
_NO_METHODS |= {"atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "broadcast_shapes"}
_NO_METHODS |= {"broadcast_tensors", "column_stack", "concat"}
_NO_METHODS |= {"concatenate", "dstack", "hstack", "meshgrid", "row_stack", "vstack"}
_NO_METHODS |= {"std_mean", "var_mean"}


def polygamma(input: Any, n: int) -> Tensor:
    """Return the derivative of order ``n`` of ``digamma``: see :func:`lucid.polygamma`."""
    return elementwise.polygamma(n, input)


_MODULES = [
    attributes, elementwise, shape, join, diagonal, index, gather, scatter, reduce, scan,
    search, statistics, matmul, linalg,
]  # fmt: skip

METHODS: dict[str, Callable[..., Any]] = {
    name: getattr(module, name)
    for module in _MODULES
    for name in module.__all__
    if name not in _NO_METHODS
}
METHODS |= inplace.METHODS
METHODS |= {
    "polygamma": polygamma,
    "relu": activation.relu,
    "softmax": activation.softmax,
    "log_softmax": activation.log_softmax,
    "view": shape.reshape,
    "view_as": shape.view_as,
    "reshape_as": shape.view_as,
    "size": shape.size,
    "sum_to_size": shape.sum_to_size,
    "unfold": shape.unfold,
    "to": convert.to,
    "cpu": convert.cpu,
    "type": elementwise.astype,
    "type_as": convert.type_as,
    **convert.NAMED,
    **{f"new_{function.__name__}": create.like(function) for function in create.SHAPED},
    "new_full": create.new_full,
    "new_tensor": create.new_tensor,
    "nelement": shape.numel,
    "ndimension": attributes.METHODS["dim"],
    **attributes.METHODS,
    **{function.__name__: function for function in random.METHODS},
    "bernoulli": random.bernoulli,
    "multinomial": random.multinomial,
}

PROPERTIES: dict[str, Callable[[Tensor], Any]] = {
    **attributes.PROPERTIES,
    "H": shape.hermitian_transpose,
    "T": shape.reverse_axes,
    "mH": shape.adjoint,
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
