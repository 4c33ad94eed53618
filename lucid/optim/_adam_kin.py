"""Kin of Adam: Adamax, NAdam and RAdam; and Lion."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from lucid.optim._by_formula import ByFormula, move, rounded
from lucid.optim._optimizer import Array, Group, Params
from lucid.optim._settings import given


class Adamax(ByFormula):
    r"""Adam with the largest gradient :math:`u` in place of a root (Kingma & Ba, 2015, section 7).

    .. math::
        u \leftarrow \max(\beta_2 u, |g| + \epsilon), \qquad
        \theta \leftarrow \theta - \frac{\gamma}{1 - \beta_1^t} \frac{m}{u}

    The arguments are those of :class:`Adam`.
    """

    numbers = ("lr", "eps", "weight_decay")
    state_names = ("step", "exp_avg", "exp_inf")

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, given(locals()))

    def direction(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> Array:
        beta1, beta2 = group["betas"]
        mean, largest = move(state["exp_avg"], g, beta1), state["exp_inf"]
        np.maximum(largest * beta2, np.abs(g) + group["eps"], out=largest)
        return group["lr"] / (1 - beta1 ** state["step"]) * (mean / largest)


class NAdam(ByFormula):
    r"""Adam with Nesterov's momentum (Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ).

    The weight of the old mean rises, as :math:`\mu_t = \beta_1 (1 - 0.96^{t \psi} / 2)`:

    .. math::
        \theta \leftarrow \theta - \gamma \left(
        \frac{(1 - \mu_t)\, g}{1 - \prod_{i \le t} \mu_i} +
        \frac{\mu_{t+1}\, m}{1 - \prod_{i \le t + 1} \mu_i} \right) /
        \left( \sqrt{v / (1 - \beta_2^t)} + \epsilon \right)

    The arguments are those of :class:`Adam`, and ``momentum_decay``, which is :math:`\psi`.
    """

    numbers = ("lr", "eps", "weight_decay", "momentum_decay")
    state_names = ("step", "mu_product", "exp_avg", "exp_avg_sq")
    number_names = ("mu_product",)
    firsts: ClassVar = {"mu_product": lambda group: 1.0}

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, given(locals()))

    def direction(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> Array:
        (beta1, beta2), step, lr = group["betas"], state["step"], group["lr"]
        now, after = (
            beta1 * (1 - 0.5 * 0.96 ** (count * group["momentum_decay"]))
            for count in (step, step + 1)
        )
        product = state["mu_product"] = rounded(state["mu_product"] * rounded(now))
        mean, square = move(state["exp_avg"], g, beta1), move(state["exp_avg_sq"], g * g, beta2)
        root = np.sqrt(square / (1 - beta2**step)) + group["eps"]
        new, old = lr * (1 - now) / (1 - product), lr * after / (1 - product * after)
        return (new * g + old * mean) / root


class RAdam(ByFormula):
    r"""Adam that divides by the root only once its variance is known (Liu et al., 2020).

    With :math:`\rho_\infty = 2 / (1 - \beta_2) - 1` and :math:`\rho_t = \rho_\infty - 2 t
    \beta_2^t / (1 - \beta_2^t)`, a step of :class:`Adam` is multiplied by

    .. math:: \sqrt{\frac{(\rho_t - 4)(\rho_t - 2)\rho_\infty}
        {(\rho_\infty - 4)(\rho_\infty - 2)\rho_t}}

    if :math:`\rho_t > 5`, and has no root otherwise. The arguments are those of :class:`Adam`.
    See https://arxiv.org/abs/1908.03265.
    """

    numbers = ("lr", "eps", "weight_decay")
    state_names = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, given(locals()))

    def direction(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> Array:
        (beta1, beta2), step = group["betas"], state["step"]
        mean, square = move(state["exp_avg"], g, beta1), move(state["exp_avg_sq"], g * g, beta2)
        mean = mean * (group["lr"] / (1 - beta1**step))
        most, rest = 2 / (1 - beta2) - 1, 1 - beta2**step
        known = most - 2 * step * beta2**step / rest
        if known <= 5:
            return mean
        ratio = (known - 4) * (known - 2) * most / ((most - 4) * (most - 2) * known)
        return mean * math.sqrt(ratio * rest) / (np.sqrt(square) + group["eps"])


class Lion(ByFormula):
    r"""Steps along the sign of a mean of gradients (Chen et al., 2023, https://arxiv.org/abs/2302.06675).

    .. math::
        \theta \leftarrow (1 - \gamma \lambda)\, \theta -
        \gamma\, \mathrm{sign}(\beta_1 m + (1 - \beta_1) g), \qquad
        m \leftarrow \beta_2 m + (1 - \beta_2) g

    PyTorch has none.

    Args:
        params: the tensors to optimise, ``(name, tensor)`` pairs, or groups of them.
        lr: the step length, three to ten times smaller than Adam's: all steps have it.
        betas: the weights of the old mean in the step, and in the next mean.
        weight_decay: the decay :math:`\lambda`, as much larger than Adam's.
        maximize: ascend instead.
    """

    numbers = ("lr", "weight_decay")
    state_names = ("step", "exp_avg")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {**given(locals()), "decoupled_weight_decay": True})

    def direction(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> Array:
        (beta1, beta2), mean = group["betas"], state["exp_avg"]
        sign = np.sign(mean + (g - mean) * (1 - beta1))
        move(mean, g, beta2)
        return group["lr"] * sign
