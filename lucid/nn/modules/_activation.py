"""Activation layers: each calls the function of its name in :mod:`lucid.nn.functional`."""

from __future__ import annotations

from numpy.typing import DTypeLike

from lucid._check import count, one_of
from lucid.nn import functional as F  # noqa: N812
from lucid.nn import init
from lucid.nn._parameter import Parameter
from lucid.nn.modules._layer import FunctionLayer, empty_parameter

__all__ = [
    "CELU", "ELU", "GELU", "GLU", "SELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh",
    "LeakyReLU", "LogSigmoid", "LogSoftmax", "Mish", "PReLU", "ReLU", "ReLU6", "SiLU", "Sigmoid",
    "Softmax", "Softmin", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink", "Threshold",
]  # fmt: skip


class _Inplace(FunctionLayer, function=None):
    """An activation with PyTorch's ``inplace``, which is accepted and has no effect.

    It is the last argument, so each class names it.
    """

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        texts = [super().extra_repr(), "inplace=True" if getattr(self, "inplace", False) else ""]
        return ", ".join(filter(None, texts))


class _Plain(_Inplace, function=None):
    inplace: bool = False


class ReLU(_Plain, function=F.relu):
    """max(x, 0).

    Args:
        inplace: accepted as in PyTorch, and without effect: the result is always new.

    Example:
        >>> x = lucid.tensor([-1.0, 0.0, 2.0], requires_grad=True)
        >>> nn.ReLU()(x).detach()
        tensor([0., 0., 2.])
        >>> nn.ReLU()(x).sum().backward()
        >>> x.grad
        tensor([0., 0., 1.])
    """


class ReLU6(_Plain, function=F.relu6):
    """min(max(x, 0), 6); ``inplace`` is as in :class:`ReLU`."""


class SiLU(_Plain, function=F.silu):
    """x · sigmoid(x), also called swish; ``inplace`` is as in :class:`ReLU`."""


class Mish(_Plain, function=F.mish):
    """x · tanh(softplus(x)); ``inplace`` is as in :class:`ReLU`."""


class Hardswish(_Plain, function=F.hardswish):
    """x · relu6(x + 3) / 6; ``inplace`` is as in :class:`ReLU`."""

    def extra_repr(self) -> str:
        """Return nothing, as PyTorch does for this layer."""
        return ""


class Hardsigmoid(Hardswish, function=F.hardsigmoid):
    """relu6(x + 3) / 6; ``inplace`` is as in :class:`ReLU`."""


class SELU(_Plain, function=F.selu):
    """1.0507 · elu(x, 1.6733); ``inplace`` is as in :class:`ReLU`."""


class Hardtanh(_Inplace, function=F.hardtanh):
    """min(max(x, ``min_val``), ``max_val``); ``inplace`` is as in :class:`ReLU`."""

    min_val: float = -1.0
    max_val: float = 1.0
    inplace: bool = False

    def _check(self) -> None:
        low, high = self.min_val, self.max_val
        if not low < high:
            raise ValueError(f"Hardtanh: expected min_val < max_val, got {low} and {high}")


class LeakyReLU(_Inplace, function=F.leaky_relu):
    """x where positive, else ``negative_slope`` · x; ``inplace`` is as in :class:`ReLU`."""

    negative_slope: float = 0.01
    inplace: bool = False


class ELU(_Inplace, function=F.elu):
    """x where positive, else ``alpha`` · (e^x - 1); ``inplace`` is as in :class:`ReLU`."""

    alpha: float = 1.0
    inplace: bool = False


class CELU(ELU, function=F.celu):
    """x where positive, else ``alpha`` · (e^(x/alpha) - 1); ``inplace`` is as in :class:`ReLU`."""


class GELU(FunctionLayer, function=F.gelu):
    """x times the normal distribution function at x; see :func:`lucid.nn.functional.gelu`."""

    approximate: str = "none"

    def _check(self) -> None:
        one_of(self.approximate, ("none", "tanh"), "approximate", "GELU")

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return f"approximate={self.approximate!r}"


class Softplus(FunctionLayer, function=F.softplus):
    """log(1 + e^(beta·x)) / ``beta``, and x itself where beta·x is above the ``threshold``."""

    beta: float = 1.0
    threshold: float = 20.0


class Sigmoid(FunctionLayer, function=F.sigmoid):
    """1 / (1 + e^-x)."""


class LogSigmoid(FunctionLayer, function=F.logsigmoid):
    """log(sigmoid(x))."""


class Tanh(FunctionLayer, function=F.tanh):
    """tanh(x)."""


class Softsign(FunctionLayer, function=F.softsign):
    """``x / (1 + |x|)``."""


class Softmax(FunctionLayer, function=F.softmax):
    """e^x / sum(e^x) along an axis, ``dim``; it must be given (PyTorch guesses and warns)."""

    dim: int | None = None

    def _check(self) -> None:
        if self.dim is None:
            raise TypeError(f"{type(self).__name__}: pass the axis to normalise along as dim=")


class LogSoftmax(Softmax, function=F.log_softmax):
    """log(softmax(x)) along axis ``dim``; see :class:`Softmax`."""


class Softmin(Softmax, function=F.softmin):
    """softmax(-x) along axis ``dim``; see :class:`Softmax`."""


class Hardshrink(FunctionLayer, function=F.hardshrink):
    """x, and 0 where it is from -``lambd`` to ``lambd``."""

    _sizes = ("lambd",)
    lambd: float = 0.5


class Softshrink(Hardshrink, function=F.softshrink):
    """x nearer to 0 by ``lambd``, and 0 where it is not farther away."""


class Tanhshrink(FunctionLayer, function=F.tanhshrink):
    """x - tanh(x)."""


class Threshold(_Inplace, function=F.threshold):
    """x where it is above ``threshold``, else ``value``; ``inplace`` is as in :class:`ReLU`."""

    threshold: float
    value: float
    inplace: bool = False


class GLU(FunctionLayer, function=F.glu):
    """a · sigmoid(b), where a and b are the input's halves along the axis ``dim``."""

    dim: int = -1


class PReLU(FunctionLayer, function=F.prelu):
    """x where positive, else weight · x, with a learned weight.

    Args:
        num_parameters: 1, or the number of channels (axis 1).
        init: where the weights begin.
        dtype: of the weights, float32 by default.
    """

    _settings = ("weight",)
    _shown = ("num_parameters",)
    weight: Parameter

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, *, dtype: DTypeLike | None = None
    ) -> None:
        super().__init__()
        self.num_parameters = count(num_parameters, "num_parameters", "PReLU")
        self.init = init
        self.weight = empty_parameter((self.num_parameters,), dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the weights to ``init`` again."""
        init.constant_(self.weight, self.init)
