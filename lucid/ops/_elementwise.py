"""Element by element: arithmetic, powers, exponentials, rounding, comparisons, choices.

An operation of one tensor is a function of arrays with its gradient beside it; any other is a class
with its value and its gradient, and a function that checks the arguments and applies it. Infinities
and NaN arise silently, as in PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from lucid import kernels
from lucid.autograd import Function, Tensor, no_grad
from lucid.autograd._dtype import as_dtype
from lucid.autograd._function import is_observed
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.ops._common import (
    Array,
    check_broadcast,
    convert,
    floating,
    one_number,
    operand,
    operands,
    promoted,
    save_factors,
    sum_to,
    wanted,
)

__all__ = [
    "abs", "add", "allclose", "astype", "bitwise_and", "bitwise_not", "bitwise_or",
    "bitwise_xor", "ceil", "clamp", "cos", "div", "eq", "equal", "erf", "exp", "expm1", "floor",
    "floor_divide", "ge", "gt", "isclose", "isfinite", "isinf", "isnan", "le", "log", "log1p",
    "logical_and", "logical_not", "logical_or", "logical_xor", "lt", "masked_fill", "maximum",
    "minimum", "mul", "ne", "neg", "pow", "reciprocal", "remainder", "round", "rsqrt",
    "sigmoid", "sign", "sin", "sqrt", "square", "sub", "tan", "tanh", "where",
]  # fmt: skip


class Unary(Protocol):
    """An operation of one tensor."""

    def __call__(self, input: Any) -> Tensor: ...


def unary(
    gradient: Callable[..., Tensor],
    *,
    keep: Literal["input", "output", "nothing"],
    taken: Callable[[Any, str], Tensor] = floating,
) -> Callable[[Callable[[Array], Array]], Unary]:
    """Make an operation of a function of arrays: the decorated one, which names and documents it.

    Args:
        gradient: the gradient with respect to the input, in tensor operations, given that with
            respect to the output and what is kept.
        keep: what the gradient needs.
        taken: how the argument becomes a tensor, given the operation's name for messages.
    """

    def decorate(function: Callable[[Array], Array]) -> Unary:
        who = function.__name__

        class Operation(Function):
            @staticmethod
            def forward(ctx: Node, x: Tensor) -> Array:
                y = function(x.data)
                if keep != "nothing":
                    ctx.save_for_backward(x if keep == "input" else y)
                return y

            @staticmethod
            def backward(ctx: Node, grad: Tensor) -> Tensor:
                return gradient(grad, *ctx.saved_tensors)

        Operation.__name__ = Operation.__qualname__ = who.capitalize()

        def operation(input: Any) -> Tensor:
            return Operation.apply(taken(input, who))

        operation.__module__ = function.__module__
        return _named(operation, who, function.__doc__)

    return decorate


F = TypeVar("F", bound=Callable[..., Any])


def _named(operation: F, name: str, doc: str | None) -> F:
    """Give a function that was made here the name and the docstring it is known by."""
    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


# -- arithmetic -------------------------------------------------------------------------------


class Add(Function):
    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        ctx.shapes = a.shape, b.shape
        return a.data + b.data

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.shapes
        return wanted(ctx, lambda: sum_to(grad, a), lambda: sum_to(grad, b))


def add(input: Any, other: Any) -> Tensor:
    """Return the sum, broadcasting as NumPy does; each gradient is summed back to its shape.

    Args:
        input: a tensor, an array or a number. Booleans beside integers become integers, and both
            beside floats floats. A tensor with zero axes or a number counts for the dtype only
            if its kind is higher. Unlike in PyTorch a number must be in the dtype's range.
        other: the same.

    Raises:
        ValueError: if the shapes do not broadcast.
    """
    return Add.apply(*operands(input, other, "add"))


class Sub(Function):
    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        ctx.shapes = a.shape, b.shape
        return a.data - b.data

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.shapes
        return wanted(ctx, lambda: sum_to(grad, a), lambda: -sum_to(grad, b))


def sub(input: Any, other: Any) -> Tensor:
    """Return ``input - other`` element by element, broadcasting as NumPy does.

    Raises:
        TypeError: if one is boolean: use ``logical_xor`` or ``logical_not``.
    """
    for value in (input, other):
        if isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b":
            raise TypeError("sub: booleans cannot be subtracted; use logical_xor() or astype()")
    return Sub.apply(*operands(input, other, "sub"))


class Mul(Function):
    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        ctx.shapes = a.shape, b.shape
        save_factors(ctx, a, b)
        return a.data * b.data

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        shape_a, shape_b = ctx.shapes
        return wanted(ctx, lambda: sum_to(grad * b, shape_a), lambda: sum_to(grad * a, shape_b))


def mul(input: Any, other: Any) -> Tensor:
    """Return ``input * other`` element by element, broadcasting as NumPy does."""
    return Mul.apply(*operands(input, other, "mul"))


class Div(Function):
    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        ctx.shapes = a.shape, b.shape
        ctx.save_for_backward(a if ctx.needs_input_grad[1] else None, b)
        return a.data / b.data

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        shape_a, shape_b = ctx.shapes
        grad_a = grad / b
        return wanted(
            ctx, lambda: sum_to(grad_a, shape_a), lambda: sum_to(-grad_a * (a / b), shape_b)
        )


def div(input: Any, other: Any) -> Tensor:
    """Return ``input / other`` element by element; two integers are divided as float32.

    Division by zero gives an infinity or NaN, silently.
    """
    input, other = operands(input, other, "div")
    if input.data.dtype.kind != "f" and other.data.dtype.kind != "f":
        input, other = floating(input, "div"), floating(other, "div")
    return Div.apply(input, other)


def floor_divide(input: Any, other: Any) -> Tensor:
    """Return the largest whole number not above ``input / other``; it has no gradient.

    Raises:
        ZeroDivisionError: if an integer is divided by zero.
    """
    input, other = operands(input, other, "floor_divide")
    _check_integer_division(input, other, "floor_divide")
    with np.errstate(all="ignore"):
        return wrap(np.floor_divide(input.data, other.data))


class Remainder(Function):
    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        ctx.shapes = a.shape, b.shape
        ctx.save_for_backward(*((a, b) if ctx.needs_input_grad[1] else (None, None)))
        return np.remainder(a.data, b.data)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        return wanted(
            ctx,
            lambda: sum_to(grad, ctx.shapes[0]),
            lambda: sum_to(-grad * floor_divide(a, b), ctx.shapes[1]),
        )


def remainder(input: Any, other: Any) -> Tensor:
    """Return ``input - other * floor(input / other)``: it has the sign of ``other``.

    Raises:
        ZeroDivisionError: if an integer is divided by zero.
    """
    input, other = operands(input, other, "remainder")
    _check_integer_division(input, other, "remainder")
    return Remainder.apply(input, other)


def _check_integer_division(a: Tensor, b: Tensor, who: str) -> None:
    if a.data.dtype.kind == "b" and b.data.dtype.kind == "b":
        raise TypeError(f"{who}: expected numbers, got two boolean tensors")
    if a.data.dtype.kind != "f" and b.data.dtype.kind != "f" and not b.data.all():
        raise ZeroDivisionError(f"{who}: an integer is divided by zero")


def _signed(x: Any, who: str) -> Tensor:
    x = operand(x, who)
    if x.data.dtype.kind == "b":
        raise TypeError(f"{who}: a boolean tensor has no negative; use logical_not() or ~")
    return x


@unary(lambda grad: -grad, keep="nothing", taken=_signed)
def neg(x: Array) -> Array:
    """Return ``-input``; booleans raise TypeError, for which there is ``logical_not``."""
    return np.negative(x)


def positive(input: Any) -> Tensor:
    """Return ``input`` itself: ``+input``."""
    return operand(input, "positive")


@unary(lambda grad, x: grad * sign(x), keep="input", taken=operand)
def abs(x: Array) -> Array:
    """Return the absolute value; the gradient at 0 is 0."""
    return np.abs(x)


# -- powers -----------------------------------------------------------------------------------


class Pow(Function):
    r"""Has the gradients :math:`b a^{b-1}` (0 at b = 0) and :math:`a^b \ln a` (0 at a = 0)."""

    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> Array:
        y = _power(a.data, b.data)
        ctx.save_for_backward(a, b, y if ctx.needs_input_grad[1] else None)
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, y = ctx.saved_tensors
        zero = (a.data == 0) & (b.data >= 0)
        return wanted(
            ctx,
            lambda: sum_to(where(b.data == 0, 0.0, grad * (b * pow(a, b - 1))), a.shape),
            lambda: sum_to(where(zero, 0.0, grad * (y * log(where(zero, 1.0, a)))), b.shape),
        )


def _power(a: Array, b: Array) -> Array:
    """Return ``a ** b``; NumPy refuses negative powers of integers."""
    if b.dtype.kind != "i" or not (b < 0).any():
        return np.asarray(np.power(a, b), a.dtype)  # NumPy makes int8 of booleans
    inverse = np.where(a == 1, 1, np.where(a == -1, np.where(b % 2, -1, 1), 0))
    return np.where(b < 0, inverse, np.power(a, np.maximum(b, 0))).astype(b.dtype)


class PowScalar(Function):
    """A power with a fixed number: NumPy has short cuts for 2, 0.5 and -1."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, exponent: float) -> Array:
        ctx.exponent = exponent
        ctx.save_for_backward(x)
        return x.data**exponent

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        exponent = ctx.exponent
        if exponent == 0:
            return grad * 0.0
        if exponent == 1:
            return grad
        return grad * (pow(x, exponent - 1) * exponent if exponent != 2 else x * 2.0)


