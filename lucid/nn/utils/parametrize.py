"""Parameters that are computed from others each time they are read."""

from __future__ import annotations

from typing import Any

from lucid.autograd import Tensor, no_grad
from lucid.nn._parameter import Parameter
from lucid.nn.modules._container import ModuleDict
from lucid.nn.modules._module import Module


class ParametrizationList(Module):
    """The parametrizations of one parameter, and what it is computed from; made by this module.

    Args:
        parametrization: computes the value of one tensor or more; its ``right_inverse``, if it has
            one, returns these for a value.
        value: the parameter.
    """

    def __init__(self, parametrization: Module, value: Parameter) -> None:
        super().__init__()
        with no_grad():
            inverse = getattr(parametrization, "right_inverse", lambda given: given)
            found = inverse(value)
        parts = found if isinstance(found, tuple) else (found,)
        names = ["original"] if len(parts) == 1 else [f"original{i}" for i in range(len(parts))]
        for name, part in zip(names, parts):
            self.register_parameter(name, Parameter(part.detach(), value.requires_grad))
        self._originals = names
        self.append(parametrization)

    def append(self, parametrization: Module) -> None:
        """Apply one more parametrization, after those there are."""
        self.add_module(str(len(list(self.children()))), parametrization)

    def forward(self) -> Tensor:
        """Return the value."""
        values = [getattr(self, name) for name in self._originals]
        for parametrization in self.children():
            values = [parametrization(*values)]
        return values[0]


def register_parametrization(module: Module, tensor_name: str, parametrization: Module) -> Module:
    """Have a parameter computed by a module, and return the module that it belongs to.

    Args:
        module: its class becomes a subclass of its own, in which the parameter is a property.
        tensor_name: the parameter's name. What it is computed from is saved under PyTorch's,
            ``parametrizations.weight.original``.
        parametrization: ``forward`` takes the parameter and returns what to use instead.

    Raises:
        ValueError: if the module has no such parameter.

    Example:
        >>> class Symmetric(nn.Module):
        ...     def forward(self, x):
        ...         return x.triu() + x.triu(1).mT
        >>> layer = nn.Linear(3, 3)
        >>> layer = nn.utils.parametrize.register_parametrization(layer, "weight", Symmetric())
        >>> lucid.equal(layer.weight, layer.weight.mT)
        True
    """
    if is_parametrized(module, tensor_name):
        module.parametrizations[tensor_name].append(parametrization)  # type: ignore[attr-defined]
        return module
    value = dict(module.named_parameters(recurse=False)).get(tensor_name)
    if value is None:
        raise ValueError(
            f"register_parametrization: expected a parameter of {type(module).__name__}, got "
            f"{tensor_name!r}"
        )
    delattr(module, tensor_name)
    if not is_parametrized(module):
        kind = type(module)
        module.__class__ = type(f"Parametrized{kind.__name__}", (kind,), {})
        module.add_module("parametrizations", ModuleDict())
    held: Any = ParametrizationList(parametrization, value)
    module.parametrizations[tensor_name] = held  # type: ignore[attr-defined]
    setattr(type(module), tensor_name, property(lambda self: self.parametrizations[tensor_name]()))
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Return whether ``module`` has a parametrized parameter, or that of ``tensor_name``."""
    held = module.__dict__.get("parametrizations", ())
    return bool(len(held)) if tensor_name is None else tensor_name in held


def remove_parametrizations(
    module: Module, tensor_name: str, leave_parametrized: bool = True
) -> Module:
    """Make a computed parameter an ordinary one, and return the module.

    Args:
        module: is changed in place.
        tensor_name: the parameter's name.
        leave_parametrized: keep the value it has; otherwise that which it was computed from.

    Raises:
        ValueError: if the parameter is not computed, or from several others that would be lost.
    """
    who = "remove_parametrizations"
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"{who}: expected a parametrized parameter, got {tensor_name!r}")
    held: Any = module.parametrizations  # type: ignore[attr-defined]
    first = next(held[tensor_name].parameters(recurse=False))
    if not leave_parametrized and len(held[tensor_name]._originals) > 1:
        raise ValueError(f"{who}: {tensor_name!r} is computed from several; leave_parametrized")
    value = getattr(module, tensor_name) if leave_parametrized else first
    del held[tensor_name]
    delattr(type(module), tensor_name)
    if not len(held):
        delattr(module, "parametrizations")
        module.__class__ = type(module).__bases__[0]
    module.register_parameter(tensor_name, Parameter(value.detach(), first.requires_grad))
    return module
