"""Adadelta, ASGD and Rprop, which find the length of their steps themselves."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lucid.optim import _settings
from lucid.optim._by_formula import ByFormula, move, rounded
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


class ASGD(ByFormula):
    r"""Gradient descent that keeps the average of the parameters (Polyak & Juditsky, 1992).

    .. math::
        \theta \leftarrow (1 - \lambda \eta) \theta - \eta g, \qquad
        \eta = \gamma / (1 + \lambda \gamma t)^\alpha

    The state holds the average, as ``ax``: of the steps from ``t0`` on.

    Args:
        params: the tensors to optimise, ``(name, tensor)`` pairs, or groups of them.
        lr: the first step length :math:`\gamma`.
        lambd: the decay :math:`\lambda`.
        alpha: how fast the steps become shorter.
        t0: the step from which on to average.
        weight_decay: L2 penalty, added to the gradient.
        maximize: ascend instead.
    """

    numbers = ("lr", "weight_decay")
    state_names = ("step", "eta", "mu", "ax")
    number_names = ("eta", "mu")
    firsts: ClassVar = {"eta": lambda group: rounded(group["lr"]), "mu": lambda group: 1.0}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, given(locals()))

    def direction(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> Array:
        lambd, lr, eta, mean = group["lambd"], group["lr"], state["eta"], state["ax"]
        step = eta * (g + lambd * p)
        mean += (p - step - mean) * state["mu"]
        state["eta"] = rounded(lr / (1 + lambd * lr * state["step"]) ** group["alpha"])
        state["mu"] = rounded(1 / max(1, state["step"] - group["t0"]))
        return step


class Rprop(ByFormula):
    """Steps by the sign of the gradient, of a length for each element (Riedmiller & Braun, 1993).

    A length grows while the sign stays, and shrinks when it turns. It is for gradients of the
    whole data set.

    Args:
        params: the tensors to optimise, ``(name, tensor)`` pairs, or groups of them.
        lr: the first length.
        etas: by what lengths are multiplied when they shrink and grow.
        step_sizes: the least and the largest length.
        maximize: ascend instead.
    """

    numbers = ("lr",)
    state_names = ("step", "prev", "step_size")
    firsts: ClassVar = {"step_size": lambda group: group["lr"]}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, given(locals()))

    def _check_settings(self, group: Group) -> None:
        super()._check_settings(group)
        for name in ("etas", "step_sizes"):
            _settings.pair("Rprop", name, group[name], _settings.not_negative)
        if not 0 < group["etas"][0] < 1 < group["etas"][1]:
            raise ValueError(f"Rprop: etas must be below and above 1, got {group['etas']}")

    def direction(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> Array:
        turned = g * state["prev"]
        less, more = group["etas"]
        factors = np.where(turned > 0, more, np.where(turned < 0, less, 1))
        length = state["step_size"]
        np.clip(length * factors, *group["step_sizes"], out=length, casting="same_kind")
        np.copyto(state["prev"], np.where(turned < 0, 0, g))
        return np.sign(state["prev"]) * length
