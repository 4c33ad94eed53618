"""Random tensors, all from one generator: :func:`lucid.manual_seed` makes them repeat.

None has a gradient. Where PyTorch takes a ``generator``, one of NumPy's may be given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid import _random
from lucid._check import count
from lucid.autograd import Tensor
from lucid.autograd._dtype import DEFAULT_DTYPE
from lucid.autograd._tensor import assign, wrap
from lucid.ops._common import Array, floating, operand, shape_argument
from lucid.ops._create import chosen_dtype, finished

__all__ = [
    "bernoulli", "multinomial", "normal", "poisson", "rand", "rand_like", "randint", "randint_like",
    "randn", "randn_like", "randperm",
]  # fmt: skip


def _random_float(draw: Any, shape: tuple[int, ...], dtype: np.dtype[Any], who: str) -> Array:
    if dtype.kind != "f":
        raise TypeError(f"{who}: expected a floating-point dtype, got {dtype}")
    if dtype in (np.float32, np.float64):
        return np.asarray(draw(shape, dtype=dtype))
    return np.asarray(draw(shape, dtype=np.float32)).astype(dtype)


def rand(*size: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Return random numbers, uniform on [0, 1). See :func:`lucid.manual_seed` and :func:`zeros`."""
    shape = shape_argument(size, "rand")
    array = _random_float(_random.generator().random, shape, chosen_dtype(dtype, "rand"), "rand")
    return finished(array, requires_grad)


