"""Gradient descent with momentum."""

from __future__ import annotations

from typing import ClassVar

from lucid.autograd import Tensor
from lucid.optim._optimizer import Group, Optimizer, Params
from lucid.optim._settings import given


class SGD(Optimizer):
    r"""Gradient descent, with momentum if asked for.

    With :math:`g` the gradient plus ``weight_decay`` times the parameter :math:`\theta`,

    .. math::
        b \leftarrow \mu b + (1 - \tau) g, \qquad
        \theta \leftarrow \theta - \gamma\, b

    where :math:`\gamma` is ``lr``, :math:`\mu` is ``momentum`` (the weight of the old buffer) and
    :math:`\tau` is ``dampening``. The first buffer is :math:`g` itself. With ``nesterov`` the step
    is :math:`g + \mu b` instead of :math:`b`. As in PyTorch, ``lr`` multiplies the buffer when it
    is applied, not when it is filled (Sutskever et al. 2013 do the latter).

    Args:
        params: the tensors to optimise, ``(name, tensor)`` pairs, or groups of them.
        lr: the step length.
        momentum: the weight of the old buffer; 0 keeps none.
        dampening: how much less the new gradient counts.
        weight_decay: L2 penalty.
        nesterov: look one step ahead; needs a momentum and no dampening.
        maximize: ascend instead.

    Example:
        >>> x = lucid.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = optim.SGD([x], lr=0.25)
        >>> (x * x).sum().backward()  # the gradient is 2x
        >>> optimizer.step()
        >>> x.tolist()
        [0.5, -1.0]
        >>> optimizer.zero_grad()
        >>> x.grad is None
        True
    """

    kind = "sgd"
    numbers = ("lr", "momentum", "weight_decay")
    state_names = ("momentum_buffer",)
    optional_names: ClassVar = {"momentum_buffer": lambda group: group["momentum"] != 0}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, given(locals()))

    def _check_settings(self, group: Group) -> None:
        super()._check_settings(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                "SGD: nesterov needs a momentum above 0 and a dampening of 0, got "
                f"momentum={group['momentum']}, dampening={group['dampening']}"
            )

    def _count(self, params: list[Tensor]) -> list[int]:
        # As in PyTorch the state has no count: only the first step, without a buffer, is special.
        return [2 if "momentum_buffer" in self.state.get(p, {}) else 1 for p in params]
