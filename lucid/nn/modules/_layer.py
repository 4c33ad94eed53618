"""What layers share: printed settings, one function to call, a factor and a summand to learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import Parameter as Argument
from inspect import Signature, get_annotations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.nn import init
from lucid.nn._parameter import Parameter
from lucid.nn.modules._module import Module
from lucid.ops._common import operand

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform():
        """Tell type checkers alone: Python 3.10 does not have it."""
        return lambda cls: cls


NOT_GIVEN: Any = object()


def empty_parameter(shape: tuple[int, ...], dtype: DTypeLike | None = None) -> Parameter:
    """Return a parameter of zeros, to be filled by ``reset_parameters``.

    Raises:
        TypeError: if ``dtype`` is no floating-point dtype.
    """
    wanted = np.dtype(np.float32 if dtype is None else dtype)
    if wanted.kind != "f":
        raise TypeError(f"dtype must be a floating-point dtype, got {wanted}")
    return Parameter(wrap(np.zeros(shape, wanted)))


def fill(function: Callable[[Tensor], Any], *tensors: Tensor | None) -> None:
    """Call a function of :mod:`lucid.nn.init` on those tensors that there are."""
    for tensor in tensors:
        if tensor is not None:
            function(tensor)


class Layer(Module):
    """A module that prints its settings: attributes, some of them by name."""

    _sizes: tuple[str, ...] = ()  # these are printed first, without their names
    _shown: tuple[str, ...] = ()  # of a bias only whether there is one

    def extra_repr(self) -> str:
        """Return the settings as PyTorch prints them."""
        texts = [str(getattr(self, name)) for name in self._sizes]
        for name in self._shown:
            value = getattr(self, name)
            texts.append(f"{name}={value is not None if name == 'bias' else value}")
        return ", ".join(texts)

    def _register_empty(
        self, name: str, shape: tuple[int, ...] | None, dtype: DTypeLike | None
    ) -> None:
        """Register a parameter to be filled, or the name alone if there is no shape."""
        self.register_parameter(name, None if shape is None else empty_parameter(shape, dtype))


@dataclass_transform()
class Caller(Layer):
    """A module that calls one function, with attributes of its own as the settings.

    The function is given with the class. The class's annotations are the settings, and as of a
    dataclass the constructor's arguments; what follows ``_: KW_ONLY`` is given by name::

        from lucid.nn import functional as F

        class ELU(FunctionLayer, function=F.elu):
            alpha: float = 1.0

    With ``function=None`` the function is left to subclasses.
    """

    _function: ClassVar[Callable[..., Tensor]]
    __signature__: ClassVar[Signature | None] = Signature()
    _arguments: ClassVar[Signature] = Signature()
    _settings: ClassVar[tuple[str, ...]] = ()  # what the function is told

    def __init_subclass__(cls, function: Callable[..., Any] | None = NOT_GIVEN) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__signature__ = None  # that of the constructor
        if function is NOT_GIVEN:
            return
        if function is not None:
            cls._function = staticmethod(function)
        if "__init__" not in vars(cls) and get_annotations(cls):
            cls._take_arguments()

    @classmethod
    def _take_arguments(cls) -> None:
        own, found = vars(cls), dict(cls._arguments.parameters)
        kind: Any = Argument.POSITIONAL_OR_KEYWORD
        for name, annotation in get_annotations(cls).items():
            if name == "_":
                kind = Argument.KEYWORD_ONLY
            elif not name.startswith("_"):
                default = own.get(name, Argument.empty)
                found[name] = Argument(name, kind, default=default, annotation=annotation)
                if name in own:
                    delattr(cls, name)  # each layer has its own
        cls._arguments = Signature(sorted(found.values(), key=lambda argument: argument.kind))
        cls.__signature__ = cls._arguments
        if "_settings" not in own:
            cls._settings = tuple(name for name in found if name != "inplace")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        bound = self._arguments.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            self._set(name, value)
        self._check()

    def _set(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def _check(self) -> None:
        """Raise an error if a setting is none."""

    def _call(self, *inputs: Any) -> Tensor:
        return self._function(*inputs, **{name: getattr(self, name) for name in self._settings})


class FunctionLayer(Caller, function=None):
    """A layer that is a function of one input, and prints all its settings."""

    @classmethod
    def _take_arguments(cls) -> None:
        super()._take_arguments()
        if not {"_shown", "_sizes"} & vars(cls).keys():
            cls._shown = cls._settings

    def forward(self, input: Any) -> Tensor:
        """Return the function of the input."""
        return self._call(input)


class WeightedLayer(Layer):
    """A layer that adds up inputs: a weight ``(O, …)`` and perhaps a bias ``(O,)``."""

    weight: Parameter
    bias: Parameter | None

    def _register_weight(
        self,
        shape: tuple[int, ...],
        bias: bool,
        dtype: DTypeLike | None,
        outputs: int | None = None,
    ) -> None:
        """Register a weight, and a bias for as many outputs as it has rows, or as is said."""
        self.weight = empty_parameter(shape, dtype)
        number = shape[0] if outputs is None else outputs
        self._register_empty("bias", (number,) if bias else None, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters again, uniform within ±1/√fan_in."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[1:])
            bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
            init.uniform_(self.bias, -bound, bound)


class AffineLayer(Layer):
    """A layer with a factor (``weight``, begins at 1) and a summand (``bias``, begins at 0)."""

    weight: Parameter | None
    bias: Parameter | None

    def _register_affine(
        self, shape: tuple[int, ...], affine: bool, bias: bool, dtype: DTypeLike | None
    ) -> None:
        self._register_empty("weight", shape if affine else None, dtype)
        self._register_empty("bias", shape if affine and bias else None, dtype)

    def reset_parameters(self) -> None:
        """Set weight 1 and bias 0."""
        fill(init.ones_, self.weight)
        fill(init.zeros_, self.bias)

    def _with_channels(self, input: Any, channels: int) -> Tensor:
        """Return an input ``(N, C, *)`` as a tensor.

        Raises:
            ValueError: if it has another number of channels.
        """
        who = type(self).__name__
        x = operand(input, who)
        if x.ndim < 2 or x.shape[1] != channels:
            got = f"{x.shape[1]} from an" if x.ndim > 1 else "an"
            raise ValueError(
                f"{who}: expected {channels} channels (axis 1), got {got} input of shape {x.shape}"
            )
        return x
