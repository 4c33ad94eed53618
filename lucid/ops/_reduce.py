"""Reductions and running sums.

``dim`` is an axis, a tuple of axes, or None for all of them; with ``keepdim=True`` the reduced
axes stay with size 1.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from lucid import kernels
from lucid.autograd import Function, Tensor, is_grad_enabled, no_grad
from lucid.autograd._function import is_observed
from lucid.autograd._graph import Node
from lucid.autograd._tensor import Dim, ValuesIndices, wrap
from lucid.ops._common import (
    Array,
    floating,
    normalize_axes,
    normalize_axis,
    operand,
    wide,
    with_dtype,
)
from lucid.ops._elementwise import abs as absolute
from lucid.ops._elementwise import astype, exp, maximum, minimum, sign, where, widened
from lucid.ops._elementwise import pow as power
from lucid.ops._gather import values_and_indices
from lucid.ops._join import cat
from lucid.ops._shape import Expand

__all__ = [
    "all", "amax", "amin", "aminmax", "any", "argmax", "argmin", "count_nonzero", "dist",
    "logsumexp", "max", "mean", "min", "nanmean", "nansum", "norm", "prod", "std", "std_mean",
    "sum", "var", "var_mean",
]  # fmt: skip


def _axes(dim: Dim, x: Tensor, who: str) -> tuple[int, ...]:
    """Return the axes to reduce; as in PyTorch, an empty tuple means all of them too."""
    if type(dim) is int and 0 <= dim < x.data.ndim:
        return (dim,)  # the usual case
    return normalize_axes(None if isinstance(dim, (tuple, list)) and not dim else dim, x.ndim, who)


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([1 if axis in axes else size for axis, size in enumerate(shape)])


def _spread(reduced: Tensor, shape: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    """Return a reduced tensor with its reduced axes of size 1 again, to broadcast to ``shape``."""
    kept = _kept(shape, axes)
    return reduced if reduced.data.shape == kept else reduced.reshape(kept)


def _check_nonempty(x: Tensor, axes: tuple[int, ...], who: str) -> None:
    if builtins.any(x.shape[axis] == 0 for axis in axes):
        raise ValueError(f"{who}: no elements to choose from along axes {axes} of shape {x.shape}")


# -- sums ---------------------------------------------------------------------------------------


def _total(x: Array, axes: tuple[int, ...], keepdim: bool) -> Any:
    """Return the sum over ``axes``, not yet rounded to the dtype of ``x``.

    That of whole images, channels last, is a pooling kernel's.
    """
    if axes == (2, 3) and x.ndim == 4 and x.dtype.char in "fd":
        images = x.transpose(0, 2, 3, 1)
        if images.flags.c_contiguous and images.size:
            whole = images.shape[1], images.shape[2]
            sums = kernels.active().sum_pool2d(images, whole, whole, ((0, 0), (0, 0)), (1, 1))
            sums = sums.reshape(len(x), x.shape[1])
            return sums[:, :, None, None] if keepdim else sums
    if x.dtype.kind != "f":
        return x.sum(axis=axes, keepdims=keepdim, dtype=np.int64)
    return kernels.active().sums(x, axes, keepdim)


class Sum(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Any:
        data = x.data
        ctx.shape, ctx.axes = data.shape, axes
        total = _total(data, axes, keepdim)
        return np.asarray(total, data.dtype) if data.dtype.kind == "f" else total

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return Expand.apply(_spread(grad, ctx.shape, ctx.axes), ctx.shape)


def sum(
    input: Any, dim: Dim = None, keepdim: bool = False, dtype: DTypeLike | None = None
) -> Tensor:
    """Return the sum over ``dim``; integers and booleans are summed as int64.

    Args:
        input: any shape.
        dim: the axis or axes, negative ones from the back; all of them if left out.
        keepdim: keep those axes, with size 1.
        dtype: convert to this dtype first; the result has it too.
    """
    input = operand(input, "sum")
    if dtype is None:
        return Sum.apply(input, _axes(dim, input, "sum"), keepdim)
    input = with_dtype(input, dtype, "sum")
    return with_dtype(Sum.apply(input, _axes(dim, input, "sum"), keepdim), dtype, "sum")


class Mean(Function):
    """The sum, divided before it is rounded: of float16 it need not be finite."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Any:
        data = x.data
        ctx.shape, ctx.axes = data.shape, axes
        total = _total(data, axes, keepdim)
        return np.asarray(total / total.dtype.type(_count(data.shape, axes)), data.dtype)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        scaled = astype(widened(grad) / float(_count(ctx.shape, ctx.axes)), grad.dtype)
        return Expand.apply(_spread(scaled, ctx.shape, ctx.axes), ctx.shape)


