"""Filling tensors with initial values, in place, as ``torch.nn.init`` does.

Each function changes its tensor without recording it and returns it. Random values come from
the generator behind ``lucid.manual_seed`` unless another is given.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

import numpy as np

from lucid import _random
from lucid._check import name_errors as _name_errors
from lucid.autograd import Tensor
from lucid.nn._parameter import overwrite as _overwrite

T = TypeVar("T", bound=Tensor)
Fan = Literal["fan_in", "fan_out"]
Generator = np.random.Generator


def _fill(tensor: T, values: Any, who: str) -> T:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{who}: expected a tensor, got {type(tensor).__name__}")
    _overwrite(tensor, np.broadcast_to(np.asarray(values, tensor.dtype), tensor.shape))
    return tensor


# Whether functions that draw leave their tensors as they are: see nn.utils.skip_init.
_skipped: ContextVar[bool] = ContextVar("skipped", default=False)


@contextlib.contextmanager
def _skipping() -> Iterator[None]:
    token = _skipped.set(True)
    try:
        yield
    finally:
        _skipped.reset(token)


def _draw(
    tensor: T, distribution: str, factor: float, shift: float, generator: Generator | None, who: str
) -> T:
    """Fill with drawn numbers, in float32 if that is the tensor's dtype, scaled and shifted."""
    if _skipped.get():
        return tensor
    dtype = np.float32 if tensor.dtype == np.float32 else np.float64
    draw = getattr(generator or _random.generator(), distribution)
    return _fill(tensor, draw(tensor.shape, dtype=dtype) * factor + shift, who)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor by which a layer's standard deviation must grow before a nonlinearity.

    Args:
        nonlinearity: ``"linear"``, ``"conv2d"`` and such, ``"sigmoid"`` (1), ``"tanh"`` (5/3),
            ``"relu"`` (√2), ``"leaky_relu"`` (√(2 / (1 + slope²))) or ``"selu"`` (3/4).
        param: the slope of ``"leaky_relu"``, by default 0.01.

    Raises:
        ValueError: for another name or a slope that is no number.

    Example:
        >>> nn.init.calculate_gain("tanh") == 5 / 3
        True
        >>> nn.init.calculate_gain("leaky_relu", 1.0)
        1.0
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"calculate_gain: expected a number as negative slope, got {param!r}")
        return math.sqrt(2 / (1 + slope**2))
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
    gains |= {f"conv{d}d": 1.0 for d in (1, 2, 3)} | {f"conv_transpose{d}d": 1.0 for d in (1, 2, 3)}
    if nonlinearity not in gains:
        known = ", ".join(map(repr, [*gains, "leaky_relu"]))
        raise ValueError(f"calculate_gain: expected one of {known}, got {nonlinearity!r}")
    return gains[nonlinearity]


def _fans(tensor: Tensor, who: str) -> tuple[int, int]:
    """Return how many values each output, and each input, is connected to."""
    if tensor.ndim < 2:
        raise ValueError(
            f"{who}: expected a weight of at least two axes (out, in, …), got shape {tensor.shape}"
        )
    positions = math.prod(tensor.shape[2:])
    return tensor.shape[1] * positions, tensor.shape[0] * positions