def pow(input: Any, exponent: Any) -> Tensor:
    """Return ``input`` to the power ``exponent``, broadcasting as NumPy does.

    Args:
        input: the base, a tensor or a number.
        exponent: a tensor or a number whose shape broadcasts with it.

    Raises:
        ValueError: if the shapes do not broadcast, or integers are raised to a negative integer.
            A tensor of exponents may hold negative ones, as in PyTorch: the result is cut off to
            0, unless the base is 1 or -1.
    """
    if isinstance(exponent, (int, float)) and not isinstance(exponent, bool):
        input = operand(input, "pow")
        if isinstance(exponent, float) or input.data.dtype.kind == "f":
            return PowScalar.apply(floating(input, "pow"), exponent)
        if exponent < 0:
            raise ValueError(
                "pow: integers to negative integer powers are not integers; convert with float()"
            )
    return Pow.apply(*operands(input, exponent, "pow"))


def square(input: Any) -> Tensor:
    """Return ``input * input``."""
    return pow(input, 2)


@unary(lambda grad, y: grad / (y * 2.0), keep="output")
def sqrt(x: Array) -> Array:
    """Return the square root; negative numbers give NaN, and the gradient at 0 is infinite."""
    return np.sqrt(x)


@unary(lambda grad, y: grad * (y * y * y) * -0.5, keep="output")
def rsqrt(x: Array) -> Array:
    r"""Return :math:`1 / \sqrt{x}`."""
    return 1 / np.sqrt(x)


