"""An optimiser whose gradients are the means over all ranks."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from lucid import _ranks
from lucid._check import is_number, one_of
from lucid.autograd import Tensor, enable_grad
from lucid.distributed import _timeline
from lucid.distributed._buckets import Buckets
from lucid.nn import Module
from lucid.nn._parameter import overwrite
from lucid.optim import Optimizer


class DistributedOptimizer(Optimizer):
    """Any optimiser of lucid, with gradients averaged over all ranks.

    At first all ranks take the parameters of rank 0. Then each goes backward with batches of its
    own. Gradients lie in buckets, in the order in which the first backward finished them; the mean
    of a bucket is under way as soon as it is full, while backward goes on. All ranks then have
    bit for bit the same gradients, take the same step, and have the same weights. With one rank it
    is the optimiser alone.

    Batches of unequal size count by their size if the loss is multiplied by
    ``own * ranks / whole``. Gradients may be changed, as by
    :func:`~lucid.nn.utils.clip_grad_norm_`, only after :meth:`synchronize`.

    Args:
        optimizer: takes the steps; its groups, state and settings are this one's.
        model: its other parameters and its buffers are taken from rank 0 too.
        bucket_mb: megabytes of a bucket; a larger parameter has one alone.
        wire: ``"float16"`` exchanges numbers of half the length: gradients beyond 65504 become
            infinite, and those below 6e-8 vanish.

    Raises:
        TypeError: if ``optimizer`` is no :class:`~lucid.optim.Optimizer`.
        ValueError: if a setting is out of range.

    Example:
        >>> distributed.init()  # of one rank here; several if mpiexec started them
        >>> model = nn.Linear(2, 1, bias=False)
        >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
        >>> optimizer = distributed.DistributedOptimizer(optimizer, model)
        >>> before = model.weight.clone()
        >>> model(lucid.tensor([[1.0, 2.0]])).sum().backward()
        >>> optimizer.synchronize()  # the gradient is now the mean over the ranks
        >>> model.weight.grad
        tensor([[1., 2.]])
        >>> optimizer.step()
        >>> [round(v, 4) for v in (before - model.weight).flatten().tolist()]
        [0.1, 0.2]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        model: Module | None = None,
        *,
        bucket_mb: float = 2.0,
        wire: str | None = None,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"DistributedOptimizer: expected an Optimizer, got {type(optimizer).__name__}"
            )
        if not is_number(bucket_mb, 0):
            raise ValueError(
                f"DistributedOptimizer: bucket_mb must be a number of at least 0, got {bucket_mb!r}"
            )
        if wire is not None:
            one_of(wire, ("float16",), "wire", "DistributedOptimizer")
        self._inner = optimizer
        self._paused = False  # under no_sync()
        self._is_reduced = False
        self._finished: list[Tensor] = []  # in backward's order, of those in no bucket yet
        self._hooked: set[int] = set()
        self._buckets = Buckets(bucket_mb * 1e6, wire) if _ranks.is_initialized() else None
        if self._buckets is not None:
            weakref.finalize(self, self._buckets.at_exit())
            if model is not None:
                broadcast_module(model)
            _broadcast(self._parameters())
            self._hook()

    def __getattr__(self, name: str) -> Any:  # groups, state and settings
        if name == "_inner":  # not there yet: while it is unpickled
            raise AttributeError(name)
        return getattr(self._inner, name)

    def _parameters(self) -> list[Tensor]:
        return [param for group in self._inner.param_groups for param in group["params"]]

    def _hook(self) -> None:
        """Have backward tell of each parameter; those that are frozen now may not be later."""
        itself = weakref.ref(self)  # a model outlives its optimisers

        def tell(param: Tensor) -> None:
            optimizer = itself()
            if optimizer is not None:
                optimizer._take(param)

        for param in self._parameters():
            if param.requires_grad and id(param) not in self._hooked:
                self._hooked.add(id(param))
                param.register_post_accumulate_grad_hook(tell)

    def _take(self, param: Tensor) -> None:
        self._is_reduced = False
        if self._buckets is None or self._paused:
            return
        if param in self._buckets:
            self._buckets.take(param)
        elif not any(param is other for other in self._finished):
            self._finished.append(param)

    def _fill_buckets(self, buckets: Buckets) -> None:
        """Put the parameters that are in no bucket yet into some, in the order of rank 0."""
        params = self._parameters()
        missing = {i: p for i, p in enumerate(params) if p.requires_grad and p not in buckets}
        if missing:
            numbers = {id(param): i for i, param in missing.items()}
            order = [numbers.pop(id(p)) for p in self._finished if id(p) in numbers]
            # The others last, from the model's end to its start.
            order = _ranks.broadcast([*order, *reversed(numbers.values())])
            buckets.add([missing[i] for i in order])
            self._hook()
        self._finished.clear()

    def synchronize(self) -> None:
        """Wait until all gradients are the means over the ranks.

        :meth:`step` does it, unless it was done since the last backward. Call it to look at the
        gradients, or to change them, before the step. All ranks have to call it.
        """
        if self._buckets is not None and not self._is_reduced:
            with _timeline.span("wait for gradients"):
                self._fill_buckets(self._buckets)
                self._buckets.finish()
        self._is_reduced = True

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Let gradients add up on each rank meanwhile: for all but the last backward of a step."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Average the gradients, if that was not done, and take the optimiser's step.

        Args:
            closure: computes the loss and calls ``backward`` on it; called first.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self.synchronize()
        self._is_reduced = False
        with _timeline.span("step"):
            self._inner.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or with ``set_to_none=False`` make them zero.

        Args:
            set_to_none: whether to drop them.
        """
        if self._buckets is not None and self._buckets.are_moving:
            self.synchronize()  # of a backward that no step follows
        self._finished.clear()
        self._is_reduced = False
        self._inner.zero_grad(set_to_none)
        _timeline.mark()

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add a group of parameters, which all ranks take from rank 0."""
        self._inner.add_param_group(param_group)
        if self._buckets is not None:
            _broadcast(self._inner.param_groups[-1]["params"])
            self._hook()

    def state_dict(self) -> dict[str, Any]:
        """Return the optimiser's own state: it fits any number of ranks."""
        return self._inner.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state, the same on all ranks.

        Args:
            state_dict: of the optimiser, saved with any number of ranks.
        """
        self._inner.load_state_dict(state_dict)


def broadcast_module(model: Module) -> None:
    """Give all ranks the parameters and buffers that rank 0's model has.

    Args:
        model: of the same structure on all ranks.
    """
    _broadcast([*model.parameters(), *model.buffers()])


def _broadcast(tensors: list[Tensor]) -> None:
    if _ranks.is_initialized():
        for tensor in tensors:
            values = np.array(tensor.data, order="C")
            _ranks.broadcast_bytes(values)
            overwrite(tensor, values)
