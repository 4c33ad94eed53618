"""Bags of integers: what is refused; PyTorch's samples are elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

import lucid
from lucid.nn import functional as F  # noqa: N812

TABLE, ROW = lucid.ones(4, 2), lucid.tensor([0, 3, 1])


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "match"),
    [
        ((ROW,), {}, ValueError, r"expected integers \(B, L\), or \(M,\) and offsets"),
        ((ROW, [1]), {}, ValueError, r"expected offsets that rise from 0 to at most 3, got \[1\]"),
        ((ROW + 1, [0]), {}, IndexError, "expected indices from 0 to 3, got 4"),
        ((ROW, [0]), {"mode": "min"}, ValueError, "mode must be one of"),
        ((ROW, [0]), {"per_sample_weights": ROW}, ValueError, "need mode='sum', got 'mean'"),
    ],
)
def test_errors(arguments: Any, settings: Any, error: type[Exception], match: str) -> None:
    index, *offsets = arguments
    with pytest.raises(error, match=f"embedding_bag: .*{match}"):
        F.embedding_bag(index, TABLE, *map(lucid.tensor, offsets), **settings)
