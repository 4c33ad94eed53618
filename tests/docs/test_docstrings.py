"""Every public class and function says what it does, and what each of its arguments is.

The word on an argument stands under ``Args:``, here or in a docstring that this one refers to, or
in a sentence that names it by itself (``dim``, ``dim=None``): a formula is not enough.
A function of one argument needs none, nor do the tensors of an operation.
"""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

import pytest

from tests.docs.site import extension

_names = extension("names")
MODULES = _names.MODULES
public_names = functools.cache(_names.public_names)  # it reads a module's text for each name

#: What the operations call the tensors they compute with.
OPERANDS = {"input", "other", "tensor", "A", "B", "mat", "mat1", "mat2"}
OPERANDS |= {"vec", "vec1", "vec2", "batch1", "batch2", "tensor1", "tensor2"}

#: Arguments that need no word, and why.
#: name -> the arguments
EXCEPTIONS = {
    # It takes anything and ignores it.
    "lucid.nn.Identity": {"args", "kwargs"},
    # Protocols: nobody calls them.
    "lucid.data.Dataset": {"args", "kwargs"},
    "lucid.data.Sampler": {"args", "kwargs"},
    # Made by lucid, not by users.
    "lucid.autograd.Node": {"function", "needs_input_grad"},
    "lucid.graph.Value": {"_producer"},
}


def all_public() -> list[Any]:
    return [
        pytest.param(f"{module}.{name}", value, id=f"{module}.{name}")
        for module in MODULES
        for name, value in public_names(module).items()
    ]


def arguments(value: Any) -> set[str]:
    """Return the names of a function's arguments, or of those that make an object of a class."""
    try:
        parameters = inspect.signature(value).parameters
    except ValueError:  # a class without a constructor of its own
        return set()
    return {name for name in parameters if name not in ("self", "cls")}


def sections(text: str) -> set[str]:
    return set(re.findall(r"^(Args|Attributes|Returns|Raises):$", text, re.MULTILINE))


def described(text: str) -> set[str]:
    """Return the names under ``Args:`` and ``Attributes:``; several may share a line."""
    found: set[str] = set()
    for block in re.findall(
        r"^(?:Args|Attributes):\n((?:[ ]{4}.*\n?|\n)+)", text + "\n", re.MULTILINE
    ):
        for line in re.findall(r"^    (?! )([^:]+):", block, re.MULTILINE):
            found.update(name.strip("* `") for name in line.split(","))
    return found


def told(text: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """Return the arguments on which a docstring, or one that it refers to, has a word."""
    words = described(text)
    if not seen:
        words.update(re.findall(r"``\**(\w+)(?:=[^`]*)?``", text))
    for name in set(re.findall(r":(?:func|class):`~?([\w.]+)`", text)) - seen:
        path, _, last = name.rpartition(".")
        for module in [path] if path else MODULES:
            value = public_names(module).get(last) if module in MODULES else None
            words |= told(inspect.getdoc(value) or "", seen | {name}) if value else set()
    return words


def test_there_is_something_to_check():
    assert len(all_public()) > 250


@pytest.mark.parametrize(("name", "value"), all_public())
def test_docstring(name, value):
    text = inspect.getdoc(value) or ""
    assert text, f"{name} has no docstring"
    own = not inspect.isclass(value) or ("__doc__" in vars(value) and vars(value)["__doc__"])
    assert own, f"{name} has only the docstring of its base class"
    assert text.split("\n\n")[0].rstrip().endswith((".", ":", "::")), f"{name}: no first sentence"
    silent = arguments(value) - told(text) - EXCEPTIONS.get(name, set())
    silent -= OPERANDS if inspect.isroutine(value) else set()
    assert not silent or len(arguments(value)) == 1, f"{name}: no word on {', '.join(silent)}"


@pytest.mark.parametrize(
    ("name", "value"), [p for p in all_public() if inspect.isclass(p.values[1])]
)
def test_public_methods_have_docstrings(name, value):
    bare = [
        method
        for method, function in vars(value).items()
        if not method.startswith("_")
        and (inspect.isroutine(function) or isinstance(function, property))
        # The base class says it, or the class itself: what a layer's forward takes and returns.
        and method not in ("forward", "extra_repr")
        and not inspect.getdoc(getattr(value, method))
    ]
    assert not bare, f"{name}: no docstring of {', '.join(bare)}"


def test_exceptions_are_needed():
    values = {p.values[0]: p.values[1] for p in all_public()}
    for name, names in EXCEPTIONS.items():
        left = arguments(values[name]) - described(inspect.getdoc(values[name]) or "")
        assert names <= left, f"{name} need not be an exception any more"