def _count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    count = 1
    for axis in axes:
        count *= shape[axis]
    return count


def mean(
    input: Any, dim: Dim = None, keepdim: bool = False, dtype: DTypeLike | None = None
) -> Tensor:
    """Return the mean over ``dim``; integers are taken as float32. Of nothing it is NaN.

    Arguments as in :func:`sum`, but ``dtype`` must be a floating dtype, or TypeError is raised.
    """
    taken = floating if dtype is None else operand
    input = with_dtype(taken(input, "mean"), dtype, "mean")
    if input.dtype.kind != "f":
        raise TypeError(f"mean: dtype must be a floating-point dtype, got {input.dtype}")
    return Mean.apply(input, _axes(dim, input, "mean"), keepdim)


def nansum(
    input: Any, dim: Dim = None, keepdim: bool = False, dtype: DTypeLike | None = None
) -> Tensor:
    """Return the sum over ``dim`` of what is not NaN. Arguments as in :func:`sum`."""
    input = with_dtype(operand(input, "nansum"), dtype, "nansum")
    return sum(where(np.isnan(input.data), 0, input), dim, keepdim, dtype)


def nanmean(
    input: Any, dim: Dim = None, keepdim: bool = False, dtype: DTypeLike | None = None
) -> Tensor:
    """Return the mean over ``dim`` of what is not NaN. Arguments as in :func:`mean`."""
    input = operand(input, "nanmean")
    if input.data.dtype.kind != "f":
        raise TypeError(f"nanmean: expected a floating-point dtype, got {input.dtype}")
    total = nansum(input, dim, keepdim, dtype)
    return total / astype(sum(~np.isnan(input.data), dim, keepdim), total.dtype)


class Var(Function):
    r"""Has the gradient :math:`2 (x - \bar x) / (n - \mathrm{correction})`."""

    @staticmethod
    def forward(
        ctx: Node, x: Tensor, axes: tuple[int, ...], keepdim: bool, correction: float
    ) -> Any:
        ctx.axes = axes
        ctx.divisor = float(builtins.max(_count(x.shape, axes) - correction, 0))
        ctx.save_for_backward(x)
        return np.asarray(_variance(x.data, axes, keepdim, ctx.divisor), x.dtype)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return _centred(x, ctx.axes, widened(grad) * (2.0 / _nan_if_zero(ctx.divisor)))


class Std(Function):
    """The root of the variance; where that is 0 the gradient is 0, as in PyTorch."""

    @staticmethod
    def forward(
        ctx: Node, x: Tensor, axes: tuple[int, ...], keepdim: bool, correction: float
    ) -> Any:
        ctx.axes = axes
        ctx.divisor = float(builtins.max(_count(x.shape, axes) - correction, 0))
        y = np.asarray(np.sqrt(_variance(x.data, axes, keepdim, ctx.divisor)), x.dtype)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        zero = y.data == 0
        grad, y = widened(grad), widened(y)
        scaled = where(zero, 0.0, grad / where(zero, 1.0, y)) / _nan_if_zero(ctx.divisor)
        return _centred(x, ctx.axes, scaled)


def _centred(x: Tensor, axes: tuple[int, ...], factor: Tensor) -> Tensor:
    """Return the distances of ``x`` from its mean times ``factor``, which is wide, in x's dtype."""
    values = widened(x)
    distances = values - mean(values, axes, True) if axes else values * 0.0
    return astype(_spread(factor, x.shape, axes) * distances, x.dtype)


def _nan_if_zero(divisor: float) -> float:
    return divisor or float("nan")


def _variance(x: Array, axes: tuple[int, ...], keepdim: bool, divisor: float) -> Array:
    """Return the variance, not yet rounded to the dtype of ``x``."""
    y = kernels.active().variance(x, axes, divisor)
    return y if keepdim else y.squeeze(axes)


