"""Values and gradients of every function against PyTorch, in float32."""

from __future__ import annotations

import numpy as np
import pytest

import lucid
from lucid.nn import functional as F  # noqa: N812
from tests.nn.cases import CASES, Case

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_like_torch(case: Case) -> None:
    arrays = [array.astype(np.float32) for array in case.arrays(seed=1)]
    ours = [lucid.tensor(array, requires_grad=True) for array in arrays]
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    got = case.fn(F, lucid.tensor, *ours)
    expected = case.fn(torch.nn.functional, torch.tensor, *theirs)
    assert got.shape == tuple(expected.shape)
    np.testing.assert_allclose(
        got.detach().numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-5
    )
    weights = np.random.default_rng(2).standard_normal(got.shape).astype(np.float32)
    (got * weights).sum().backward()
    (expected * torch.tensor(weights)).sum().backward()
    for a, b in zip(ours, theirs):
        if b.grad is not None:
            assert a.grad is not None
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("beyond", [-3.0, 3.0, 0.0])
@pytest.mark.parametrize("name", ["hardswish", "hardsigmoid", "elu", "leaky_relu", "relu6"])
def test_gradients_at_the_bends(name: str, beyond: float) -> None:
    x, t = lucid.tensor([beyond], requires_grad=True), torch.tensor([beyond], requires_grad=True)
    getattr(F, name)(x).sum().backward()
    getattr(torch.nn.functional, name)(t).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-5)
