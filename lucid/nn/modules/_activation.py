"""Activation layers: each calls the function of its name in :mod:`lucid.nn.functional`."""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike

from lucid.autograd import Tensor
from lucid.nn import functional as F  # noqa: N812
from lucid.nn import init
from lucid.nn._parameter import Parameter
from lucid.nn.modules._checks import count, one_of
from lucid.nn.modules._linear import empty_parameter
from lucid.nn.modules._module import Module


class _Inplace(Module):
    """An activation with PyTorch's ``inplace``, which is accepted and has no effect."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return "inplace=True" if self.inplace else ""


class ReLU(_Inplace):
    """max(x, 0).

    Args:
        inplace: accepted as in PyTorch, and without effect: the result is always new.
    """

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.relu(input)


class ReLU6(_Inplace):
    """min(max(x, 0), 6).

    Args:
        inplace: accepted as in PyTorch, and without effect: the result is always new.
    """

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.relu6(input)


class SiLU(_Inplace):
    """x · sigmoid(x), also called swish.

    Args:
        inplace: accepted as in PyTorch, and without effect: the result is always new.
    """

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.silu(input)


class Mish(_Inplace):
    """x · tanh(softplus(x)).

    Args:
        inplace: accepted as in PyTorch, and without effect: the result is always new.
    """

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.mish(input)


class Hardswish(_Inplace):
    """x · relu6(x + 3) / 6.

    Args:
        inplace: accepted as in PyTorch, and without effect: the result is always new.
    """

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.hardswish(input)

    def extra_repr(self) -> str:
        """Return nothing, as PyTorch does for this layer."""
        return ""


class Hardsigmoid(Hardswish):
    """relu6(x + 3) / 6.

    Args:
        inplace: accepted as in PyTorch, and without effect: the result is always new.
    """

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.hardsigmoid(input)


class SELU(_Inplace):
    """1.0507 · elu(x, 1.6733).

    Args:
        inplace: accepted as in PyTorch, and without effect: the result is always new.
    """

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.selu(input)


class Hardtanh(_Inplace):
    """min(max(x, min_val), max_val).

    Args:
        min_val: the smallest output.
        max_val: the largest output.
        inplace: accepted as in PyTorch, and without effect: the result is always new.
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        if not min_val < max_val:
            raise ValueError(f"Hardtanh: expected min_val < max_val, got {min_val} and {max_val}")
        self.min_val = min_val
        self.max_val = max_val

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.hardtanh(input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        text = f"min_val={self.min_val}, max_val={self.max_val}"
        return text + (", inplace=True" if self.inplace else "")


class LeakyReLU(_Inplace):
    """x where positive, else negative_slope · x.

    Args:
        negative_slope: the slope below 0.
        inplace: accepted as in PyTorch, and without effect: the result is always new.
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = negative_slope

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class ELU(_Inplace):
    """x where positive, else alpha · (e^x - 1).

    Args:
        alpha: minus the limit towards minus infinity.
        inplace: accepted as in PyTorch, and without effect: the result is always new.
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.elu(input, self.alpha)

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class CELU(ELU):
    """x where positive, else alpha · (e^(x/alpha) - 1).

    Args:
        alpha: minus the limit towards minus infinity.
        inplace: accepted as in PyTorch, and without effect: the result is always new.
    """

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.celu(input, self.alpha)


class GELU(Module):
    """x times the normal distribution function at x.

    Args:
        approximate: ``"none"``, or ``"tanh"`` for the approximation by tanh.
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = one_of(approximate, ("none", "tanh"), "approximate", "GELU")

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return f"approximate={self.approximate!r}"


class Softplus(Module):
    """log(1 + e^(beta·x)) / beta, and x itself where beta·x is above the threshold.

    Args:
        beta: the sharpness of the bend.
        threshold: where it becomes the identity.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return f"beta={self.beta}, threshold={self.threshold}"


class Sigmoid(Module):
    """1 / (1 + e^-x)."""

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.sigmoid(input)


class LogSigmoid(Module):
    """log(sigmoid(x))."""

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.logsigmoid(input)


class Tanh(Module):
    """tanh(x)."""

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.tanh(input)


class Softsign(Module):
    """``x / (1 + |x|)``."""

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.softsign(input)


class Softmax(Module):
    """e^x / sum(e^x) along an axis.

    Args:
        dim: the axis; it must be given (PyTorch guesses and warns).
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        if dim is None:
            raise TypeError(f"{type(self).__name__}: pass the axis to normalise along as dim=")
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """log(softmax(x)) along an axis; see :class:`Softmax`.

    Args:
        dim: the axis.
    """

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.log_softmax(input, self.dim)


class GLU(Module):
    """a · sigmoid(b), where a and b are the input's halves along an axis.

    Args:
        dim: the axis.
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Tensor:
        """Return half the input along the axis."""
        return F.glu(input, self.dim)

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return f"dim={self.dim}"


class PReLU(Module):
    """x where positive, else weight · x, with a learned weight.

    Args:
        num_parameters: 1, or the number of channels (axis 1).
        init: where the weights begin.
        dtype: of the weights, float32 by default.
    """

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

    def forward(self, input: Any) -> Tensor:
        """Return a tensor of the input's shape."""
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        return f"num_parameters={self.num_parameters}"
