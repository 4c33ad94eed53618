"""Function: an operation with its own gradient. Every operation of lucid is one."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lucid.autograd._grad_mode import grad_mode, is_grad_enabled, set_grad_enabled
from lucid.autograd._graph import Node
from lucid.autograd._tensor import Tensor, wrap

Observer = Callable[[type["Function"], tuple[Any, ...], tuple[Tensor, ...]], None]


class _Observing(threading.local):
    observer: Observer | None = None
    runner: Callable[..., Any] | None = None


_observing = _Observing()


@contextlib.contextmanager
def observe(observer: Observer | None, runner: Any = None) -> Iterator[None]:
    """Call ``observer(operation, arguments, outputs)`` after each operation of this thread.

    With None nobody is told. ``runner(operation, ctx, *arguments)`` is called for its ``forward``.

    Operations that another one uses inside its forward are part of that one and not reported.
    """
    outer = _observing.observer, _observing.runner
    _observing.observer, _observing.runner = observer, runner
    try:
        yield
    finally:
        _observing.observer, _observing.runner = outer


def is_observed() -> bool:
    """Return whether somebody observes the operations of this thread."""
    return _observing.observer is not None


class Function:
    """An operation: its value (``forward``) and its gradient (``backward``).

    Subclass it, write both as static methods, and call ``apply``.

    ``forward(ctx, *args)`` receives the arguments of ``apply``, tensors as tensors, and returns
    a tensor or an array, or a tuple of them; nothing inside it is recorded. Tensors it needs
    later go through ``ctx.save_for_backward``; anything else may be set as an attribute of
    ``ctx``. ``backward(ctx, *grads)`` receives one gradient per output and returns one per
    argument, None for arguments without one (trailing Nones may be left out);
    ``ctx.needs_input_grad`` tells which are wanted. If ``backward`` is written in tensor
    operations, second derivatives work by themselves.

    Example:
        >>> class Exp(lucid.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         y = np.exp(x.data)
        ...         ctx.save_for_backward(y)
        ...         return y
        ...
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         (y,) = ctx.saved_tensors
        ...         return grad * y
        >>> x = lucid.tensor([0.0, 0.0], requires_grad=True)
        >>> y = Exp.apply(x)
        >>> y.detach()
        tensor([1., 1.])
        >>> y.sum().backward()
        >>> x.grad
        tensor([1., 1.])
    """

    @staticmethod
    def forward(ctx: Node, *args: Any, **kwargs: Any) -> Any:
        """Return the value of the operation."""
        raise NotImplementedError("a Function needs a static method forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Node, *grads: Any, **kwargs: Any) -> Any:
        """Return the gradient with respect to each argument of forward."""
        raise NotImplementedError(
            f"{ctx.name} has no gradient: a Function needs a static method backward(ctx, *grads)"
        )

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run the operation on ``args`` and record it if one of them requires grad."""
        enabled = grad_mode.enabled
        if enabled:
            needs = tuple([isinstance(a, Tensor) and a.requires_grad for a in args])
            recording = True in needs
        else:
            needs, recording = (False,) * len(args), False
        ctx = Node(cls, needs)
        observer, forward = _observing.observer, cls.forward
        if observer is not None and _observing.runner is not None:
            forward = functools.partial(_observing.runner, cls)
        # Both are set and put back by assignments alone: between those no signal's handler runs.
        try:
            _observing.observer = None  # none inside forward
            if recording:
                grad_mode.enabled = False
            if grad_mode.silent:
                result = forward(ctx, *args)
            else:
                with np.errstate(all="ignore"):  # infinities and NaN arise silently, as in PyTorch
                    result = forward(ctx, *args)
        finally:
            _observing.observer = observer
            grad_mode.enabled = enabled
        if isinstance(result, tuple):
            outputs = tuple([_output(cls, ctx, value, args) for value in result])
        else:
            outputs = (_output(cls, ctx, result, args),)
        if recording:
            ctx.record(args, outputs)
        if observer is not None:
            observer(cls, args, outputs)
        return outputs if isinstance(result, tuple) else outputs[0]


def _output(cls: type[Function], ctx: Node, value: Any, args: tuple[Any, ...]) -> Tensor:
    """Return ``value`` as a new tensor that knows if it is a view of an argument."""
    source = None
    if isinstance(value, np.ndarray):
        tensor = wrap(value)
    elif isinstance(value, np.generic):
        # NumPy makes scalars of arrays with zero axes; if it was saved, it still is this output.
        tensor = wrap(value)
        ctx._saved = tuple([tensor.data if saved is value else saved for saved in ctx._saved])
    elif isinstance(value, Tensor):
        tensor = wrap(value.data)
        source = next((a for a in args if a is value), None)
    else:
        raise TypeError(
            f"{cls.__name__}.forward: expected a tensor, an array or a tuple of them, "
            f"got {type(value).__name__}"
        )
    if ctx.view is not None:
        source = args[0]
    if source is not None and np.may_share_memory(tensor.data, source.data):
        base, outer = source._view or (source, _identity)
        tensor._version = source._version
        tensor._seen = source._version.count
        tensor._view = (base, _compose(outer, ctx.view) if ctx.view and outer else None)
    return tensor


def _identity(tensor: Tensor) -> Tensor:
    return tensor


def _compose(outer: Any, inner: Any) -> Any:
    return inner if outer is _identity else lambda tensor: inner(outer(tensor))


def once_differentiable(fn: Any) -> Any:
    """Decorate a ``backward`` that computes on arrays: its own gradient does not exist.

    A backward pass with ``create_graph=True`` through it raises RuntimeError: a second
    derivative would be silently wrong.

    Args:
        fn: the static method ``backward`` of a :class:`Function`.
    """

    @functools.wraps(fn)
    def backward(ctx: Node, *grads: Tensor) -> Any:
        if is_grad_enabled():
            raise RuntimeError(
                f"{ctx.name} has no second derivative: backward with create_graph=True cannot go "
                "through it"
            )
        return fn(ctx, *grads)

    return backward


# -- the operations that the walk back needs; all others are those of lucid.ops -----------------


class Accumulate(Function):
    """The sum of two gradients of one tensor."""

    @staticmethod
    def forward(ctx: Node, a: Tensor, b: Tensor) -> np.ndarray:
        return a.data + b.data

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad


class Cast(Function):
    """The values in another dtype."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, dtype: np.dtype[Any]) -> np.ndarray:
        ctx.dtype = x.dtype
        return x.data.astype(dtype)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return Cast.apply(grad, ctx.dtype)


class Scale(Function):
    """The values times an array of the same shape, which is constant."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, factors: np.ndarray) -> np.ndarray:
        ctx.factors = factors
        return x.data * factors

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        return Scale.apply(grad, ctx.factors)


class CopyIntoView(Function):
    """``base`` with the region that ``take_view`` selects replaced by ``view``."""

    @staticmethod
    def forward(
        ctx: Node, base: Tensor, view: Tensor, take_view: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.take_view = take_view
        return base  # whose memory the view has already changed

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor, Tensor]:
        rest = wrap(np.ones(grad.shape, grad.dtype))
        ctx.take_view(rest).data[...] = 0
        return Scale.apply(grad, rest.data), ctx.take_view(grad)


def rebase(base: Tensor, view: Tensor, take_view: Callable[[Tensor], Tensor]) -> None:
    """After ``view`` was changed in place, let ``base`` depend on it and on its own rest."""
    with set_grad_enabled(True):
        result = CopyIntoView.apply(base, view, take_view)
    base._node, base._index = result._node, result._index
    base._seen = base._version.count
