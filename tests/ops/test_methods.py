"""Tensor's methods: attached at run time, declared for type checkers; the two lists agree."""

from __future__ import annotations

import ast
import inspect

import pytest

import lucid
from lucid.autograd import _tensor
from lucid.ops import _methods


def _declared() -> set[str]:
    """Return the names in the TYPE_CHECKING block of class Tensor."""
    tree = ast.parse(inspect.getsource(_tensor))
    (cls,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Tensor"]
    names = set()
    for block in cls.body:
        if not isinstance(block, ast.If):
            continue
        for node in block.body:
            if isinstance(node, ast.Assign):
                (target,) = node.targets
                assert isinstance(target, ast.Name)
                names.add(target.id)
            elif isinstance(node, ast.AnnAssign):
                assert isinstance(node.target, ast.Name)
                names.add(node.target.id)
            elif isinstance(node, ast.FunctionDef):
                names.add(node.name)
    return names


def test_declared_methods_are_those_attached() -> None:
    attached = {*_methods.OPERATORS, *_methods.METHODS, *_methods.PROPERTIES}
    assert _declared() == attached


@pytest.mark.parametrize("name", sorted({*_methods.METHODS, *_methods.PROPERTIES}))
def test_attached_and_documented(name: str) -> None:
    assert getattr(lucid.Tensor, name).__doc__


def test_hash_survives_eq() -> None:
    assert lucid.Tensor.__hash__ is object.__hash__