def randn(*size: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Return random numbers of the standard normal distribution. See :func:`rand`."""
    shape = shape_argument(size, "randn")
    array = _random_float(
        _random.generator().standard_normal, shape, chosen_dtype(dtype, "randn"), "randn"
    )
    return finished(array, requires_grad)


def randint(low: int, high: Any = None, size: Any = None, dtype: DTypeLike | None = None) -> Tensor:
    """Return random integers from ``low`` up to, without, ``high``, as int64.

    As in PyTorch, ``low`` may be left out: ``randint(10, (2, 3))`` is ``randint(0, 10, (2, 3))``.

    Args:
        low: the smallest integer.
        high: the first integer that is too large.
        size: a tuple of sizes.
        dtype: an integer dtype.

    Raises:
        TypeError: if the bounds are no integers.
        ValueError: if there is no integer between ``low`` and ``high``, or one is out of the
            dtype's range.
    """
    if size is None and isinstance(high, (tuple, list)):
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if size is None:
        raise TypeError("randint: expected a size, such as randint(0, 10, (2, 3))")
    low, high = shape_argument((low, high), "randint", minimum=None)
    if low >= high:
        raise ValueError(f"randint: expected low < high, got {low} and {high}")
    wanted = chosen_dtype(dtype, "randint", np.int64)
    limits = np.iinfo(wanted if wanted.kind in "iu" else np.int64)
    if low < limits.min or high - 1 > limits.max:
        raise ValueError(
            f"randint: integers from {low} up to {high} are out of the range of {limits.dtype}"
        )
    array = _random.generator().integers(low, high, shape_argument((size,), "randint"))
    return wrap(array.astype(wanted, copy=False))


def randperm(n: int) -> Tensor:
    """Return the integers from 0 to n - 1 in random order, as int64."""
    (count,) = shape_argument((n,), "randperm")
    return wrap(_random.generator().permutation(count))


def rand_like(input: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Return random numbers from [0, 1) of ``input``'s shape and dtype. See :func:`zeros_like`."""
    array = operand(input, "rand_like").data
    wanted = chosen_dtype(dtype, "rand_like", array.dtype)
    return rand(array.shape, dtype=wanted, requires_grad=requires_grad)


def randn_like(input: Any, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Return standard normal random numbers in the input's shape and dtype: :func:`zeros_like`."""
    array = operand(input, "randn_like").data
    wanted = chosen_dtype(dtype, "randn_like", array.dtype)
    return randn(array.shape, dtype=wanted, requires_grad=requires_grad)


def randint_like(
    input: Any,
    low: int,
    high: int | None = None,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return random integers from ``low`` up to ``high`` in the input's shape and dtype.

    Args:
        input: any shape.
        low: the smallest integer; if it is alone, the first that is too large, counted from 0.
        high: the first integer that is too large.
        dtype: another dtype than that of ``input``.
        requires_grad: record operations on it.
    """
    x = operand(input, "randint_like")
    wanted = chosen_dtype(dtype, "randint_like", x.dtype)
    return finished(randint(low, high, x.shape, dtype=wanted).data, requires_grad)


def bernoulli(input: Any, *, generator: Any = None) -> Tensor:
    """Return 1 with the probability that each element is, and 0 else, in the dtype of ``input``.

    Args:
        input: probabilities.
        generator: another source than lucid's own.

    Raises:
        ValueError: if one is not from 0 to 1.
    """
    x = _probabilities(input, "bernoulli")
    draws = (generator or _random.generator()).random(x.shape)
    return wrap((draws < x.data).astype(x.dtype))


def _probabilities(value: Any, who: str) -> Tensor:
    x = operand(value, who)
    if x.dtype.kind != "f":
        raise TypeError(f"{who}: expected probabilities of a floating-point dtype, got {x.dtype}")
    if not ((x.data >= 0) & (x.data <= 1)).all():
        raise ValueError(f"{who}: expected probabilities from 0 to 1")
    return x


def multinomial(
    input: Any, num_samples: int, replacement: bool = False, *, generator: Any = None
) -> Tensor:
    """Return places drawn with probabilities in proportion to ``input``, as int64.

    Args:
        input: weights, a vector or a matrix, of which each row is drawn from by itself.
        num_samples: how many places to draw from each row.
        replacement: whether a place can be drawn twice.
        generator: another source than lucid's own.

    Raises:
        ValueError: if a weight is negative or not finite, a row has only zeros, or fewer places
            than ``num_samples`` have a weight and none is to be drawn twice.
    """
    weights = operand(input, "multinomial")
    draws = count(num_samples, "num_samples", "multinomial")
    if weights.ndim not in (1, 2) or weights.dtype.kind != "f":
        raise ValueError(
            "multinomial: expected a vector or a matrix of floating-point numbers, got shape "
            f"{weights.shape} of {weights.dtype}"
        )
    values = weights.data.astype(np.float64)
    if not (np.isfinite(values) & (values >= 0)).all() or not (values > 0).any(-1).all():
        raise ValueError("multinomial: weights must be finite and not negative, and not all zero")
    source = generator or _random.generator()
    if replacement:
        # A number below the sum of the weights falls into the part of one place.
        ends = np.cumsum(values, -1)
        numbers = source.random((*values.shape[:-1], draws, 1)) * ends[..., None, -1:]
        return wrap((numbers >= ends[..., None, :]).sum(-1))
    least = int((values > 0).sum(-1).min(initial=values.shape[-1]))
    if draws > least:
        raise ValueError(
            f"multinomial: {draws} places cannot be drawn without replacement, as only {least} "
            "have a weight"
        )
    # The first of clocks that ring at these rates: each order has the probability that it should.
    with np.errstate(divide="ignore"):
        times = source.standard_exponential(values.shape) / values
    return wrap(np.argsort(times, -1)[..., :draws])


def normal(
    mean: Any, std: Any = 1.0, size: Any = None, *, generator: Any = None, dtype: Any = None
) -> Tensor:
    """Return random numbers of normal distributions, of the dtype of the first tensor.

    Args:
        mean: the mean, a number or a tensor.
        std: the standard deviation, a number or a tensor whose shape broadcasts with the means'.
        size: the shape, if both are numbers.
        generator: another source than lucid's own.
        dtype: the dtype; float32 for two numbers.

    Raises:
        ValueError: if a standard deviation is negative.
    """
    centre, spread = (v.data if isinstance(v, Tensor) else v for v in (mean, std))
    kinds = [v.dtype for v in (mean, std) if isinstance(v, Tensor)]
    wanted = chosen_dtype(dtype, "normal", kinds[0] if kinds else DEFAULT_DTYPE)
    if np.any(np.asarray(spread) < 0):
        raise ValueError("normal: expected standard deviations of at least 0")
    shape = np.broadcast_shapes(np.shape(centre), np.shape(spread))
    if size is not None:
        shape = shape_argument((size,), "normal")
    drawn = (generator or _random.generator()).standard_normal(shape)
    return wrap(np.asarray(centre + spread * drawn, wanted))


def poisson(input: Any, generator: Any = None) -> Tensor:
    """Return random whole numbers with the rates ``input``, in its dtype.

    Args:
        input: rates.
        generator: another source than lucid's own.

    Raises:
        ValueError: if a rate is negative.
    """
    rates = floating(input, "poisson")
    if not (rates.data >= 0).all():
        raise ValueError("poisson: expected rates of at least 0")
    return wrap((generator or _random.generator()).poisson(rates.data).astype(rates.dtype))


# -- in place: methods alone ----------------------------------------------------------------------


def _fill(input: Tensor, who: str, generator: Any, draw: Callable[[Any], Array]) -> Tensor:
    if input.dtype.kind != "f":
        raise TypeError(f"{who}: expected a floating-point dtype, got {input.dtype}")
    drawn = draw(generator or _random.generator())
    return assign(input, wrap(np.asarray(drawn).astype(input.dtype)))


def uniform_(input: Tensor, low: float = 0, to: float = 1, *, generator: Any = None) -> Tensor:
    """Fill with random numbers from ``low`` up to ``to``."""
    if low > to:
        raise ValueError(f"uniform_: expected low <= to, got {low} and {to}")
    return _fill(input, "uniform_", generator, lambda rng: rng.uniform(low, to, input.shape))


def normal_(input: Tensor, mean: float = 0, std: float = 1, *, generator: Any = None) -> Tensor:
    """Fill with random numbers of a normal distribution."""
    if std < 0:
        raise ValueError(f"normal_: expected a standard deviation of at least 0, got {std}")
    return _fill(input, "normal_", generator, lambda rng: rng.normal(mean, std, input.shape))


def exponential_(input: Tensor, lambd: float = 1, *, generator: Any = None) -> Tensor:
    """Fill with random numbers of an exponential distribution of rate ``lambd``."""
    if lambd <= 0:
        raise ValueError(f"exponential_: expected a rate above 0, got {lambd}")
    return _fill(
        input, "exponential_", generator, lambda rng: rng.exponential(1 / lambd, input.shape)
    )


def bernoulli_(input: Tensor, p: Any = 0.5, *, generator: Any = None) -> Tensor:
    """Fill with 1 with probability ``p``, a number or a tensor, and 0 else."""
    p = _probabilities(p, "bernoulli_").data
    drawn = (generator or _random.generator()).random(input.shape) < p
    return assign(input, wrap(drawn.astype(input.dtype)))


METHODS = (bernoulli_, exponential_, normal_, uniform_)