@unary(lambda grad, y: -grad * (y * y), keep="output")
def reciprocal(x: Array) -> Array:
    """Return ``1 / input``; integers are taken as float32."""
    return np.reciprocal(x)


# -- exponentials -----------------------------------------------------------------------------


@unary(lambda grad, y: grad * y, keep="output")
def exp(x: Array) -> Array:
    """Return :math:`e^x`, element by element; integers are taken as float32."""
    return np.exp(x)


@unary(lambda grad, y: grad * (y + 1.0), keep="output")
def expm1(x: Array) -> Array:
    """Return :math:`e^x - 1`, exact also near 0."""
    return np.expm1(x)


@unary(lambda grad, x: grad / x, keep="input")
def log(x: Array) -> Array:
    """Return the natural logarithm; 0 gives -inf and negative numbers NaN."""
    return np.log(x)


@unary(lambda grad, x: grad / (x + 1.0), keep="input")
def log1p(x: Array) -> Array:
    r"""Return :math:`\ln(1 + x)`, exact also near 0."""
    return np.log1p(x)


@unary(lambda grad, y: grad * (y * (1.0 - y)), keep="output")
def sigmoid(x: Array) -> Array:
    r"""Return :math:`1 / (1 + e^{-x})`."""
    return kernels.active().sigmoid(x)


@unary(lambda grad, x: grad * (exp(-(x * x)) * (2.0 / math.sqrt(math.pi))), keep="input")
def erf(x: Array) -> Array:
    r"""Return the error function :math:`\frac{2}{\sqrt\pi} \int_0^x e^{-t^2} dt`."""
    return kernels.active().erf(x)


# -- trigonometry -----------------------------------------------------------------------------


@unary(lambda grad, x: grad * x.cos(), keep="input")
def sin(x: Array) -> Array:
    """Return the sine of an angle in radians."""
    return np.sin(x)


