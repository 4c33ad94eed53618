"""The base of optimisers that are rarely used: their steps are formulas in NumPy.

The others have kernels, which take all parameters at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from lucid.autograd import Tensor
from lucid.optim._optimizer import Array, Group, Optimizer


class ByFormula(Optimizer):
    """An optimiser that says by :meth:`direction` what is subtracted from a parameter."""

    # What arrays and numbers of the state begin with, where that is not 0.
    firsts: ClassVar[Mapping[str, Callable[[Group], float]]] = {}

    def direction(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> Array:
        """Return the step from a parameter's value and gradient; the state is changed in place."""
        raise NotImplementedError

    def _update(self, group: Group, params: list[Tensor]) -> None:
        for param in params:
            self._count([param])
            p, state = param.data, self.state[param]
            for name in self.state_names:
                first = self.firsts[name](group) if name in self.firsts else 0
                if name in self.number_names:
                    state.setdefault(name, first)
                elif name != "step":
                    self._arrays([param], name, first)
            g = param.grad.data.astype(p.dtype, copy=False)  # type: ignore[union-attr]
            g = -g if group.get("maximize") else g
            decay = group["weight_decay"] if "weight_decay" in self.numbers else 0
            if decay != 0 and group.get("decoupled_weight_decay"):
                p *= 1 - group["lr"] * decay
            elif decay != 0:
                g = g + decay * p
            p -= self.direction(p, g, state, group)


def move(mean: Array, values: Array, beta: float) -> Array:
    """Move a running mean, in which the old one has the weight ``beta``, and return it."""
    mean += (values - mean) * (1 - beta)
    return mean


def rounded(number: float) -> float:
    """Return a number of the state as PyTorch keeps it: in float32, whatever the parameter is."""
    return float(np.float32(number))
