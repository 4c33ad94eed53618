"""Activations that draw numbers: their values are PyTorch's where nothing is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid
from lucid.nn import functional as F  # noqa: N812


def test_hard_choices_are_one_hot_and_have_the_soft_gradient() -> None:
    logits = lucid.tensor(np.log([[0.7, 0.2, 0.1]] * 4000), dtype=np.float64, requires_grad=True)
    lucid.manual_seed(0)
    hard = F.gumbel_softmax(logits, tau=0.5, hard=True)
    factors = lucid.tensor([[1.0, 2.0, 3.0]], dtype=np.float64)
    (from_hard,) = lucid.autograd.grad((hard * factors).sum(), logits)
    lucid.manual_seed(0)
    soft = F.gumbel_softmax(logits, tau=0.5)
    (from_soft,) = lucid.autograd.grad((soft * factors).sum(), logits)
    assert (hard.argmax(-1) == soft.argmax(-1)).all()
    np.testing.assert_allclose(np.sort(hard.data, -1), [[0, 0, 1]] * 4000, atol=1e-12)
    np.testing.assert_allclose(hard.data.mean(0), [0.7, 0.2, 0.1], atol=0.03)
    np.testing.assert_allclose(from_hard.data, from_soft.data, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: F.softshrink(lucid.ones(2), -1.0), "softshrink: lambd must be at least 0"),
    ],
)
def test_errors(call: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
