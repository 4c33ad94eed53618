"""Activation layers: each calls the function of its name."""

from __future__ import annotations

from typing import Any

from lucid.autograd import Tensor
from lucid.nn.modules._module import Module
from lucid.ops import _activation as ops


class _Inplace(Module):
    """An activation with PyTorch's ``inplace``, which is accepted and has no effect."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return "inplace=True" if self.inplace else ""


class ReLU(_Inplace):
    """max(x, 0); see :func:`lucid.nn.functional.relu`."""

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return ops.relu(input)


class ReLU6(_Inplace):
    """min(max(x, 0), 6); see :func:`lucid.nn.functional.relu6`."""

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return ops.relu6(input)
