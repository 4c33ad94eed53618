"""Adam and AdamW."""

from __future__ import annotations

from typing import ClassVar

from lucid.optim._optimizer import Optimizer, Params
from lucid.optim._settings import given


class Adam(Optimizer):
    r"""Adam (Kingma & Ba, 2015, https://arxiv.org/abs/1412.6980).

    With :math:`g` the gradient plus ``weight_decay`` times the parameter :math:`\theta`, at step
    :math:`t`, counted from 1,

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad
        v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \qquad
        \theta \leftarrow \theta - \gamma\,
        \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    so ``eps`` stands outside of the root. With ``amsgrad`` the largest :math:`v` so far stands in
    the root (Reddi et al., 2018, https://arxiv.org/abs/1904.09237; as in PyTorch the largest is
    taken before the bias is corrected).

    Args:
        params: the tensors to optimise, ``(name, tensor)`` pairs, or groups of them.
        lr: the step length :math:`\gamma`.
        betas: the weights :math:`\beta_1, \beta_2` of the old means.
        eps: keeps the quotient finite.
        weight_decay: L2 penalty, added to the gradient.
        amsgrad: divide by the largest root so far.
        maximize: ascend instead.
        decoupled_weight_decay: shrink the parameters themselves, as :class:`AdamW` does.
    """

    kind = "adam"
    numbers = ("lr", "eps", "weight_decay")
    state_names = ("step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    optional_names: ClassVar = {"max_exp_avg_sq": lambda group: group["amsgrad"]}

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(params, given(locals()))


class AdamW(Adam):
    r"""Adam with decoupled weight decay (Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101).

    Like :class:`Adam`, but the parameter itself shrinks, :math:`\theta \leftarrow (1 - \gamma
    \lambda)\theta`, instead of its gradient growing. As in PyTorch the decay :math:`\lambda` is
    multiplied by the current ``lr``; in the paper it is multiplied by the schedule alone.

    Args:
        params: the tensors to optimise, ``(name, tensor)`` pairs, or groups of them.
        lr: the step length :math:`\gamma`.
        betas: the weights of the old means.
        eps: keeps the quotient finite.
        weight_decay: the decay :math:`\lambda`.
        amsgrad: divide by the largest root so far.
        maximize: ascend instead.

    Example:
        >>> x = lucid.tensor([1.0, -1.0], requires_grad=True)
        >>> optimizer = optim.AdamW([x], lr=0.1, weight_decay=0.0)
        >>> (x * lucid.tensor([5.0, 0.01])).sum().backward()
        >>> optimizer.step()
        >>> [round(v, 3) for v in x.tolist()]  # the first step is lr, whatever the gradient's size
        [0.9, -1.1]
        >>> [group["betas"] for group in optimizer.param_groups]
        [(0.9, 0.999)]
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
        )