def _spread_over(dim: Dim, unbiased: bool | None, correction: float | None) -> tuple[Dim, float]:
    """Return the axes and the correction: ``var(x, False)`` means ``var(x, unbiased=False)``."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None:
        return dim, float(unbiased)
    return dim, 1.0 if correction is None else correction


def var(
    input: Any,
    dim: Dim = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = 1,
) -> Tensor:
    r"""Return the variance :math:`\frac{1}{n - c} \sum (x - \bar x)^2` over ``dim``.

    Args:
        input: the values; integers are taken as float32.
        dim: the axes. A boolean stands for ``unbiased``, as in PyTorch.
        unbiased: True is ``correction=1``, False is ``correction=0``.
        keepdim: keep the axes with size 1.
        correction: c, by default 1 as in PyTorch (0 in NumPy); None is 1 too. Where n <= c the
            result is NaN or infinite.
    """
    input = floating(input, "var")
    dim, correction = _spread_over(dim, unbiased, correction)
    return Var.apply(input, _axes(dim, input, "var"), keepdim, correction)


def std(
    input: Any,
    dim: Dim = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = 1,
) -> Tensor:
    """Return the standard deviation, the root of :func:`var`; its gradient at 0 is 0."""
    input = floating(input, "std")
    dim, correction = _spread_over(dim, unbiased, correction)
    return Std.apply(input, _axes(dim, input, "std"), keepdim, correction)


def _with_mean(spread: Callable[..., Tensor], who: str, what: str) -> Callable[..., Any]:
    """Return a function that returns a spread and the mean."""

    def both(
        input: Any,
        dim: Dim = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: float | None = 1,
    ) -> tuple[Tensor, Tensor]:
        dim, correction = _spread_over(dim, unbiased, correction)
        return spread(input, dim, None, keepdim, correction=correction), mean(input, dim, keepdim)

    both.__name__ = both.__qualname__ = who
    both.__doc__ = f"Return the {what} and the mean. Arguments as in :func:`var`."
    return both


var_mean = _with_mean(var, "var_mean", "variance")
std_mean = _with_mean(std, "std_mean", "standard deviation")


class Norm(Function):
    r"""Has the gradient :math:`\mathrm{sign}(x) |x|^{p-1} / y^{p-1}`, and 0 where y is 0."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, p: float, axes: tuple[int, ...], keepdim: bool) -> Any:
        ctx.p, ctx.axes = p, axes
        values, sums = wide(x.data), kernels.active().sums
        if p == 2:
            y = np.sqrt(sums(np.square(values), axes, keepdim))
        else:
            y = sums(np.abs(values) ** p, axes, keepdim) ** (1 / p)
        y = np.asarray(y, x.dtype)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        dtype, p = grad.dtype, ctx.p
        x, y = (widened(tensor) for tensor in ctx.saved_tensors)
        zero = y.data == 0
        scale = where(zero, 0.0, widened(grad) / power(where(zero, 1.0, y), p - 1))
        slope = x
        if p != 2:
            origin = x.data == 0
            slope = where(origin, 0.0, sign(x) * power(absolute(where(origin, 1.0, x)), p - 1))
        return astype(_spread(scale, x.shape, ctx.axes) * slope, dtype)


def norm(
    input: Any, p: float | str | None = "fro", dim: Dim = None, keepdim: bool = False
) -> Tensor:
    r"""Return the vector norm :math:`(\sum |x|^p)^{1/p}` over ``dim``.

    Args:
        input: the values; integers are taken as float32.
        p: the exponent; ``"fro"`` and None mean 2, infinity means the largest absolute value,
            0 counts the nonzero elements.
        dim: the axes.
        keepdim: keep the axes with size 1.

    Raises:
        ValueError: for another name as ``p``.
    """
    input = floating(input, "norm")
    axes = _axes(dim, input, "norm")
    if p is None or p == "fro":
        p = 2
    if isinstance(p, str):
        raise ValueError(f"norm: expected a number or 'fro' as p, got {p!r}")
    if p == float("inf"):
        return amax(absolute(input), axes, keepdim)
    if p == float("-inf"):
        return amin(absolute(input), axes, keepdim)
    if p == 0:
        return astype(sum(input.data != 0, axes, keepdim), input.dtype)
    if p == 1:
        return sum(absolute(input), axes, keepdim)
    return Norm.apply(input, p, axes, keepdim)


def dist(input: Any, other: Any, p: float = 2) -> Tensor:
    """Return the norm of ``input - other``; ``p`` as in :func:`norm`."""
    return norm(floating(input, "dist") - floating(other, "dist"), p)


