"""Tensor's methods: attached when lucid is loaded, declared for type checkers; the two agree."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import lucid
from lucid.autograd._declared import Methods
from lucid.ops import _methods

ATTACHED = {**_methods.METHODS, **_methods.OPERATORS}


DECLARED = {name: value for name, value in vars(Methods).items() if inspect.isfunction(value)}


def _parameters(function: Any) -> list[tuple[str, Any, Any]]:
    """Return name, kind and default of all parameters but the tensor."""
    _, *others = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in others]


def test_declared_methods_are_those_attached() -> None:
    assert {*DECLARED} == {*ATTACHED}


@pytest.mark.parametrize("name", sorted(ATTACHED))
def test_declared_as_attached(name: str) -> None:
    assert _parameters(DECLARED[name]) == _parameters(getattr(lucid.Tensor, name))


@pytest.mark.parametrize("name", sorted({*_methods.METHODS, *_methods.PROPERTIES}))
def test_attached_and_documented(name: str) -> None:
    assert getattr(lucid.Tensor, name).__doc__


def test_hash_survives_eq() -> None:
    assert lucid.Tensor.__hash__ is object.__hash__