@unary(lambda grad, x: -grad * x.sin(), keep="input")
def cos(x: Array) -> Array:
    """Return the cosine of an angle in radians."""
    return np.cos(x)


@unary(lambda grad, y: grad * (y * y + 1.0), keep="output")
def tan(x: Array) -> Array:
    """Return the tangent of an angle in radians."""
    return np.tan(x)


@unary(lambda grad, y: grad * (1.0 - y * y), keep="output")
def tanh(x: Array) -> Array:
    """Return the hyperbolic tangent."""
    return np.tanh(x)


# -- piecewise constant: the gradient is zero ---------------------------------------------------


class Step(Function):
    """A NumPy function that is constant between its jumps."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, ufunc: Any) -> Array:
        kind = x.data.dtype.kind
        if kind == "b" or (kind != "f" and ufunc is not _sign):
            return x.data.copy()  # NumPy would make floats of whole numbers
        return np.asarray(ufunc(x.data))

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return grad * 0.0


def _step(ufunc: Any, doc: str, name: str = "") -> Unary:
    who = name or ufunc.__name__

    def operation(input: Any) -> Tensor:
        return Step.apply(operand(input, who), ufunc)

    return _named(operation, who, doc)


def _sign(x: Array) -> Array:
    if x.dtype.kind != "f":
        return np.sign(x)
    signs = (x > 0).view(np.int8)
    signs -= (x < 0).view(np.int8)
    return signs.astype(x.dtype)


sign: Unary = _step(
    _sign, "Return -1, 0 or 1, and 0 for NaN, as PyTorch does; the gradient is 0.", "sign"
)
floor = _step(np.floor, "Return the largest whole number not above ``input``; the gradient is 0.")
ceil = _step(np.ceil, "Return the smallest whole number not below ``input``; the gradient is 0.")
round = _step(
    np.rint, "Return the nearest whole number, halves to the even one; the gradient is 0.", "round"
)


# -- comparisons, logic and bits: without gradient ------------------------------------------------


class Binary(Protocol):
    """An operation of two tensors, arrays or numbers."""

    def __call__(self, input: Any, other: Any) -> Tensor: ...


class Compare(Function):
    """A comparison, a test or logic, which has no gradient: an operation for observers alone."""

    @staticmethod
    def forward(ctx: Node, ufunc: Any, *given: Any) -> Array:
        result: Array = ufunc(*[x.data if isinstance(x, Tensor) else x for x in given])
        return result


def _compare(a: Any, b: Any, ufunc: Any, who: str) -> Tensor:
    if isinstance(a, Tensor) and isinstance(b, (int, float)):
        try:
            if is_observed():
                return _observed(ufunc, a, b)
            if -60000 < b < 60000:  # in the range of every floating dtype
                return wrap(ufunc(a.data, b))
            with np.errstate(over="ignore"):  # a number may lie beyond the dtype's range
                return wrap(ufunc(a.data, b))
        except OverflowError:
            raise ValueError(f"{who}: the number is beyond all floats") from None
    a, b = operands(a, b, who)
    return _observed(ufunc, a, b) if is_observed() else wrap(ufunc(a.data, b.data))


def _observed(*args: Any) -> Tensor:
    with no_grad():
        found: Tensor = Compare.apply(*args)
    return found


def _bitwise(a: Any, b: Any, ufunc: Any, who: str) -> Tensor:
    a, b = operands(a, b, who)
    given = _whole(a, who), _whole(b, who)
    return _observed(ufunc, a, b) if is_observed() else wrap(ufunc(*given))


def _whole(x: Tensor, who: str) -> Array:
    if x.data.dtype.kind == "f":
        raise TypeError(f"{who}: expected integers or booleans, got {x.dtype}")
    return x.data


def _binary(compute: Callable[..., Tensor], ufunc: Any, doc: str, name: str = "") -> Binary:
    who = name or ufunc.__name__

    def operation(input: Any, other: Any) -> Tensor:
        return compute(input, other, ufunc, who)

    return _named(operation, who, doc)


def _test(ufunc: Any, doc: str) -> Unary:
    who = ufunc.__name__

    def operation(input: Any) -> Tensor:
        x = operand(input, who)
        return _observed(ufunc, x) if is_observed() else wrap(ufunc(x.data))

    return _named(operation, who, doc)


eq = _binary(_compare, np.equal, "Return where they are equal, as booleans.", "eq")
ne = _binary(_compare, np.not_equal, "Return where they differ, as booleans.", "ne")
lt = _binary(_compare, np.less, "Return where ``input < other``, as booleans.", "lt")
le = _binary(_compare, np.less_equal, "Return where ``input <= other``, as booleans.", "le")
gt = _binary(_compare, np.greater, "Return where ``input > other``, as booleans.", "gt")
ge = _binary(_compare, np.greater_equal, "Return where ``input >= other``, as booleans.", "ge")

logical_not = _test(np.logical_not, "Return where ``input`` is zero or False.")
logical_and = _binary(_compare, np.logical_and, "Return where both are nonzero or True.")
logical_or = _binary(_compare, np.logical_or, "Return where at least one is nonzero or True.")
logical_xor = _binary(_compare, np.logical_xor, "Return where exactly one is nonzero or True.")

bitwise_and = _binary(_bitwise, np.bitwise_and, "Return ``input & other``; not of floats.")
bitwise_or = _binary(_bitwise, np.bitwise_or, "Return ``input | other``; not of floats.")
bitwise_xor = _binary(_bitwise, np.bitwise_xor, "Return ``input ^ other``; not of floats.")

isnan = _test(np.isnan, "Return where ``input`` is NaN.")
isinf = _test(np.isinf, "Return where ``input`` is an infinity.")
isfinite = _test(np.isfinite, "Return where ``input`` is neither NaN nor an infinity.")


def bitwise_not(input: Any) -> Tensor:
    """Return ``~input``, for integers and booleans, of which it is ``logical_not``."""
    x = operand(input, "bitwise_not")
    given = _whole(x, "bitwise_not")
    return _observed(np.invert, x) if is_observed() else wrap(np.invert(given))


def isclose(
    input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Return where ``|input - other| <= atol + rtol * |other|``.

    Args:
        input: a tensor, an array or a number.
        other: another; the shapes broadcast.
        rtol: the tolerance relative to ``other``.
        atol: the absolute tolerance.
        equal_nan: let NaN equal NaN.

    Raises:
        ValueError: if the shapes do not broadcast, or a tolerance is negative.
    """
    input, other = operands(input, other, "isclose")
    if rtol < 0 or atol < 0:
        raise ValueError(f"isclose: rtol and atol must not be negative, got {rtol} and {atol}")
    return wrap(np.isclose(input.data, other.data, rtol, atol, equal_nan))