# -- products -----------------------------------------------------------------------------------


class Prod(Function):
    """A product without zeros among its factors: the others' product is y / x."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Any:
        ctx.axes = axes
        dtype = None if x.data.dtype.kind == "f" else np.int64
        y = np.asarray(x.data.prod(axis=axes, keepdims=keepdim, dtype=dtype))
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return _spread(grad * y, x.shape, ctx.axes) / x


def prod(
    input: Any, dim: Dim = None, keepdim: bool = False, dtype: DTypeLike | None = None
) -> Tensor:
    """Return the product over ``dim``; integers are multiplied as int64.

    Arguments as in :func:`sum`. The gradient is right at zeros too, also where several factors are
    zero.
    """
    input = with_dtype(operand(input, "prod"), dtype, "prod")
    axes = _axes(dim, input, "prod")
    if input.requires_grad and is_grad_enabled() and (input.ndim == 0 or (input.data == 0).any()):
        return _prod_in_pairs(input, axes, keepdim)
    return with_dtype(Prod.apply(input, axes, keepdim), dtype, "prod")


def _prod_in_pairs(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """Multiply halves, then halves of those: multiplication alone is right at zeros."""
    others = [axis for axis in range(x.ndim) if axis not in axes]
    shape = _kept(x.shape, axes) if keepdim else tuple([x.shape[axis] for axis in others])
    outer = tuple([x.shape[axis] for axis in others])
    y = x.permute(*others, *axes).reshape(*outer, _count(x.shape, axes))
    while (length := y.shape[-1]) > 1:
        half = length // 2
        pairs = y[..., :half] * y[..., half : 2 * half]
        y = cat([pairs, y[..., 2 * half :]], -1) if length % 2 else pairs
    return y.reshape(shape)


# -- largest and smallest -------------------------------------------------------------------------


class MinMax(NamedTuple):
    """The smallest and the largest elements."""

    min: Tensor
    max: Tensor


class Extremum(Function):
    """The largest or smallest element; equal ones share the gradient evenly."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, axes: tuple[int, ...], keepdim: bool, ufunc: Any) -> Any:
        ctx.axes = axes
        y = np.asarray(ufunc.reduce(x.data, axis=axes, keepdims=keepdim))
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        extreme = _spread(y, x.shape, ctx.axes).data
        hits = (x.data == extreme) | (np.isnan(x.data) & np.isnan(extreme))
        share = hits / hits.sum(axis=ctx.axes, keepdims=True)
        return _spread(grad, x.shape, ctx.axes) * share.astype(grad.dtype)


def _extremum(x: Any, dim: Dim, keepdim: bool, ufunc: Any, who: str) -> Tensor:
    x = operand(x, who)
    axes = _axes(dim, x, who)
    _check_nonempty(x, axes, who)
    return Extremum.apply(x, axes, keepdim, ufunc)


