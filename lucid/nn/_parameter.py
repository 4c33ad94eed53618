"""Parameter: the tensor that a module learns; and how the values of tensors are replaced."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Tensor, no_grad
from lucid.autograd._tensor import assign, wrap


class Parameter(Tensor):
    """A tensor that a :class:`~lucid.nn.Module` registers as soon as it becomes its attribute.

    Args:
        data: a tensor, whose memory and dtype the parameter then shares, or anything that
            :class:`~lucid.autograd.Tensor` takes, which is copied.
        requires_grad: whether it is to be learned.

    Example:
        >>> layer = nn.Module()
        >>> layer.scale = nn.Parameter([2.0])
        >>> list(layer.state_dict())
        ['scale']
        >>> layer.scale.requires_grad
        True
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        if isinstance(data, Tensor):
            self._share(data)
        else:
            super().__init__(data)
        self.requires_grad = requires_grad

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


def overwrite(tensor: Tensor, values: np.ndarray) -> None:
    """Copy an array into a tensor of its shape, without recording that."""
    with no_grad():
        assign(tensor, wrap(values))
