"""Searching and counting beyond PyTorch's samples, beside PyTorch; and in a compiled model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid
from lucid import nn

torch = pytest.importorskip("torch")

NAN = float("nan")
VALUES = np.array([[2.0, NAN, 2.0, -0.0], [NAN, 1.0, 0.0, 2.0]], np.float32)

CALLS = {
    "nonzero as a tuple": lambda lib, x: lib.nonzero(x > 1, as_tuple=True),
    "nonzero of a number": lambda lib, x: lib.nonzero(x[0, 0], as_tuple=True),
    "unique with NaN": lambda lib, x: x.unique(return_inverse=True, return_counts=True),
    "unique slices": lambda lib, x: lib.unique(x > 1, return_inverse=True, dim=1),
    "median with NaN": lambda lib, x: x.median(1).values,
    "median of all": lambda lib, x: x.median(),
    "nanmedian": lambda lib, x: x.nanmedian(0).values,
    "nanquantile": lambda lib, x: x.nanquantile(0.3, 1),
    "quantile of NaN": lambda lib, x: x[:, 2:].quantile(0.3, 1, keepdim=True),
    "kthvalue with NaN": lambda lib, x: x.kthvalue(3, 1).values,
    "rows of a sequence": lambda lib, x: lib.searchsorted(
        x[:, 2:].sort().values, x[:, :2].contiguous()
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_as_in_pytorch(name: str) -> None:
    ours, theirs = (
        CALLS[name](lib, make(VALUES))
        for lib, make in ((lucid, lucid.from_numpy), (torch, torch.from_numpy))
    )
    pairs = zip(*(one if isinstance(one, tuple) else (one,) for one in (ours, theirs)), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one.numpy(), other.numpy())
        assert one.data.dtype == other.numpy().dtype


class Middle(nn.Module):
    """Chooses by value, at places that no trace can know."""

    def forward(self, x: Any) -> Any:
        return x.scatter_reduce(1, (x > 0).long(), x, "amax") + x.median(1, keepdim=True).values


def test_compiled() -> None:
    model, rng = Middle().eval(), np.random.default_rng(0)
    plan = lucid.compile(model, (4, 8))
    for _ in range(3):
        x = lucid.tensor(rng.normal(size=(4, 8)), dtype=lucid.float32)
        np.testing.assert_array_equal(plan(x).numpy(), model(x).numpy())
