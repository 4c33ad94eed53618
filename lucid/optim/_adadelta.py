"""The Adadelta optimiser."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.optim import _settings
from lucid.optim._by_formula import ByFormula, move
from lucid.optim._optimizer import Array, Group, Params
from lucid.optim._settings import given


class Adadelta(ByFormula):
    r"""Steps as long as those before, relative to the gradient (Zeiler, 2012).

    .. math::
        v \leftarrow \rho v + (1 - \rho) g^2, \qquad
        d = \sqrt{\frac{u + \epsilon}{v + \epsilon}}\, g, \qquad
        u \leftarrow \rho u + (1 - \rho) d^2, \qquad
        \theta \leftarrow \theta - \gamma d

    Args:
        params: the tensors to optimise, ``(name, tensor)`` pairs, or groups of them.
        lr: multiplies the step.
        rho: the weight of the old means.
        eps: what the first steps are made of.
        weight_decay: L2 penalty, added to the gradient.
        maximize: ascend instead.
    """

    numbers = ("lr", "eps", "weight_decay")
    state_names = ("step", "square_avg", "acc_delta")

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, given(locals()))

    def _check_settings(self, group: Group) -> None:
        super()._check_settings(group)
        _settings.part("Adadelta", "rho", group["rho"])

    def direction(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> Array:
        rho, eps, steps = group["rho"], group["eps"], state["acc_delta"]
        square = move(state["square_avg"], g * g, rho)
        delta = np.sqrt(steps + eps) / np.sqrt(square + eps) * g
        move(steps, delta * delta, rho)
        return group["lr"] * delta
