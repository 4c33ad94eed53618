"""RMSprop."""

from __future__ import annotations

from typing import ClassVar

from lucid.optim._optimizer import Optimizer, Params
from lucid.optim._settings import given


class RMSprop(Optimizer):
    r"""RMSprop (Hinton, 2012; the centred form by Graves, 2013, https://arxiv.org/abs/1308.0850).

    With :math:`g` the gradient plus ``weight_decay`` times the parameter :math:`\theta`,

    .. math::
        v \leftarrow \alpha v + (1 - \alpha) g^2, \qquad
        b \leftarrow \mu b + \frac{g}{\sqrt{v} + \epsilon}, \qquad
        \theta \leftarrow \theta - \gamma\, b

    With ``centered``, :math:`v` less the square of the mean gradient stands in the root. As in
    PyTorch, ``eps`` stands outside of the root; TensorFlow has it inside.

    Args:
        params: the tensors to optimise, ``(name, tensor)`` pairs, or groups of them.
        lr: the step length :math:`\gamma`.
        alpha: the weight :math:`\alpha` of the old mean.
        eps: keeps the quotient finite.
        weight_decay: L2 penalty, added to the gradient.
        momentum: the weight :math:`\mu` of the old buffer.
        centered: divide by the standard deviation of the gradient.
        maximize: ascend instead.
    """

    kind = "rmsprop"
    numbers = ("lr", "alpha", "eps", "weight_decay", "momentum")
    state_names = ("step", "square_avg", "grad_avg", "momentum_buffer")
    optional_names: ClassVar = {
        "grad_avg": lambda group: group["centered"],
        "momentum_buffer": lambda group: group["momentum"] > 0,
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, given(locals()))
