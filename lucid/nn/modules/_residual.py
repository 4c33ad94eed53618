"""What blocks with a way past them are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lucid import ops
from lucid.autograd import Tensor
from lucid.nn.functional import dropout
from lucid.nn.modules._rows import InSteps


class Residual(InSteps):
    """Modules one after the other, to whose output the input is added if ``use_residual`` is true.

    A subclass says which ones by :meth:`branch`.
    """

    use_residual: bool
    drop_path: float = 0.0  # how likely a sample goes past them in training

    def branch(self) -> Sequence[Callable[[Any], Any]]:
        """Return the modules, in the order of their calls."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the output ``(N, C, H, W)`` of the last module, with the input added to it."""
        return joined(self, x, self._in_steps(x))

    def _parts(self) -> tuple[Any, ...]:
        return tuple(self.branch())

    def _adds(self) -> bool | None:
        is_plain = type(self).forward is Residual.forward and not self.training
        return self.use_residual if is_plain else None


def joined(block: Residual, x: Tensor, y: Tensor) -> Tensor:
    """Return a block's output, given its input and what its modules made of it.

    Stochastic depth (Huang et al. 2016) multiplies what is kept by ``1 / (1 - drop_path)``.
    """
    if not block.use_residual:
        return y
    if block.training and block.drop_path:
        y = y * dropout(ops.ones(len(y), 1, 1, 1, dtype=y.dtype), block.drop_path)
    return x + y
