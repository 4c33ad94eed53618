"""Random tensors: their distributions, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

import lucid


def test_each_weight_has_its_share() -> None:
    lucid.manual_seed(0)
    weights = lucid.tensor([1.0, 0.0, 3.0])
    places = lucid.multinomial(weights, 40_000, replacement=True)
    shares = np.bincount(places.data, minlength=3) / 40_000
    assert np.allclose(shares, [0.25, 0, 0.75], atol=0.01)
    firsts = np.stack([weights.multinomial(2).data for _ in range(2_000)])
    assert set(firsts.ravel()) == {0, 2}
    assert abs((firsts[:, 0] == 2).mean() - 0.75) < 0.05


def test_distributions_have_their_means() -> None:
    lucid.manual_seed(0)
    x = lucid.empty(40_000)
    assert abs(x.uniform_(-1, 3).mean().item() - 1) < 0.03
    assert abs(x.normal_(2, 0.5).std().item() - 0.5) < 0.01
    assert abs(x.exponential_(4).mean().item() - 0.25) < 0.01
    assert abs(x.bernoulli_(0.3).mean().item() - 0.3) < 0.01
    assert abs(lucid.poisson(x * 0 + 5).mean().item() - 5) < 0.05
    assert abs(lucid.normal(2.0, x * 0 + 0.5).mean().item() - 2) < 0.02
    assert abs(lucid.bernoulli(x * 0 + 0.9).mean().item() - 0.9) < 0.01


def test_the_seed_makes_them_repeat() -> None:
    lucid.manual_seed(3)
    first = lucid.normal(0.0, 1.0, (4,))
    lucid.manual_seed(3)
    assert lucid.equal(first, lucid.normal(0.0, 1.0, (4,)))
    again = lucid.normal(0.0, 1.0, (4,), generator=np.random.default_rng(3))
    assert lucid.equal(first, again)


def test_errors_tell_what_was_given() -> None:
    with pytest.raises(ValueError, match="bernoulli: expected probabilities from 0 to 1"):
        lucid.bernoulli(lucid.tensor([1.5]))
    with pytest.raises(ValueError, match="2 places cannot be drawn without replacement, as only 1"):
        lucid.multinomial(lucid.tensor([0.0, 1.0]), 2)
    with pytest.raises(ValueError, match="weights must be finite and not negative, and not all"):
        lucid.multinomial(lucid.zeros(2), 1)
    with pytest.raises(ValueError, match="normal: expected standard deviations of at least 0"):
        lucid.normal(0.0, -1.0, (2,))
    with pytest.raises(ValueError, match="the default is always float32, got float64; give"):
        lucid.set_default_dtype(np.float64)


def test_dtypes_combine_as_in_pytorch() -> None:
    assert lucid.result_type(lucid.ones(2, dtype=np.int32), 1.5) == np.float32
    assert lucid.promote_types(np.uint8, np.int8) == np.int16
    assert lucid.can_cast(np.int64, np.uint8)
    assert not lucid.can_cast(np.float32, np.int64)
    array = np.zeros(2)
    assert lucid.as_tensor(array).data is array
    assert lucid.as_tensor(array, np.float32).dtype == np.float32


def test_nothing_is_recorded_for_inference() -> None:
    x = lucid.ones(2, requires_grad=True)
    with lucid.inference_mode():
        assert not (x * 2).requires_grad
        with lucid.inference_mode(False):
            assert (x * 2).requires_grad
