"""Tensors with zero axes against PyTorch, which takes most of them for vectors of one element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lucid
from lucid.nn import functional as F  # noqa: N812

torch = pytest.importorskip("torch")

Call = Callable[[Any, Any], Any]

# Of an axis: 0 and -1 are taken, others refused.
ALONG: dict[str, Callable[[Any, Any, Any], Any]] = {
    "sum": lambda lib, x, dim: lib.sum(x, dim),
    "mean": lambda lib, x, dim: lib.mean(x, dim),
    "var": lambda lib, x, dim: lib.var(x, dim, correction=0),
    "std": lambda lib, x, dim: lib.std(x, dim, correction=0),
    "norm": lambda lib, x, dim: lib.norm(x, dim=dim),
    "prod": lambda lib, x, dim: lib.prod(x, dim),
    "amax": lambda lib, x, dim: lib.amax(x, dim, keepdim=True),
    "max": lambda lib, x, dim: lib.max(x, dim),
    "min": lambda lib, x, dim: lib.min(x, dim, keepdim=True),
    "argmax": lambda lib, x, dim: lib.argmax(x, dim),
    "argmin": lambda lib, x, dim: lib.argmin(x, dim, keepdim=True),
    "all": lambda lib, x, dim: lib.all(x, dim),
    "any": lambda lib, x, dim: lib.any(x, dim, keepdim=True),
    "count_nonzero": lambda lib, x, dim: lib.count_nonzero(x, dim),
    "logsumexp": lambda lib, x, dim: lib.logsumexp(x, dim),
    "softmax": lambda lib, x, dim: lib.softmax(x, dim),
    "log_softmax": lambda lib, x, dim: lib.log_softmax(x, dim),
    "cumsum": lambda lib, x, dim: lib.cumsum(x, dim),
    "sort": lambda lib, x, dim: lib.sort(x, dim),
    "argsort": lambda lib, x, dim: lib.argsort(x, dim, descending=True),
    "topk": lambda lib, x, dim: lib.topk(x, 1, dim),
    "squeeze": lambda lib, x, dim: lib.squeeze(x, dim),
    "flip": lambda lib, x, dim: lib.flip(x, (dim,)),
    "transpose": lambda lib, x, dim: lib.transpose(x, 0, dim),
    "movedim": lambda lib, x, dim: lib.movedim(x, dim, 0),
    "flatten": lambda lib, x, dim: lib.flatten(x, 0, dim),
    "gather": lambda lib, x, dim: lib.gather(x, dim, lib.tensor(0)),
    "gather with a vector": lambda lib, x, dim: lib.gather(x, dim, lib.tensor([0])),
    "index_select": lambda lib, x, dim: lib.index_select(x, dim, lib.tensor(0)),
    "index_select with a vector": lambda lib, x, dim: lib.index_select(x, dim, lib.tensor([0])),
    "scatter": lambda lib, x, dim: lib.scatter(x, dim, lib.tensor(0), lib.tensor(2.0)),
    "scatter_add": lambda lib, x, dim: lib.scatter_add(x, dim, lib.tensor(0), lib.tensor(2.0)),
}
# These take tuples of axes too.
TUPLES = ["sum", "mean", "var", "std", "norm", "amax", "all", "any", "count_nonzero", "logsumexp"]
TUPLES += ["squeeze"]
# There is no axis to name.
NEVER: dict[str, Call] = {
    "size": lambda lib, x: x.size(0),
    "unbind": lambda lib, x: lib.unbind(x, 0),
    "split": lambda lib, x: lib.split(x, 1),
    "chunk": lambda lib, x: lib.chunk(x, 1),
    "roll": lambda lib, x: lib.roll(x, 1, 0),
    "cat": lambda lib, x: lib.cat([x, x]),
    "take_along_dim": lambda lib, x: lib.take_along_dim(x, lib.tensor(0), 0),
    "unsqueeze": lambda lib, x: lib.unsqueeze(x, 1),
    "permute": lambda lib, x: lib.permute(x, (0,)),
}
OTHERS: dict[str, Call] = {
    "topk of none": lambda lib, x: lib.topk(x, 0),
    "flip of no axes": lambda lib, x: lib.flip(x, ()),
    "permute": lambda lib, x: lib.permute(x, ()),
    "roll": lambda lib, x: lib.roll(x, 1),
    "all of a vector over no axes": lambda lib, x: lib.all(lib.ones(2), ()),
    "any of a vector over no axes": lambda lib, x: lib.any(lib.zeros(2), ()),
    "sum of a vector over no axes": lambda lib, x: lib.sum(lib.ones(2), ()),
    "gather from a vector": lambda lib, x: lib.gather(lib.ones(2), 0, lib.tensor(1)),
    "select from a vector": lambda lib, x: lib.index_select(lib.ones(2), 0, lib.tensor(1)),
}


def assert_same(mine: Any, reference: Any) -> None:
    if isinstance(mine, tuple):
        assert len(mine) == len(reference)
        for one, two in zip(mine, reference):
            assert_same(one, two)
        return
    assert mine.shape == tuple(reference.shape)
    assert str(mine.dtype) == str(reference.dtype).removeprefix("torch.")
    np.testing.assert_allclose(mine.detach().numpy(), reference.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", ALONG)
def test_an_axis_of_none(name: str) -> None:
    dims: list[Any] = [0, -1]
    if name in TUPLES:
        dims += [(0,), (-1,)]
    for dim in dims:
        x = lucid.tensor(5.0, requires_grad=True)
        y = torch.tensor(5.0, requires_grad=True)
        mine, reference = ALONG[name](lucid, x, dim), ALONG[name](torch, y, dim)
        assert_same(mine, reference)
        value, expected = (mine[0], reference[0]) if isinstance(mine, tuple) else (mine, reference)
        assert value.requires_grad == expected.requires_grad
        if value.requires_grad:
            value.sum().backward()
            expected.sum().backward()
            assert_same(x.grad, y.grad)
    for dim in (1, -2):
        with pytest.raises(IndexError, match=rf"{name.split()[0]}.*axis {dim} is out of range"):
            ALONG[name](lucid, lucid.tensor(5.0), dim)


@pytest.mark.parametrize("name", NEVER)
def test_no_axis_is_there(name: str) -> None:
    with pytest.raises((IndexError, RuntimeError)):
        NEVER[name](torch, torch.tensor(5.0))
    with pytest.raises((IndexError, ValueError), match=name):
        NEVER[name](lucid, lucid.tensor(5.0))


@pytest.mark.parametrize("name", OTHERS)
def test_without_an_axis(name: str) -> None:
    assert_same(OTHERS[name](lucid, lucid.tensor(5.0)), OTHERS[name](torch, torch.tensor(5.0)))


def test_an_axis_may_not_be_named_twice() -> None:
    with pytest.raises(ValueError, match=r"sum: an axis is named twice in \(0, -1\)"):
        lucid.tensor(5.0).sum((0, -1))


def test_one_axis_is_no_tuple() -> None:
    for call in (lucid.argmax, lucid.cumsum, lucid.sort, F.softmax):
        with pytest.raises(TypeError, match=r"an axis must be an integer, got \(0,\)"):
            call(lucid.ones(2), (0,))  # type: ignore[operator, arg-type]
