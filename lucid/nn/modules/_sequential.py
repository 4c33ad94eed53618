"""Sequential: modules called one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

from lucid.nn.modules._container import Row, check_modules
from lucid.nn.modules._module import Module
from lucid.nn.modules._rows import InSteps

__all__ = ["Sequential"]


class Sequential(InSteps, Row):
    """Modules called one after the other, each on what the one before returned.

    Args:
        *args: modules, named ``"0"``, ``"1"``, …; or one mapping from names to modules.

    An index or a name gives a module, a slice a Sequential of the same modules.

    In evaluation under ``no_grad()`` a convolution with the batch norm and the ReLU, ReLU6, SiLU,
    Hardswish or GELU behind it is one operation, and such operations and batch norms in a row are
    one call of the backend. Their weights are kept in the form that it computes with, one more copy
    of them, until somebody asks one of these parameters or statistics for its array, as every
    change does, or calls :meth:`train`.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.ReLU())
        >>> model(lucid.zeros(5, 3, 2, 2)).shape
        (5, 3)
        >>> model[:2]
        Sequential(
          (0): Flatten(start_dim=1, end_dim=-1)
          (1): Linear(in_features=12, out_features=3, bias=True)
        )
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            check_modules("Sequential", args)
            for index, module in enumerate(args):
                self.add_module(str(index), module)

    def forward(self, input: Any) -> Any:
        """Return the last module's output."""
        return self._in_steps(input)

    def _parts(self) -> tuple[Any, ...]:
        return tuple(map(self.__dict__.get, self._members))  # other threads wait for all of it

    def _adds(self) -> bool | None:
        return False if type(self) is Sequential else None

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    @overload
    def __getitem__(self, index: int | str) -> Module: ...
    def __getitem__(self, index: int | str | slice) -> Module:
        if isinstance(index, slice):
            return type(self)({name: self.__dict__[name] for name in self._names()[index]})
        if isinstance(index, str):
            return self.get_submodule(index)
        return self._values()[self._position(index)]

    def __add__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            raise TypeError(f"Sequential: can only add a Sequential, got {type(other).__name__}")
        return Sequential(*self, *other)
