"""Modules that hold modules in a list or by name, and call none of them."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

from lucid.nn._parameter import Parameter
from lucid.nn.modules._module import Module, format_tree

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList"]


class _Container(Module):
    """A module that holds others, or parameters, and nothing else."""

    def _names(self) -> list[str]:
        return list(self._members)

    def _values(self) -> list[Any]:
        return [self.__dict__[name] for name in self._members]

    def __len__(self) -> int:
        return len(self._members)


class Row(_Container):
    """Children named "0", "1", …, indexed as a list is."""

    def _position(self, index: Any) -> int:
        """Return ``index`` counted from the front."""
        who = type(self).__name__
        try:
            number = operator.index(index)
        except TypeError:
            raise TypeError(
                f"{who}: expected an integer or a slice, got {type(index).__name__}"
            ) from None
        if not -len(self) <= number < len(self):
            raise IndexError(f"{who}: index {number} is out of range for {len(self)} modules")
        return number % len(self)

    def _renumber(self, modules: Iterable[Module]) -> None:
        modules = list(modules)
        for name in self._names():
            delattr(self, name)
        for index, module in enumerate(modules):
            self.add_module(str(index), module)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._values())

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._names()[self._position(index)], module)

    def __delitem__(self, index: int | slice) -> None:
        names = self._names()
        doomed = names[index] if isinstance(index, slice) else [names[self._position(index)]]
        for name in doomed:
            delattr(self, name)
        if names == [str(i) for i in range(len(names))]:
            self._renumber(self._values())

    def insert(self, index: int, module: Module) -> Any:
        """Put ``module`` before position ``index``; the ones after it are renumbered."""
        modules = self._values()
        modules.insert(index, module)
        check_modules(type(self).__name__, modules)
        self._renumber(modules)
        return self

    def append(self, module: Module) -> Any:
        """Add ``module`` at the end and return the container."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add several modules at the end and return the container."""
        modules = list(modules)
        check_modules(type(self).__name__, modules)
        for module in modules:
            self.append(module)
        return self

    def pop(self, index: int = -1) -> Module:
        """Remove the module at ``index`` and return it."""
        module = self._values()[self._position(index)]
        del self[index]
        return module


def check_modules(who: str, modules: Iterable[Any]) -> None:
    for position, module in enumerate(modules):
        if not isinstance(module, Module):
            raise TypeError(
                f"{who}: expected a Module at position {position}, got {type(module).__name__}"
            )


class ModuleList(Row):
    """A list whose modules are registered. It has no forward of its own.

    Args:
        modules: the modules, named ``"0"``, ``"1"``, ….

    Example:
        >>> layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        >>> layers
        ModuleList(
          (0-2): 3 x Linear(in_features=4, out_features=4, bias=True)
        )
        >>> len(list(layers.parameters()))
        6
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    @overload
    def __getitem__(self, index: int) -> Module: ...
    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return type(self)(self._values()[index])
        return self._values()[self._position(index)]

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        self.extend(modules)
        return self

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __contains__(self, module: object) -> bool:
        return any(module is own for own in self)

    def __repr__(self) -> str:
        # Equal neighbours share a line: "(0-2): 3 x Linear(...)".
        lines, start = [], 0
        for text, group in itertools.groupby(repr(module) for module in self):
            count = len(list(group))
            if count == 1:
                lines.append(f"({start}): {text}")
            else:
                lines.append(f"({start}-{start + count - 1}): {count} x {text}")
            start += count
        return format_tree(type(self).__name__, self.extra_repr(), lines)


class _Names(_Container):
    """Members by name, used as a dictionary is."""

    _kind = "module"

    def __getitem__(self, key: str) -> Any:
        if key not in self._members:
            known = ", ".join(map(repr, self._members)) or "none"
            raise KeyError(f"{type(self).__name__}: no {self._kind} {key!r} (there are: {known})")
        return self.__dict__[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._register(key, value, self._kind)

    def __delitem__(self, key: str) -> None:
        self[key]
        delattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def keys(self) -> Iterable[str]:
        """Return the names."""
        return self._members.keys()

    def values(self) -> Iterable[Any]:
        """Return the values."""
        return self._values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """Return ``(name, value)`` pairs."""
        return list(zip(self._members, self._values()))

    def _update(self, values: Any) -> None:
        if not isinstance(values, Iterable):
            raise TypeError(
                f"{type(self).__name__}: expected a mapping or pairs, got {type(values).__name__}"
            )
        for name, value in values.items() if isinstance(values, (Mapping, _Names)) else values:
            self[name] = value

    def pop(self, key: str) -> Any:
        """Remove a value and return it."""
        value = self[key]
        del self[key]
        return value

    def clear(self) -> None:
        """Remove all values."""
        for name in self._names():
            delattr(self, name)


class ModuleDict(_Names):
    """A dictionary whose modules are registered. It has no forward of its own.

    Args:
        modules: a mapping from names to modules, or pairs.
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add modules, or replace those of the same names."""
        self._update(modules)


class ParameterDict(_Names):
    """A dictionary whose parameters are registered.

    Args:
        parameters: a mapping from names to parameters, or pairs; other tensors and arrays become
            parameters.
    """

    _kind = "parameter"

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        if parameters is not None:
            self.update(parameters)

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value if isinstance(value, Parameter) else Parameter(value))

    def update(self, parameters: Any) -> None:
        """Add parameters, or replace those of the same names."""
        self._update(parameters)


class ParameterList(_Container):
    """A list whose parameters are registered.

    Args:
        values: the parameters; other tensors and arrays become parameters.
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        for value in values if values is not None else ():
            self.append(value)

    def append(self, value: Any) -> ParameterList:
        """Add a parameter at the end and return the list."""
        parameter = value if isinstance(value, Parameter) else Parameter(value)
        self.register_parameter(str(len(self)), parameter)
        return self

    def __getitem__(self, index: int) -> Parameter:
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(
                f"ParameterList: index {number} is out of range for {len(self)} parameters"
            )
        return self.__dict__[str(number % len(self))]

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._values())

    def __repr__(self) -> str:
        lines = [
            f"({name}): Parameter containing: [{value.dtype} of size "
            f"{'x'.join(map(str, value.shape)) or '()'}]"
            for name, value in self.named_parameters()
        ]
        return format_tree(type(self).__name__, "", lines)
