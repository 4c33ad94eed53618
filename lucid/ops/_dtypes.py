"""Questions about dtypes: in which one values combine, and which one is the default."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Tensor
from lucid.autograd._dtype import DEFAULT_DTYPE, RANKS, as_dtype
from lucid.ops._common import common_dtype, higher_dtype, operand

__all__ = [
    "can_cast", "get_default_dtype", "is_tensor", "promote_types", "result_type",
    "set_default_dtype",
]  # fmt: skip


def is_tensor(obj: Any) -> bool:
    """Return whether ``obj`` is a tensor."""
    return isinstance(obj, Tensor)


def result_type(tensor: Any, other: Any) -> np.dtype[Any]:
    """Return the dtype of what is computed from two tensors or numbers."""
    values = [
        v if isinstance(v, (int, float)) else operand(v, "result_type") for v in (tensor, other)
    ]
    return common_dtype(*values)


def promote_types(type1: Any, type2: Any) -> np.dtype[Any]:
    """Return the dtype of what is computed from tensors of ``type1`` and of ``type2``."""
    return higher_dtype(as_dtype(type1, "promote_types"), as_dtype(type2, "promote_types"))


def can_cast(from_: Any, to: Any) -> bool:
    """Return whether values may take another dtype: ``to`` is of no lower kind than ``from_``.

    The kinds rise from boolean over integer to floating.
    """
    return RANKS[as_dtype(from_, "can_cast").kind] <= RANKS[as_dtype(to, "can_cast").kind]


def get_default_dtype() -> np.dtype[Any]:
    """Return the dtype of tensors made from Python's floats: float32."""
    return DEFAULT_DTYPE


def set_default_dtype(d: Any) -> None:
    """Accept float32, which is always the default.

    Raises:
        ValueError: for another dtype.
    """
    if as_dtype(d, "set_default_dtype") != DEFAULT_DTYPE:
        raise ValueError(
            f"set_default_dtype: the default is always {DEFAULT_DTYPE}, got {np.dtype(d)}; give "
            "dtype= where a tensor is made, or convert it, such as with double()"
        )