def amax(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Return the largest element over ``dim``; equal ones share the gradient evenly.

    Arguments as in :func:`sum`; ValueError is raised if there is no element.
    """
    return _extremum(input, dim, keepdim, np.maximum, "amax")


def amin(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Return the smallest element over ``dim``; equal ones share the gradient evenly.

    Arguments and errors as in :func:`amax`.
    """
    return _extremum(input, dim, keepdim, np.minimum, "amin")


def aminmax(input: Any, dim: Dim = None, keepdim: bool = False) -> MinMax:
    """Return a named tuple of the smallest and the largest element: see :func:`amax`."""
    return MinMax(amin(input, dim, keepdim), amax(input, dim, keepdim))


def _max_or_min(x: Any, dim: Any, keepdim: bool, who: str) -> Any:
    x = operand(x, who)
    arg, pairwise, ufunc = (
        (np.argmax, maximum, np.maximum) if who == "max" else (np.argmin, minimum, np.minimum)
    )
    if isinstance(dim, (Tensor, np.ndarray)):
        return pairwise(x, dim)
    if dim is None:
        return _extremum(x, None, keepdim, ufunc, who)
    if x.ndim == 0:
        _axes(dim, x, who)
        return ValuesIndices(x, wrap(np.zeros((), np.int64)))
    axis = normalize_axis(dim, x.ndim, who)
    _check_nonempty(x, (axis,), who)
    return values_and_indices(x, axis, np.asarray(arg(x.data, axis=axis, keepdims=True)), keepdim)


def max(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Return the largest element: of all, along one axis, or of two tensors.

    - ``max(input)``: over all; equal ones share the gradient evenly.
    - ``max(input, dim)``: a named tuple ``(values, indices)``; the gradient goes to the element of
      the index, the first of equal ones.
    - ``max(input, other)``: :func:`maximum`.

    Args:
        input: any shape.
        dim: the axis, or the other tensor; over all elements if left out.
        keepdim: keep the axis, with size 1.

    Raises:
        ValueError: if there is no element to choose from.
    """
    return _max_or_min(input, dim, keepdim, "max")


def min(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Return the smallest element: of all, along one axis, or of two tensors. See :func:`max`."""
    return _max_or_min(input, dim, keepdim, "min")


def _arg(x: Any, dim: int | None, keepdim: bool, function: Any, who: str) -> Tensor:
    x = operand(x, who)
    axis = None if dim is None else normalize_axis(dim, x.ndim or 1, who)
    axis = axis if x.ndim else None
    _check_nonempty(x, tuple(range(x.ndim)) if axis is None else (axis,), who)
    args = x, axis, keepdim, function
    if not is_observed():
        return wrap(_places(*args))
    with no_grad():
        found: Tensor = Arg.apply(*args)
    return found


def _places(x: Tensor, axis: int | None, keepdim: bool, function: Any) -> Array:
    return np.asarray(function(x.data, axis=axis, keepdims=keepdim))


class Arg(Function):
    """Where an extremum is, which has no gradient: an operation for observers alone."""

    @staticmethod
    def forward(ctx: Node, *args: Any) -> Array:
        return _places(*args)


def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Return the position of the largest element along axis ``dim``, or in the flat tensor.

    The first of equal ones counts, and NaN counts as largest. ``keepdim`` keeps that axis, with
    size 1.
    """
    return _arg(input, dim, keepdim, np.argmax, "argmax")


def argmin(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Return where along ``dim`` the smallest element is. ``keepdim``: see :func:`argmax`."""
    return _arg(input, dim, keepdim, np.argmin, "argmin")


# -- truth ----------------------------------------------------------------------------------------


def _truth(x: Any, dim: Dim, keepdim: bool, function: Any, who: str) -> Tensor:
    x = operand(x, who)
    found = function(x.data, axis=normalize_axes(dim, x.ndim, who), keepdims=keepdim)
    return wrap(found.astype(np.uint8) if x.data.dtype == np.uint8 else found)


def all(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Return whether all elements over ``dim`` are nonzero or True. Arguments as in :func:`sum`.

    The result is boolean; of uint8, as in PyTorch, uint8.
    """
    return _truth(input, dim, keepdim, np.all, "all")


def any(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """Return whether one of the elements over ``dim`` is nonzero or True. See :func:`all`."""
    return _truth(input, dim, keepdim, np.any, "any")


def count_nonzero(input: Any, dim: Dim = None) -> Tensor:
    """Return how many elements over ``dim`` (see :func:`sum`) are nonzero or True."""
    input = operand(input, "count_nonzero")
    return Sum.apply(wrap(input.data != 0), _axes(dim, input, "count_nonzero"), False)


# -- logsumexp ------------------------------------------------------------------------------------


class LogSumExp(Function):
    r"""Has the gradient :math:`e^{x - y}`."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Any:
        ctx.axes = axes
        values = wide(x.data)
        largest = values.max(axis=axes, keepdims=True, initial=-np.inf)
        shift = np.where(np.isfinite(largest), largest, 0)  # inf - inf would be NaN
        y = np.log(kernels.active().sums(np.exp(values - shift), axes, True)) + shift
        y = np.asarray(y, x.dtype)
        if not keepdim:
            y = y.reshape(tuple([n for a, n in enumerate(x.shape) if a not in axes]))
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        spread = _spread(y, x.shape, ctx.axes)
        return _spread(grad, x.shape, ctx.axes) * exp(x - spread)


def logsumexp(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    r"""Return :math:`\ln \sum e^x` over ``dim``, without overflow. Arguments as in :func:`sum`."""
    input = floating(input, "logsumexp")
    return LogSumExp.apply(input, _axes(dim, input, "logsumexp"), keepdim)
