"""Properties that hold for any shape: broadcasting, indexing and einsum as NumPy has them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import lucid
from lucid.autograd._function import observe
from tests.ops.cases import CASES

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)
SIDE = st.integers(0, 4)


def values(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 2.0, shape)


def leaf(array: np.ndarray) -> lucid.Tensor:
    return lucid.tensor(array, lucid.float64, requires_grad=True)


@SETTINGS
@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=4))
def test_broadcasting(shapes: Any) -> None:
    """Operands broadcast as in NumPy; each gradient is summed back to its operand's shape."""
    x, y = values(shapes.input_shapes[0], 1), values(shapes.input_shapes[1], 2)
    a, b = leaf(x), leaf(y)
    out = a * b - a / b
    np.testing.assert_allclose(out.data, x * y - x / y)
    assert out.shape == shapes.result_shape
    out.sum().backward()
    wide_x, wide_y = np.broadcast_arrays(x, y)
    for tensor, full in [(a, wide_y - 1 / wide_y), (b, wide_x + wide_x / wide_y**2)]:
        ones = np.ones(tensor.shape)
        # The sum over the copies that broadcasting makes, worked out with einsum-free indices.
        positions = np.broadcast_to(np.arange(ones.size).reshape(ones.shape), out.shape)
        expected = np.bincount(positions.ravel(), full.ravel(), ones.size).reshape(ones.shape)
        np.testing.assert_allclose(tensor.grad.data, expected)


@SETTINGS
@given(st.data())
def test_where_and_comparison_broadcast(data: st.DataObject) -> None:
    shapes = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3))
    c, x, y = (values(s, i) for i, s in enumerate(shapes.input_shapes))
    out = lucid.where(lucid.tensor(c) > 1, leaf(x), leaf(y))
    np.testing.assert_allclose(out.data, np.where(c.astype(np.float32) > 1, x, y))
    np.testing.assert_array_equal((leaf(x) <= leaf(y)).data, x <= y)


@SETTINGS
@given(st.data())
def test_basic_indexing(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    _check_index(values(shape), index)
    tensor = lucid.tensor(values(shape))
    if tensor[index].numel() and tensor[index].ndim:
        assert np.shares_memory(tensor[index].data, tensor.data)


@SETTINGS
@given(st.data())
def test_integer_array_indexing(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    index = data.draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2)))
    _check_index(values(shape), index)


@SETTINGS
@given(st.data())
def test_mixed_indexing(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=4))
    parts: list[Any] = []
    length = data.draw(st.integers(0, 3))
    for size in shape:
        kind = data.draw(st.sampled_from(["slice", "int", "array", "mask", "all"]))
        if kind == "slice":
            parts.append(data.draw(st.slices(size)))
        elif kind == "int":
            parts.append(data.draw(st.integers(-size, size - 1)))
        elif kind == "array":
            parts.append(
                np.array(
                    data.draw(
                        st.lists(st.integers(-size, size - 1), min_size=length, max_size=length)
                    ),
                    dtype=np.int64,
                )
            )
        elif kind == "mask" and not any(isinstance(p, np.ndarray) for p in parts):
            mask = np.zeros(size, bool)
            mask[: min(length, size)] = True
            parts.append(mask)
            length = min(length, size)
        else:
            parts.append(slice(None))
        if data.draw(st.booleans()) and not any(part is None for part in parts):
            parts.append(None)
    index = tuple(parts)
    array = values(shape)
    try:
        _ = array[index]
    except IndexError:
        with pytest.raises(IndexError, match="indexing a tensor of shape"):
            _ = lucid.tensor(array)[index]
        return
    _check_index(array, index)


def _check_index(array: np.ndarray, index: Any) -> None:
    """Compare value, gradient and assignment with NumPy's."""
    x = leaf(array)
    out = x[index]
    assert isinstance(out, lucid.Tensor)
    np.testing.assert_array_equal(out.data, array[index])
    weights = values(out.shape, 5)
    (out * weights).sum().backward()
    expected = np.zeros_like(array)
    np.add.at(expected, index, weights)
    np.testing.assert_allclose(x.grad.data, expected)

    changed, target = array.copy(), lucid.tensor(array, lucid.float64)
    changed[index] = 7.0
    target[index] = 7.0
    np.testing.assert_array_equal(target.data, changed)
    recorded = leaf(array) * 1
    recorded[index] = 7.0
    np.testing.assert_array_equal(recorded.data, changed)


@SETTINGS
@given(st.data())
def test_einsum(data: st.DataObject) -> None:
    """Any equation gives what NumPy gives, and gradients that sum right."""
    letters = "abcd"
    sizes = {letter: data.draw(st.integers(1, 3)) for letter in letters}
    term = st.text(letters, min_size=0, max_size=3)
    terms = data.draw(st.lists(term, min_size=1, max_size=3))
    used = sorted(set("".join(terms)))
    output = "".join(data.draw(st.permutations(used)))[: data.draw(st.integers(0, len(used)))]
    equation = ",".join(terms) + "->" + output
    arrays = [values(tuple(sizes[c] for c in t), i) for i, t in enumerate(terms)]
    tensors = [leaf(a) for a in arrays]
    out = lucid.einsum(equation, *tensors)
    np.testing.assert_allclose(out.data, np.einsum(equation, *arrays))
    out.sum().backward()
    # The result is linear in each operand, so <gradient, operand> is its sum.
    for tensor, array in zip(tensors, arrays):
        np.testing.assert_allclose((tensor.grad.data * array).sum(), out.data.sum())


