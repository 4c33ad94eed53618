"""Products of vectors, matrices and tensors: what they refuse."""

from __future__ import annotations

import pytest

import lucid

ONES = lucid.ones


def test_shapes_that_do_not_fit_are_told() -> None:
    with pytest.raises(ValueError, match=r"addmm: .* broadcast to the product's shape \(2, 4\)"):
        lucid.addmm(ONES(3, 4), ONES(2, 3), ONES(3, 4))
    with pytest.raises(ValueError, match=r"mv: expected a matrix and a vector that fit, got"):
        lucid.mv(ONES(2, 3), ONES(2))
    with pytest.raises(ValueError, match=r"tensordot: axes \[1\] of shape \(2, 3\) do not fit"):
        lucid.tensordot(ONES(2, 3), ONES(2, 3), ([1], [0]))
    with pytest.raises(ValueError, match=r"cross: expected vectors of 3 elements along axis -1"):
        lucid.cross(ONES(2, 4), ONES(2, 4))


def test_without_beta_the_input_does_not_count() -> None:
    nothing = lucid.full((2, 2), float("nan"))
    assert lucid.addmm(nothing, ONES(2, 3), ONES(3, 2), beta=0).tolist() == [[3, 3], [3, 3]]
