"""Averages of a model's weights over the steps of its training.

Names, arguments and values are those of ``torch.optim.swa_utils``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from lucid.autograd import Tensor, no_grad
from lucid.nn import Module
from lucid.nn._parameter import overwrite
from lucid.nn.modules._batch_norm import _BatchNorm
from lucid.optim import _settings
from lucid.optim._optimizer import Optimizer
from lucid.optim._schedule import LRScheduler
from lucid.optim.lr_scheduler import cosine, linear

AverageOne = Callable[[Tensor, Tensor, int], Tensor]
AverageAll = Callable[[list[Tensor], list[Tensor], int], None]


def get_ema_multi_avg_fn(decay: float = 0.999, *, warmup: bool = False) -> AverageAll:
    r"""Return what moves averages :math:`a` towards weights :math:`w`: exponential averaging.

    .. math:: a \leftarrow d\,a + (1 - d)\,w

    Args:
        decay: :math:`d`, from 0 to 1.
        warmup: let :math:`d` rise with the number of steps :math:`t`, as
            :math:`\min(1 - (1 + t)^{-2/3}, d)`: the first weights, which are bad, are then
            forgotten soon. PyTorch has none; it is the default of timm's ``use_warmup``.
    """
    _settings.part("get_ema_multi_avg_fn", "decay", decay)
    return partial(_exponential, decay, warmup)


def get_swa_multi_avg_fn() -> AverageAll:
    """Return what makes averages those of one set of weights more, each set counting the same."""
    return _equal


def get_ema_avg_fn(decay: float = 0.999) -> AverageOne:
    """Return :func:`get_ema_multi_avg_fn` for one tensor: a function that returns the average."""
    _settings.part("get_ema_avg_fn", "decay", decay)
    return partial(_exponential_of_one, decay)


def get_swa_avg_fn() -> AverageOne:
    """Return :func:`get_swa_multi_avg_fn` for one tensor: a function that returns the average."""
    return _equal_of_one


# Functions of the module, so that an AveragedModel can be pickled.


def _exponential(
    decay: float, warmup: bool, averages: list[Tensor], values: list[Tensor], count: int
) -> None:
    rate = min(decay, 1 - (1 + count) ** (-2 / 3)) if warmup else decay
    for mean, value in zip(averages, values):
        _move(mean, value, 1 - rate)


def _equal(averages: list[Tensor], values: list[Tensor], count: int) -> None:
    for mean, value in zip(averages, values):
        _move(mean, value, 1 / (count + 1))


def _exponential_of_one(decay: float, mean: Tensor, value: Tensor, count: int) -> Tensor:
    return decay * mean + (1 - decay) * value


def _equal_of_one(mean: Tensor, value: Tensor, count: int) -> Tensor:
    return mean + (value - mean) / (count + 1)


def _move(mean: Tensor, value: Tensor, share: float) -> None:
    """Move ``mean`` a share of the way to ``value``, rounded as torch.lerp is."""
    a, b = mean.data, value.data
    if a.dtype.kind == "f":
        share, rest = a.dtype.type(share), a.dtype.type(1 - share)
        overwrite(mean, a + share * (b - a) if share < 0.5 else b - (b - a) * rest)
    else:
        overwrite(mean, (a * (1 - share) + b * share).astype(a.dtype))


class AveragedModel(Module):
    """A copy of a model whose weights are an average over the steps of the training.

    It is called like the model. Such averages classify better than the last weights (Polyak &
    Juditsky 1992; Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better
    Generalization").

    Args:
        model: is copied, with its modes.
        device: None or ``"cpu"``; there as PyTorch has it.
        avg_fn: returns the new average of one tensor from the average, the value and the number
            of models averaged so far.
        multi_avg_fn: changes all averages in place, from lists of averages and of values and that
            number. Without either, all models count the same.
        use_buffers: average the running statistics of batch norms too, which otherwise are copied
            from the last model: see :func:`update_bn`.

    Attributes:
        module: the copy with the averages.
        n_averaged: the number of models averaged so far; a buffer.

    Raises:
        TypeError: if ``model`` is no module.
        ValueError: if both functions are given.

    Example:
        >>> from lucid.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
        >>> model = nn.Linear(1, 1, bias=False)
        >>> averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.75))
        >>> for weight in (4.0, 8.0):  # of two steps of a training
        ...     with lucid.no_grad():
        ...         _ = model.weight.fill_(weight)
        ...     averaged.update_parameters(model)
        >>> averaged.module.weight.item()
        5.0
        >>> averaged(lucid.tensor([[2.0]])).tolist()
        [[10.0]]
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: str | None = None,
        avg_fn: AverageOne | None = None,
        multi_avg_fn: AverageAll | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(model, Module):
            raise TypeError(f"AveragedModel: expected a module, got {type(model).__name__}")
        if str(device) not in ("None", "cpu"):
            raise ValueError(f"AveragedModel: expected device None or 'cpu', got {device!r}")
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: give avg_fn or multi_avg_fn, not both")
        self.module = copy.deepcopy(model)
        self.register_buffer("n_averaged", Tensor(np.int64(0)))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the averaged model does."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the weights of ``model`` into the averages: those of the first call are copied.

        Raises:
            ValueError: if the model has other parameters than the one that was copied.
        """
        averages, values = self._tensors(self.module), self._tensors(model)
        if [a.shape for a in averages] != [value.shape for value in values]:
            raise ValueError(
                "AveragedModel: expected a model with the parameters of the one that was copied"
            )
        count = int(self.n_averaged.item())
        with no_grad():
            if count == 0:
                for average, value in zip(averages, values):
                    overwrite(average, value.data)
            elif self.avg_fn is not None:
                for average, value in zip(averages, values):
                    result = self.avg_fn(average.detach(), value.detach(), count)
                    overwrite(average, result.data.astype(average.dtype))
            else:
                (self.multi_avg_fn or get_swa_multi_avg_fn())(averages, values, count)
            if not self.use_buffers:
                for average, value in zip(self.module.buffers(), model.buffers()):
                    overwrite(average, value.data)
        overwrite(self.n_averaged, np.int64(count + 1))

    def _tensors(self, model: Module) -> list[Tensor]:
        buffers = model.buffers() if self.use_buffers else ()
        return [*model.parameters(), *buffers]


def update_bn(loader: Iterable[Any], model: Module, device: str | None = None) -> None:
    """Replace the running statistics of a model's batch norms by the means over a loader's batches.

    Averaged weights need statistics of their own, unless ``use_buffers`` averaged them too.

    Args:
        loader: of batches: inputs, or a tuple or list that begins with them.
        model: is run in training mode; each module comes back in the mode it had.
        device: None or ``"cpu"``; there as PyTorch has it.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]
    if not norms:
        return
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    try:
        with no_grad():
            for batch in loader:
                model(batch[0] if isinstance(batch, (tuple, list)) else batch)
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training