@SETTINGS
@given(st.data())
def test_matmul(data: st.DataObject) -> None:
    shapes = data.draw(
        hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, min_side=0)
    )
    a, b = (values(s, i) for i, s in enumerate(shapes.input_shapes))
    x, y = leaf(a), leaf(b)
    out = x @ y
    np.testing.assert_allclose(out.data, a @ b)
    out.sum().backward()
    for tensor, array in ((x, a), (y, b)):
        assert tensor.grad.shape == array.shape
        np.testing.assert_allclose((tensor.grad.data * array).sum(), out.data.sum(), atol=1e-12)


@SETTINGS
@given(st.data())
def test_reductions(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    axes = data.draw(hnp.valid_tuple_axes(len(shape), min_size=1))
    keep = data.draw(st.booleans())
    array = values(shape)
    tensor = lucid.tensor(array, lucid.float64)
    for name, function in [
        ("sum", np.sum),
        ("mean", np.mean),
        ("prod", np.prod),
        ("amax", np.max),
        ("amin", np.min),
        ("any", np.any),
        ("all", np.all),
    ]:
        got = getattr(tensor, name)(axes, keepdim=keep)
        np.testing.assert_allclose(got.data, function(array, axis=axes, keepdims=keep))
    for name, function in [("var", np.var), ("std", np.std)]:
        got = getattr(tensor, name)(axes, keepdim=keep, correction=0)
        np.testing.assert_allclose(got.data, function(array, axis=axes, keepdims=keep), atol=1e-12)


@SETTINGS
@given(st.data())
def test_shape_round_trips(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    x = lucid.tensor(values(shape))
    order = data.draw(st.permutations(range(len(shape))))
    back = np.argsort(order).tolist()
    assert x.permute(*order).permute(*back).equal(x)
    assert x.flatten().reshape(shape).equal(x)
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    if shape[dim]:
        size = data.draw(st.integers(1, shape[dim]))
        assert lucid.cat(x.split(size, dim), dim).equal(x)
        assert lucid.cat(x.chunk(size, dim), dim).equal(x)
        assert lucid.stack(x.unbind(dim), dim).equal(x)
    assert x.flip(dim).flip(dim).equal(x)
    shift = data.draw(st.integers(-5, 5))
    assert x.roll(shift, dim).roll(-shift, dim).equal(x)
    assert x.movedim(dim, 0).movedim(0, dim).equal(x)
    assert x.unsqueeze(dim).squeeze(dim).shape == shape
    np.testing.assert_array_equal(x.sort(dim).values.data, np.sort(x.data, dim))


@SETTINGS
@given(hnp.arrays(np.float64, hnp.array_shapes(max_dims=1, max_side=8), elements=st.floats(-6, 6)))
def test_erf_is_exact_to_the_dtype(x: np.ndarray) -> None:
    import math

    exact = np.array([math.erf(v) for v in x])
    np.testing.assert_allclose(lucid.erf(lucid.from_numpy(x)).data, exact, rtol=1e-15, atol=1e-300)
    single = x.astype(np.float32)
    exact = np.array([math.erf(v) for v in single])
    np.testing.assert_allclose(lucid.erf(single).data, exact, rtol=6e-7, atol=1e-37)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_result_in_the_memory_of_an_argument_is_known_as_a_view(case: Any) -> None:
    """Only then are changes in place seen by what was saved for a gradient."""
    unknown = []

    def look(kind: Any, args: tuple[Any, ...], outputs: tuple[lucid.Tensor, ...]) -> None:
        sources = [arg for arg in args if isinstance(arg, lucid.Tensor)]
        for source, output in itertools.product(sources, outputs):
            if np.shares_memory(source.data, output.data) and output._view is None:
                unknown.append(kind)

    with observe(look):
        case.fn(lucid, *[leaf(array) for array in case.arrays()])
    assert not unknown


def test_einsum_that_sums_nothing_is_a_view() -> None:
    x = lucid.tensor(np.arange(6.0).reshape(2, 3))
    lucid.einsum("ij->ji", x).mul_(2)
    np.testing.assert_array_equal(x.numpy(), 2 * np.arange(6.0).reshape(2, 3))
    a = leaf(values((2, 3)))
    b = a * 1
    square = b * b
    lucid.einsum("ij->ji", b).mul_(2)
    with pytest.raises(RuntimeError, match="changed in place"):
        square.sum().backward()


@pytest.mark.parametrize("order", [20, 100, 160])
def test_polygamma_of_high_orders_is_its_series(order):
    x = np.array([1.5, 2.5, 11.9, 12, 30, 60])
    sums = [math.fsum((at + k) ** -(order + 1) for k in range(3000)) for at in x]
    expected = (-1) ** (order + 1) * math.factorial(order) * np.array(sums)
    found = lucid.polygamma(order, lucid.tensor(x, dtype="float64")).data
    np.testing.assert_allclose(found, expected, rtol=1e-14)