def _fan(tensor: Tensor, mode: str, who: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{who}: expected mode 'fan_in' or 'fan_out', got {mode!r}")
    return _fans(tensor, who)[mode == "fan_out"]


def constant_(tensor: T, val: float) -> T:
    """Fill ``tensor`` with the value ``val``."""
    return _fill(tensor, val, "constant_")


def ones_(tensor: T) -> T:
    """Fill with 1."""
    return _fill(tensor, 1, "ones_")


def zeros_(tensor: T) -> T:
    """Fill with 0."""
    return _fill(tensor, 0, "zeros_")


def uniform_(tensor: T, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> T:
    """Fill with uniform values from ``[a, b)``.

    Args:
        tensor: any shape; is changed in place and returned.
        a: the smallest value.
        b: the end of the range.
        generator: a NumPy generator; lucid's own if left out.
    """
    return _draw(tensor, "random", b - a, a, generator, "uniform_")


def normal_(
    tensor: T, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> T:
    """Fill with normal values of mean ``mean`` and deviation ``std``; see :func:`uniform_`."""
    return _draw(tensor, "standard_normal", std, mean, generator, "normal_")


def trunc_normal_(
    tensor: T,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> T:
    """Fill with normal values, those outside ``[a, b]`` drawn again.

    ``a`` and ``b`` are limits for the values themselves, not multiples of ``std``; ``mean`` and
    ``std`` are those before the cut. See :func:`uniform_`.

    Raises:
        ValueError: if ``a`` is not below ``b`` or ``std`` is not positive.
    """
    if not a < b or not std > 0:
        raise ValueError(f"trunc_normal_: expected a < b and std > 0, got {a=}, {b=}, {std=}")
    if _skipped.get():
        return tensor
    rng = generator or _random.generator()
    low, high = (a - mean) / std, (b - mean) / std
    kept = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
    nearest = min(max(0.0, low), high)  # where the density is highest
    values = np.empty(tensor.data.size)
    count = 0
    while count < values.size:
        size = values.size - count
        if kept > 0.1:
            drawn = rng.standard_normal(size)
            drawn = drawn[(drawn >= low) & (drawn <= high)]
        else:  # most normal values would miss a narrow or far interval: reject uniform ones
            drawn = rng.uniform(low, min(high, low + 40) if low > 0 else high, size)
            density = np.exp((nearest**2 - drawn**2) / 2)
            drawn = drawn[rng.random(size) < density]
        values[count : count + drawn.size] = drawn
        count += drawn.size
    return _fill(tensor, (values * std + mean).clip(a, b).reshape(tensor.shape), "trunc_normal_")


def xavier_uniform_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Fill uniformly within ± gain · √(6 / (fan in + fan out)) (Glorot & Bengio 2010).

    Args:
        tensor: at least two axes; is changed in place and returned.
        gain: the factor, as of :func:`calculate_gain`.
        generator: a NumPy generator; lucid's own if left out.
    """
    fan_in, fan_out = _fans(tensor, "xavier_uniform_")
    bound = gain * math.sqrt(6 / max(1, fan_in + fan_out))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Fill with normal values, σ = gain · √(2 / (fan in + fan out)) (Glorot & Bengio 2010).

    Arguments as in :func:`xavier_uniform_`.
    """
    fan_in, fan_out = _fans(tensor, "xavier_normal_")
    return normal_(tensor, 0.0, gain * math.sqrt(2 / max(1, fan_in + fan_out)), generator)


def kaiming_uniform_(
    tensor: T,
    a: float = 0,
    mode: Fan = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> T:
    """Fill uniformly within ± gain · √(3 / fan) (He et al. 2015).

    Args:
        tensor: the weight, ``(out, in, ...)``.
        a: the negative slope of ``"leaky_relu"``.
        mode: keep the variance of the outputs (``"fan_in"``) or of the gradients (``"fan_out"``).
        nonlinearity: see :func:`calculate_gain`.
        generator: where the random numbers come from.

    Example:
        >>> weight = nn.init.kaiming_uniform_(lucid.empty(64, 6), nonlinearity="relu")
        >>> weight.shape
        (64, 6)
        >>> bool(weight.abs().max() <= 1.0)  # √2 · √(3 / 6)
        True
    """
    fan = _fan(tensor, mode, "kaiming_uniform_")
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3 / max(1, fan))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: T,
    a: float = 0,
    mode: Fan = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> T:
    """Fill with normal values, σ = gain / √fan (He et al. 2015).

    Arguments as in :func:`kaiming_uniform_`.
    """
    fan = _fan(tensor, mode, "kaiming_normal_")
    std = calculate_gain(nonlinearity, a) / math.sqrt(max(1, fan))
    return normal_(tensor, 0.0, std, generator)


def eye_(tensor: T) -> T:
    """Fill a matrix with the identity.

    Args:
        tensor: ``(m, n)``; is changed in place and returned.

    Raises:
        ValueError: if the tensor does not have two axes.
    """
    if tensor.ndim != 2:
        raise ValueError(f"eye_: expected a matrix, got shape {tensor.shape}")
    return _fill(tensor, np.eye(tensor.shape[0], tensor.shape[1]), "eye_")


def dirac_(tensor: T, groups: int = 1) -> T:
    """Fill a convolution's weight so that it passes its input channels on unchanged.

    Args:
        tensor: ``(O, I / groups, ...)`` with one to three further axes; is changed in place
            and returned.
        groups: each group is filled for itself.

    Raises:
        ValueError: if the tensor does not have three to five axes, or ``groups`` does not
            divide the output channels.
    """
    if not 3 <= tensor.ndim <= 5:
        raise ValueError(f"dirac_: expected three to five axes, got shape {tensor.shape}")
    if groups < 1 or tensor.shape[0] % groups:
        raise ValueError(f"dirac_: groups must divide {tensor.shape[0]}, got {groups}")
    values = np.zeros(tensor.shape, tensor.dtype)
    out_channels = tensor.shape[0] // groups
    centre = tuple(size // 2 for size in tensor.shape[2:])
    for channel in range(min(out_channels, tensor.shape[1])):
        place: Any = (slice(channel, None, out_channels), channel, *centre)
        values[place] = 1
    return _fill(tensor, values, "dirac_")


def orthogonal_(tensor: T, gain: float = 1, generator: Generator | None = None) -> T:
    """Fill with ``gain`` times a random orthogonal matrix (Saxe et al. 2013).

    All axes but the first, which are at least one, count as one. See :func:`uniform_`.

    Raises:
        ValueError: if the tensor has fewer than two axes.
    """
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: expected at least two axes, got shape {tensor.shape}")
    if tensor.data.size == 0 or _skipped.get():
        return tensor
    rows, columns = tensor.shape[0], tensor.data.size // tensor.shape[0]
    rng = generator or _random.generator()
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # otherwise not uniform among orthogonal matrices
    values = q.T if rows < columns else q
    return _fill(tensor, gain * values.reshape(tensor.shape), "orthogonal_")


def sparse_(tensor: T, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> T:
    """Fill a matrix with normal values, a fraction ``sparsity`` of each column 0 (Martens 2010).

    Args:
        tensor: ``(m, n)``; is changed in place and returned.
        sparsity: the share of zeros, between 0 and 1.
        std: the standard deviation of the others.
        generator: a NumPy generator; lucid's own if left out.

    Raises:
        ValueError: if the tensor does not have two axes.
    """
    if tensor.ndim != 2:
        raise ValueError(f"sparse_: expected a matrix, got shape {tensor.shape}")
    if _skipped.get():
        return tensor
    rng = generator or _random.generator()
    rows, columns = tensor.shape
    values = rng.standard_normal((rows, columns)) * std
    zeros = math.ceil(sparsity * rows)
    for column in range(columns):
        values[rng.permutation(rows)[:zeros], column] = 0
    return _fill(tensor, values, "sparse_")


_name_errors(globals())