class SWALR(LRScheduler):
    """From the rate that it finds to a fixed one, for the epochs that are averaged.

    Args:
        optimizer: whose rate is set.
        swa_lr: the last rate, or one for each group.
        anneal_epochs: the steps until it is reached.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        last_epoch: the last step that was done.

    Example:
        >>> optimizer = optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
        >>> schedule = optim.swa_utils.SWALR(optimizer, 0.5, anneal_epochs=2)
        >>> optimizer.step()
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.75]
    """

    _checks: ClassVar = {
        "anneal_epochs": _settings.integer(0),
        "anneal_strategy": _settings.one_of("cos", "linear"),
    }
    _group_checks: ClassVar = {"swa_lrs": _settings.not_negative}

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        self.swa_lrs = self._per_group("swa_lr", swa_lr)
        self.anneal_epochs = anneal_epochs
        self.anneal_strategy = anneal_strategy
        super().__init__(optimizer, last_epoch)

    def _done_at(self, step: int) -> float:
        """Return which part of the way a step has come to, from 0 to 1."""
        if self.anneal_epochs == 0:
            return 1.0
        between = linear if self.anneal_strategy == "linear" else cosine
        return between(0, 1, min(step / self.anneal_epochs, 1))

    def lr_at(self, step: int, group: int = 0) -> float:  # noqa: D102
        return linear(self.base_lrs[group], self.swa_lrs[group], self._done_at(step))

    def _moved(self, lr: float, step: int, group: int) -> float:
        before = self._done_at(step - 1) if step else 0.0
        last = self.swa_lrs[group]
        first = last if before == 1 else (lr - before * last) / (1 - before)
        return linear(first, last, self._done_at(step))