def allclose(
    input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Return whether :func:`isclose` holds everywhere, as input Python bool."""
    return bool(isclose(input, other, rtol, atol, equal_nan).data.all())


def equal(input: Any, other: Any) -> bool:
    """Return whether two tensors have the same shape and values, as a Python bool."""
    return bool(np.array_equal(operand(input, "equal").data, operand(other, "equal").data))


# -- choices ----------------------------------------------------------------------------------


class Where(Function):
    @staticmethod
    def forward(ctx: Node, condition: Tensor, a: Tensor, b: Tensor) -> Array:
        ctx.condition = condition.data
        ctx.shapes = a.shape, b.shape
        return np.where(ctx.condition, a.data, b.data)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        # Chosen, not multiplied by a mask: a NaN of the branch not taken stays out.
        a, b = ctx.shapes
        return (
            None,
            sum_to(where(ctx.condition, grad, 0.0), a) if ctx.needs_input_grad[1] else None,
            sum_to(where(ctx.condition, 0.0, grad), b) if ctx.needs_input_grad[2] else None,
        )


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """Return ``input`` where ``condition`` holds and ``other`` elsewhere; all three broadcast.

    With the condition alone, return the indices of its nonzero elements: one integer tensor an
    axis, as ``nonzero(as_tuple=True)`` in PyTorch.

    Args:
        condition: booleans.
        input: values where it holds.
        other: values elsewhere.

    Raises:
        TypeError: if the condition is not boolean.
        ValueError: if the shapes do not broadcast, or only one of two choices is given.
    """
    mask = operand(condition, "where")
    if input is None and other is None:
        return tuple([wrap(index) for index in np.nonzero(mask.data)])
    if input is None or other is None:
        raise ValueError("where: expected both choices or neither, got one")
    if mask.dtype.kind != "b":
        raise TypeError(
            f"where: the condition must be boolean, got {mask.dtype}; compare it with 0"
        )
    a, b = operands(input, other, "where")
    try:
        np.broadcast_shapes(mask.shape, a.shape, b.shape)
    except ValueError:
        raise ValueError(
            f"where: the condition's shape {mask.shape} does not broadcast with the choices' "
            f"shapes {a.shape} and {b.shape}"
        ) from None
    return Where.apply(mask, a, b)


def masked_fill(input: Any, mask: Any, value: Any) -> Tensor:
    """Return ``input`` with ``value`` where the boolean ``mask``, which broadcasts, holds.

    Args:
        input: any shape.
        mask: booleans whose shape broadcasts with it.
        value: a number, or a tensor with zero axes; it is converted to the dtype of ``input``.

    Raises:
        ValueError: if the number is out of the dtype's range.
    """
    input = operand(input, "masked_fill")
    return where(mask, one_number(value, input.data.dtype, "masked_fill"), input)


class Maximum(Function):
    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor, ufunc: Any) -> Array:
        ctx.save_for_backward(a, b)
        ctx.loses = np.less if ufunc is np.maximum else np.greater
        return ufunc(a.data, b.data)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        grad = where(a.data == b.data, grad * 0.5, grad)
        return wanted(
            ctx,
            lambda: sum_to(where(ctx.loses(a.data, b.data), 0.0, grad), a.shape),
            lambda: sum_to(where(ctx.loses(b.data, a.data), 0.0, grad), b.shape),
        )


def maximum(input: Any, other: Any) -> Tensor:
    """Return the larger of two elements, NaN if one is; equal ones halve the gradient."""
    return Maximum.apply(*operands(input, other, "maximum"), np.maximum)


def minimum(input: Any, other: Any) -> Tensor:
    """Return the smaller of two elements. See :func:`maximum`."""
    return Maximum.apply(*operands(input, other, "minimum"), np.minimum)


class Clamp(Function):
    @staticmethod
    def forward(ctx: Node, x: Tensor, low: Tensor | None, high: Tensor | None) -> Array:
        ctx.save_for_backward(x, low, high)
        y = x.data
        if low is not None:
            y = np.maximum(y, low.data)
        if high is not None:
            y = np.minimum(y, high.data)
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, low, high = ctx.saved_tensors
        above = np.False_ if high is None else x.data > high.data
        below = np.False_ if low is None else x.data < low.data
        inside = (low is None or x.data >= low.data) & (high is None or x.data <= high.data)
        if low is not None and high is not None:  # where the bounds meet or cross, high counts
            above, below = above | (high.data < low.data), below & (low.data < high.data)
        return wanted(
            ctx,
            lambda: sum_to(where(inside, grad, 0.0), x.shape),
            lambda: sum_to(where(below, grad, 0.0), low.shape),
            lambda: sum_to(where(above, grad, 0.0), high.shape),
        )


def clamp(input: Any, min: Any = None, max: Any = None) -> Tensor:
    """Return ``input`` limited to ``[min, max]``; where the bounds cross, ``max`` counts.

    The gradient passes where ``min <= input <= max``, the bounds themselves included.

    Args:
        input: the values.
        min: the lower bound, a number or a tensor that broadcasts; None for none.
        max: the upper bound likewise.

    Raises:
        ValueError: if both bounds are None, or the shapes do not broadcast.
    """
    if min is None and max is None:
        raise ValueError("clamp: expected min, max or both, got neither")
    values = promoted("clamp", operand(input, "clamp"), *[v for v in (min, max) if v is not None])
    for bound in values[1:]:
        check_broadcast(values[0], bound, "clamp")
    low, high = None if min is None else values[1], None if max is None else values[-1]
    return Clamp.apply(values[0], low, high)


# -- dtype ------------------------------------------------------------------------------------


def astype(input: Any, dtype: DTypeLike) -> Tensor:
    """Return ``input`` converted to ``dtype``; ``input`` itself if it has that dtype.

    The gradient is converted back. Integers and booleans have no gradient.

    Args:
        input: any shape.
        dtype: a NumPy dtype or its name.

    Raises:
        TypeError: if ``dtype`` names no real, integer or boolean dtype.
    """
    if isinstance(input, Tensor) and isinstance(dtype, np.dtype) and input.data.dtype == dtype:
        return input  # the usual case
    return convert(operand(input, "astype"), as_dtype(dtype, "astype"), "astype")


def widened(x: Tensor) -> Tensor:
    """Return a tensor of float16 as float32, to compute with; others as they are."""
    return astype(x, np.float32) if x.data.dtype == np.float16 else x
