"""PyTorch's arguments as lucid's: tensors of the same values, dtypes, names and positions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

import lucid
from lucid import nn
from lucid.nn import functional

DTYPES = {
    torch.float16: np.float16,
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int8: np.int8,
    torch.int16: np.int16,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}


# What an argument says of the machine is PyTorch's affair.
MACHINE = ("device", "layout", "memory_format", "pin_memory", "non_blocking")


class AbsentError(Exception):
    """A feature that lucid does not have; the message names it."""


def strided(array: np.ndarray) -> np.ndarray:
    """Return the values with a gap after each, the axes in memory from the last to the first."""
    wide = np.zeros((*array.shape[::-1], 2), array.dtype)
    view = wide[..., 0].T
    view[...] = array
    return view


def backwards(array: np.ndarray) -> np.ndarray:
    """Return the values as they are, in memory that runs backwards along each axis."""
    flipped = (slice(None, None, -1),) * array.ndim
    return np.array(array[flipped], order="C")[flipped] if array.ndim else array.copy()


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "contiguous": lambda array: np.array(array, order="C"),
    "strided": strided,
    "backwards": backwards,
}


def some_layouts(number: int, whole: bool) -> tuple[str, ...]:
    """Return the layouts to try a sample in: the others by turns."""
    other = ("strided", "backwards")[number % 2]
    if whole:
        return "contiguous", other
    return ("contiguous",) if number % 4 < 2 else (other,)


def dtype_of(dtype: torch.dtype) -> Any:
    """Return the NumPy dtype for PyTorch's."""
    if dtype not in DTYPES:
        raise AbsentError(str(dtype).removeprefix("torch."))
    return np.dtype(DTYPES[dtype])


class Converter:
    """Makes lucid's values of PyTorch's, and keeps those that require a gradient in ``leaves``."""

    def __init__(self, layout: str = "contiguous") -> None:
        self.layout = LAYOUTS[layout]
        self.leaves: list[lucid.Tensor] = []

    def __call__(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self.tensor(value)
        if isinstance(value, torch.dtype):
            return dtype_of(value)
        if isinstance(value, torch.device):
            return lucid.device(str(value))
        if isinstance(value, (torch.memory_format, torch.layout)):
            raise AbsentError(type(value).__name__)
        if isinstance(value, complex):
            raise AbsentError("complex64")
        if isinstance(value, torch.nn.TransformerEncoderLayer):
            return encoder_layer(value)
        if isinstance(value, torch.nn.PairwiseDistance):
            return nn.PairwiseDistance(value.norm, value.eps, value.keepdim)
        name = getattr(value, "__name__", "")
        if callable(value) and value is getattr(torch.nn.functional, name, None):
            return getattr(functional, name)
        if isinstance(value, slice):
            return slice(self(value.start), self(value.stop), self(value.step))
        if isinstance(value, dict):
            return {key: self(item) for key, item in value.items() if key not in MACHINE}
        if isinstance(value, (tuple, list)):
            items = [self(item) for item in value]
            return items if isinstance(value, list) else tuple(items)
        return value

    def tensor(self, value: torch.Tensor) -> lucid.Tensor:
        if value.layout is not torch.strided:
            raise AbsentError("layout")
        dtype_of(value.dtype)
        if value.ndim > 64:
            raise AbsentError("more than 64 axes")
        array = value.numpy(force=True)
        tensor = lucid.from_numpy(self.layout(array))
        if value.requires_grad:
            tensor.requires_grad_()
            self.leaves.append(tensor)
        return tensor


def encoder_layer(theirs: torch.nn.TransformerEncoderLayer) -> nn.TransformerEncoderLayer:
    """Return lucid's layer with the settings of PyTorch's."""
    attention, linear = theirs.self_attn, theirs.linear1
    return nn.TransformerEncoderLayer(
        linear.in_features,
        attention.num_heads,
        linear.out_features,
        theirs.dropout.p,
        getattr(functional, theirs.activation.__name__),
        theirs.norm1.eps,
        attention.batch_first,
        theirs.norm_first,
        linear.bias is not None,
    )


def leaves_of(value: Any) -> list[torch.Tensor]:
    """Return the tensors in ``value`` that require a gradient, in the converter's order."""
    if isinstance(value, torch.Tensor):
        return [value] if value.requires_grad else []
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [leaf for item in value for leaf in leaves_of(item)]
    return []


def copied(value: Any) -> Any:
    """Return an argument that can be changed in place."""
    if isinstance(value, torch.Tensor):
        return value.clone() if value.requires_grad else value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map(copied, value))
    return value


def doubled(value: Any) -> Any:
    """Return an argument in float64."""
    if isinstance(value, torch.Tensor):
        return value.detach().double() if value.dtype.is_floating_point else value.detach().clone()
    if isinstance(value, dict):
        return {key: doubled(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)(map(doubled, value))
    return value


@cache
def _positions(name: str) -> dict[str, int]:
    """Return at which place PyTorch's function takes which argument."""
    function = getattr(torch.nn.functional, name.removeprefix("nn.functional."), None)
    places: dict[str, int] = {}
    if name.startswith("nn.functional.") and inspect.isfunction(function):
        places = {key: place for place, key in enumerate(inspect.signature(function).parameters)}
    schema_name = name.removeprefix("nn.functional.").replace(".", "_")  # linalg_norm
    for schema in torch._C._jit_get_schemas_for_operator(f"aten::{schema_name}"):
        for place, argument in enumerate(schema.arguments):
            if not argument.kwarg_only:
                places.setdefault(argument.name, place)
    return places


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def bind(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of PyTorch's function ``name`` as lucid's ``function`` takes them.

    lucid calls some arguments otherwise (``x`` for ``input``): these go by their place.

    Raises:
        AbsentError: if lucid's function does not have an argument.
    """
    parameters = list(_signature(function).parameters.values())
    names = [parameter.name for parameter in parameters]
    rest = dict(kwargs)
    kept = {key: rest.pop(key) for key in list(rest) if key in names}
    positional = list(args)
    for key in sorted(rest, key=lambda key: _positions(name).get(key, 99)):
        place = _positions(name).get(key)
        if place is None or place != len(positional) or place >= len(names):
            raise AbsentError(f"{name}({key}=)")
        if parameters[place].kind is inspect.Parameter.KEYWORD_ONLY:
            raise AbsentError(f"{name}({key}=)")
        positional.append(rest[key])
    try:
        _signature(function).bind(*positional, **kept)
    except TypeError as error:
        raise AbsentError(f"{name}: {error}") from None
    return tuple(positional), kept
