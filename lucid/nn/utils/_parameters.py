"""Tools for parameters and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.nn import init
from lucid.nn._parameter import overwrite
from lucid.nn.modules._module import Module
from lucid.ops._join import cat

__all__ = [
    "clip_grad_norm_", "clip_grad_value_", "get_total_norm", "parameters_to_vector", "skip_init",
    "vector_to_parameters",
]  # fmt: skip

M = TypeVar("M", bound=Module)


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [tensor.grad for tensor in tensors if tensor.grad is not None]


@np.errstate(all="ignore")
def get_total_norm(tensors: Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    """Return the norm of all tensors taken as one vector, summed in float64.

    Args:
        tensors: of any shapes.
        norm_type: the exponent p; ``float("inf")`` gives the largest absolute value.
    """
    arrays = [np.abs(tensor.data.ravel(order="K")) for tensor in tensors]
    arrays = [array for array in arrays if array.size]
    if not arrays:
        total = 0.0
    elif norm_type == math.inf:
        total = max(float(array.max()) for array in arrays)
    elif norm_type == 2:
        total = math.sqrt(sum(_square_sum(array) for array in arrays))
    else:
        total = sum(float(np.sum(array**norm_type, dtype=np.float64)) for array in arrays)
        total **= 1 / norm_type
    return wrap(np.array(total, arrays[0].dtype if arrays else np.float32))


# Squares that BLAS adds up in float32: the norm of 1,280,000 equal numbers was 1e-4 too small.
_BLOCK = 1 << 14


def _square_sum(array: np.ndarray) -> float:
    # Only where float32 overflows, or may have lost small squares, is the slower sum needed.
    parts = [array[start : start + _BLOCK] for start in range(0, array.size, _BLOCK)]
    total = sum(float(np.dot(part, part)) for part in parts)
    return total if 1e-20 < total < 1e30 else float(np.sum(array.astype(np.float64) ** 2))


@np.errstate(all="ignore")
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale the gradients down, in place, so that their common norm is at most ``max_norm``.

    Args:
        parameters: whose gradients; those without one are passed over.
        max_norm: the largest norm allowed.
        norm_type: the exponent p of the norm; ``float("inf")`` for the largest absolute value.
        error_if_nonfinite: raise if the norm is infinite or NaN.

    Returns:
        The norm as it was before.

    Raises:
        RuntimeError: if the norm is not finite and that is asked for; nothing is changed then.

    Example:
        >>> x = lucid.tensor([3.0, 4.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> nn.utils.clip_grad_norm_(x, max_norm=5.0)
        tensor(10.)
        >>> [round(v, 4) for v in x.grad.tolist()]
        [3.0, 4.0]
    """
    gradients = _gradients(parameters)
    total = get_total_norm(gradients, norm_type)
    if error_if_nonfinite and not np.isfinite(total.data):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {total.item()}")
    factor = float(max_norm) / (float(total) + 1e-6)
    if not factor >= 1:  # also for NaN, which spreads to all gradients as in PyTorch
        for gradient in gradients:
            overwrite(gradient, gradient.data * gradient.dtype.type(factor))
    return total


@np.errstate(all="ignore")
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit each element of the gradients, in place, to ``[-clip_value, clip_value]``.

    Args:
        parameters: one parameter or several; those without a gradient are passed over.
        clip_value: the largest absolute value.
    """
    limit = float(clip_value)
    for gradient in _gradients(parameters):
        overwrite(gradient, np.clip(gradient.data, -limit, limit))


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """Return all parameters, flattened, in one tensor ``(P,)``.

    Args:
        parameters: of any shapes, P elements altogether.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> vector = nn.utils.parameters_to_vector(layer.parameters())
        >>> vector.shape
        (8,)
        >>> nn.utils.vector_to_parameters(vector.abs() * 0, layer.parameters())
        >>> layer.bias.tolist()
        [0.0, 0.0]
    """
    return cat([parameter.reshape(-1) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy the parts of ``(P,)`` into the parameters: undoes :func:`parameters_to_vector`.

    Args:
        vec: ``(P,)``.
        parameters: of any shapes, P elements altogether; they are changed in place.

    Raises:
        ValueError: if the vector's length is not the parameters' total; nothing is changed then.
    """
    targets = list(parameters)
    total = sum(parameter.data.size for parameter in targets)
    values = vec.data if isinstance(vec, Tensor) else np.asarray(vec)
    if values.shape != (total,):
        raise ValueError(
            f"vector_to_parameters: expected a vector of shape ({total},), got {values.shape}"
        )
    start = 0
    for parameter in targets:
        part = values[start : start + parameter.data.size]
        overwrite(parameter, part.reshape(parameter.shape).astype(parameter.dtype))
        start += parameter.data.size


def skip_init(module_cls: Callable[..., M], *args: Any, **kwargs: Any) -> M:
    """Build a module without drawing its random weights, which are to be loaded: they are 0.

    lucid's generator stays as it is. Unlike PyTorch, any function that builds a module will do.

    Args:
        module_cls: a class or function that returns a module.
        *args: for it.
        **kwargs: for it.

    Example:
        >>> layer = nn.utils.skip_init(nn.Linear, 2, 1)
        >>> layer.weight.tolist()
        [[0.0, 0.0]]
        >>> model = nn.utils.skip_init(models.create_model, "mobilenetv4_conv_large")
    """
    with init._skipping():
        return module_cls(*args, **kwargs)
