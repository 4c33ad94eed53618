"""Linear, Identity, Flatten, Unflatten."""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike

from lucid._check import count
from lucid.autograd import Tensor
from lucid.nn.modules._layer import Layer, WeightedLayer
from lucid.nn.modules._module import Module
from lucid.ops._common import operand
from lucid.ops._linear import apply_linear
from lucid.ops._shape import unflatten

__all__ = ["Flatten", "Identity", "Linear", "Unflatten"]


class Identity(Module):
    """Returns its input. Takes any arguments, so that it can stand for another layer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        """Return ``input``."""
        return input


class Linear(WeightedLayer):
    r"""Returns :math:`x W^T + b`.

    Args:
        in_features: I, the size of the input's last axis.
        out_features: O, the size of the output's.
        bias: whether to add b.
        dtype: of the parameters, float32 by default.

    Shapes: input ``(*, I)``, output ``(*, O)``, ``weight`` ``(O, I)``, ``bias`` ``(O,)``. Both
    begin uniform within ±1/√I.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> layer(lucid.ones(5, 7, 3)).shape  # any axes before the last one
        (5, 7, 2)
        >>> x = lucid.randn(4, 3)
        >>> lucid.allclose(layer(x), x @ layer.weight.T + layer.bias, atol=1e-6)
        True
    """

    _shown = ("in_features", "out_features", "bias")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.in_features = count(in_features, "in_features", "Linear", 0)
        self.out_features = count(out_features, "out_features", "Linear", 0)
        self._register_weight((self.out_features, self.in_features), bias, dtype)

    def forward(self, input: Any) -> Tensor:
        """Return ``(*, O)`` for an input ``(*, I)``."""
        return apply_linear("Linear", input, self.weight, self.bias)


class Flatten(Layer):
    """Makes one axis of ``start_dim`` to ``end_dim``, by default of all but the batch's.

    Args:
        start_dim: the first axis to join.
        end_dim: the last one.
    """

    _shown = ("start_dim", "end_dim")

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Any) -> Tensor:
        """Return the input with those axes joined."""
        return operand(input, "Flatten").flatten(self.start_dim, self.end_dim)


class Unflatten(Layer):
    """Makes several axes of one.

    Args:
        dim: the axis to split.
        unflattened_size: the new axes' sizes; one may be -1.
    """

    _shown = ("dim", "unflattened_size")

    def __init__(self, dim: int, unflattened_size: tuple[int, ...] | list[int]) -> None:
        super().__init__()
        if not isinstance(unflattened_size, (tuple, list)):
            raise TypeError(
                f"Unflatten: unflattened_size must be a tuple of sizes, got {unflattened_size!r}"
            )
        self.dim = dim
        self.unflattened_size = tuple(
            count(size, "unflattened_size", "Unflatten", -1) for size in unflattened_size
        )

    def forward(self, input: Any) -> Tensor:
        """Return the input with that axis split."""
        return unflatten(input, self.dim, self.unflattened_size)
