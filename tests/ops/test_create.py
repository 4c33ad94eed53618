"""Creation functions, conversions, and what a tensor is."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import lucid


def test_tensor_dtypes() -> None:
    assert lucid.tensor([1.5]).dtype == lucid.float32
    assert lucid.tensor(np.ones(2)).dtype == lucid.float32  # float64 arrays too
    assert lucid.tensor(np.ones(2), lucid.float64).dtype == lucid.float64
    assert lucid.tensor([1, 2]).dtype == lucid.int64
    assert lucid.tensor(True).dtype == lucid.bool
    assert lucid.tensor(np.ones(2, np.uint8)).dtype == lucid.uint8
    assert lucid.tensor([1, 2], requires_grad=True).dtype == lucid.float32
    assert lucid.tensor([[lucid.tensor(1.0), 2], [3, 4]]).shape == (2, 2)


def test_tensor_copies_and_from_numpy_shares() -> None:
    array = np.zeros(3, np.float32)
    assert not np.shares_memory(lucid.tensor(array).data, array)
    assert not np.shares_memory(lucid.tensor(lucid.from_numpy(array)).data, array)
    shared = lucid.from_numpy(array)
    shared[0] = 5
    array[1] = 6
    assert shared.tolist() == [5, 6, 0]
    assert lucid.from_numpy(np.zeros(2)).dtype == lucid.float64


def test_from_numpy_of_a_read_only_array() -> None:
    array = np.zeros(3)
    array.flags.writeable = False
    with pytest.raises(RuntimeError, match="read-only"):
        lucid.from_numpy(array).add_(1)


def test_objects_with_array_or_dlpack() -> None:
    class Box:
        def __array__(self, dtype=None, copy=None):
            return np.arange(3.0)

    assert lucid.tensor(Box()).tolist() == [0, 1, 2]
    assert (lucid.ones(3) + Box()).tolist() == [1, 2, 3]
    assert np.from_dlpack(lucid.ones(2)).tolist() == [1, 1]
    assert np.asarray(lucid.ones(2)).tolist() == [1, 1]


def test_sizes_as_integers_or_tuple() -> None:
    for make in (lucid.zeros, lucid.ones, lucid.empty, lucid.rand, lucid.randn):
        assert make(2, 3).shape == make((2, 3)).shape == make([2, 3]).shape == (2, 3)
        assert make(()).shape == make().shape == ()
        assert make(0, 2).shape == (0, 2)
        assert make(np.int64(2)).dtype == lucid.float32
        assert make(2, dtype=lucid.float64, requires_grad=True).requires_grad


def test_values() -> None:
    assert lucid.zeros(2).tolist() == [0, 0]
    assert lucid.ones(2, dtype=lucid.int32).tolist() == [1, 1]
    assert lucid.full((2,), 3).dtype == lucid.int64
    assert lucid.full((2,), 2.5).tolist() == [2.5, 2.5]
    assert lucid.full(2, True).dtype == lucid.bool
    assert lucid.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert lucid.eye(2).shape == (2, 2)
    assert lucid.arange(3).tolist() == [0, 1, 2]
    assert lucid.arange(3).dtype == lucid.int64
    assert lucid.arange(3.0).dtype == lucid.float32
    assert lucid.arange(5, 1, -2).tolist() == [5, 3]
    assert lucid.arange(0, 1, 0.25).tolist() == [0, 0.25, 0.5, 0.75]
    assert lucid.arange(2, dtype=lucid.float64).dtype == lucid.float64
    assert lucid.linspace(0, 1, 5).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert lucid.linspace(2, 3, 1).tolist() == [2]


@pytest.mark.parametrize("dtype", [lucid.float16, lucid.float32, lucid.float64])
def test_random_ranges(dtype: np.dtype) -> None:
    lucid.manual_seed(0)
    x = lucid.rand(1000, dtype=dtype)
    assert x.dtype == dtype
    assert 0 <= x.min().item() < 0.1 < 0.9 < x.max().item() <= 1
    n = lucid.randn(2000, dtype=dtype)
    assert abs(n.float().mean().item()) < 0.1
    assert abs(n.float().std().item() - 1) < 0.1
    i = lucid.randint(3, 6, (1000,))
    assert sorted(set(i.tolist())) == [3, 4, 5]
    assert lucid.randint(4, (5,)).max().item() < 4
    assert sorted(lucid.randperm(5).tolist()) == [0, 1, 2, 3, 4]


def test_manual_seed_repeats() -> None:
    def draw() -> list[object]:
        return [
            lucid.rand(3).tolist(),
            lucid.randn(3).tolist(),
            lucid.randint(100, (3,)).tolist(),
            lucid.randperm(9).tolist(),
            lucid.randn_like(lucid.ones(2)).tolist(),
        ]

    lucid.manual_seed(7)
    first = draw()
    assert draw() != first
    lucid.manual_seed(7)
    assert draw() == first
    with pytest.raises(ValueError, match="manual_seed: expected a non-negative integer, got -1"):
        lucid.manual_seed(-1)


def test_like_functions_keep_the_layout() -> None:
    image = lucid.from_numpy(np.zeros((1, 4, 4, 3), np.float32)).permute(0, 3, 1, 2)
    for make in (lucid.zeros_like, lucid.ones_like, lucid.empty_like):
        assert make(image).data.strides == image.data.strides
    assert lucid.full_like(image, 2).sum().item() == 96
    assert lucid.rand_like(image).shape == image.shape
    assert lucid.randn_like(image, dtype=lucid.float64).dtype == lucid.float64
    assert lucid.zeros_like(image, dtype=lucid.int64).dtype == lucid.int64
    assert (image + 1).data.strides == image.data.strides
    assert lucid.pad(image, (1, 1, 1, 1)).permute(0, 2, 3, 1).data.flags.c_contiguous


def test_conversions() -> None:
    x = lucid.tensor([1.7, -2.7])
    assert x.int().dtype == lucid.int32
    assert x.long().tolist() == [1, -2]
    assert x.bool().tolist() == [True, True]
    assert x.half().dtype == lucid.float16
    assert x.double().dtype == lucid.float64
    assert x.to(lucid.float32) is x
    assert x.float() is x
    assert x.type("float64").dtype == lucid.float64
    assert x.to(x.double()).dtype == lucid.float64
    assert x.type_as(x.long()).dtype == lucid.int64
    y = x.clone().requires_grad_()
    y.double().sum().backward()
    assert y.grad.dtype == lucid.float32


def test_python_protocols() -> None:
    x = lucid.tensor([[1, 2], [3, 4]])
    assert len(x) == 2
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert 3 in x
    assert 7 not in x
    assert float(lucid.tensor(2.5)) == 2.5
    assert int(lucid.tensor([3])) == 3
    assert [10, 20][lucid.tensor(1)] == 20
    assert bool(lucid.tensor([True]))
    assert f"{lucid.tensor(1.23456):.2f}" == "1.23"
    assert x.size() == (2, 2)
    assert x.size(-1) == 2
    assert x.numel() == 4
    assert len({x, x}) == 1


def test_comparison_with_things_that_are_no_numbers() -> None:
    x = lucid.ones(2)
    assert (x == None) is False  # noqa: E711
    assert (x != "text") is True
    assert (x == [1, 2]).tolist() == [True, False]
    with pytest.raises(TypeError):
        _ = x < "text"


def test_numpy_leaves_operators_to_the_tensor() -> None:
    x = lucid.ones(2, requires_grad=True)
    for out in (
        np.ones(2, np.float32) + x,
        np.float32(2) * x,
        np.ones((3, 2)) @ x,
        np.ones(2) == x,
    ):
        assert isinstance(out, lucid.Tensor)
    (np.full(2, 3, np.float32) * x).sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_numbers_take_the_tensors_dtype() -> None:
    for dtype in (lucid.float16, lucid.float32, lucid.float64):
        x = lucid.ones(2, dtype=dtype)
        for y in (x + 1, 1 - x, x * 2.5, x / 3, x**2, x % 2, x // 2, lucid.maximum(x, 0)):
            assert y.dtype == dtype
    assert (lucid.tensor([1]) + 1.5).dtype == lucid.float32
    assert (lucid.tensor([True]) + 1).dtype == lucid.int64


def test_repr() -> None:
    assert repr(lucid.tensor([1.0, 2])) == "tensor([1., 2.])"
    assert repr(lucid.tensor([1])) == "tensor([1], dtype=int64)"
    x = lucid.ones(1, requires_grad=True)
    assert repr(x) == "tensor([1.], requires_grad=True)"
    assert repr(x + 1) == "tensor([2.], grad_fn=<Add>)"


def test_copy_and_pickle() -> None:
    x = lucid.ones(2, requires_grad=True)
    (x * 2).sum().backward()
    twin = copy.deepcopy(x)
    assert twin.requires_grad
    assert twin.grad.tolist() == [2, 2]
    assert not np.shares_memory(twin.data, x.data)
    assert not np.shares_memory(twin.grad.data, x.grad.data)
    again = pickle.loads(pickle.dumps(x))
    assert again.tolist() == [1, 1]
    assert again.requires_grad
    with pytest.raises(RuntimeError, match="deepcopy works on leaves only"):
        copy.deepcopy(x * 2)
