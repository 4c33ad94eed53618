"""Tensor's methods: attached when lucid is loaded, declared for type checkers; the two agree."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest

import lucid
from lucid.autograd import _tensor
from lucid.ops import _methods

ATTACHED = {**_methods.METHODS, **_methods.OPERATORS}


def _declared() -> dict[str, Any]:
    """Return what the TYPE_CHECKING block of class Tensor would put into the class."""
    tree = ast.parse(inspect.getsource(_tensor))
    (cls,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Tensor"]
    (block,) = [n for n in cls.body if isinstance(n, ast.If)]
    future = ast.parse("from __future__ import annotations").body
    names: dict[str, Any] = {}
    exec(compile(ast.Module([*future, *block.body], []), "declared", "exec"), names)
    return {name: value for name, value in names.items() if inspect.isfunction(value)}


def _parameters(function: Any) -> list[tuple[str, Any, Any]]:
    """Return name, kind and default of all parameters but the tensor."""
    _, *others = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in others]


def test_declared_methods_are_those_attached() -> None:
    assert {*_declared()} == {*ATTACHED}


@pytest.mark.parametrize("name", sorted(ATTACHED))
def test_declared_as_attached(name: str) -> None:
    assert _parameters(_declared()[name]) == _parameters(getattr(lucid.Tensor, name))


@pytest.mark.parametrize("name", sorted({*_methods.METHODS, *_methods.PROPERTIES}))
def test_attached_and_documented(name: str) -> None:
    assert getattr(lucid.Tensor, name).__doc__


def test_hash_survives_eq() -> None:
    assert lucid.Tensor.__hash__ is object.__hash__
