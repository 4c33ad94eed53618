"""Adagrad."""

from __future__ import annotations

from lucid.optim._optimizer import Group, Optimizer, Params
from lucid.optim._settings import given


class Adagrad(Optimizer):
    r"""Adagrad (Duchi et al., 2011, https://jmlr.org/papers/v12/duchi11a.html).

    With :math:`g` the gradient plus ``weight_decay`` times the parameter :math:`\theta`, at step
    :math:`t`, counted from 1, and the decay :math:`\eta` of the step length,

    .. math::
        s \leftarrow s + g^2, \qquad
        \theta \leftarrow \theta - \frac{\gamma}{1 + (t - 1)\eta}\,
        \frac{g}{\sqrt{s} + \epsilon}

    Args:
        params: the tensors to optimise, ``(name, tensor)`` pairs, or groups of them.
        lr: the step length :math:`\gamma`.
        lr_decay: the decay :math:`\eta` of the step length.
        weight_decay: L2 penalty, added to the gradient.
        initial_accumulator_value: what the sum of squares starts with.
        eps: keeps the quotient finite.
        maximize: ascend instead.
    """

    kind = "adagrad"
    numbers = ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")
    state_names = ("step", "sum")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, given(locals()))

    def _first_value(self, group: Group) -> float:
        return group["initial_accumulator_value"]
