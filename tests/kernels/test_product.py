"""Products of matrices in every layout, against the definition in float64."""

import itertools

import numpy as np
import pytest

from lucid.kernels import numpy as reference
from lucid.kernels.numpy import _product

# Whole and broken tiles and panels, one row, one column, and sums of several passes.
SIZES = [
    (1, 300, 100), (100, 300, 1), (2, 515, 80), (80, 515, 3), (13, 700, 33), (14, 640, 32),
    (15, 64, 500), (61, 1100, 70), (300, 17, 63), (784, 64, 49), (5, 5, 5),
]  # fmt: skip


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def layouts(x):
    """Yield ``x`` as it is, and equal arrays that lie differently."""
    yield x
    yield np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    yield np.repeat(x, 2, axis=-1)[..., ::2]
    yield np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]
    wide = np.zeros((*x.shape[:-1], x.shape[-1] + 3), x.dtype)
    wide[..., 1:-2] = x
    yield wide[..., 1:-2]


def product(a, b):
    return np.einsum("...mk,...kn->...mn", a.astype(np.float64), b.astype(np.float64))


def close(y, a, b, dtype=np.float32, expected=None):
    expected = product(a, b) if expected is None else expected
    assert y.shape == expected.shape
    assert y.dtype == dtype
    tolerance = 4e-6 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance * a.shape[-1] ** 0.5)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_matmul_in_any_layout(backend, threads, size):
    m, k, n = size
    a, b = random(m, k), random(k, n, seed=1)
    expected = product(a, b)
    for left, right in itertools.product(layouts(a), layouts(b)):
        left.flags.writeable = right.flags.writeable = False
        close(backend.matmul(left, right), a, b, expected=expected)


BATCHES = [
    ((4,), (4,)), ((3, 2), (3, 2)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (5,)), ((5,), ()),
    ((1,), (4,)), ((1,), (1,)),
]  # fmt: skip


@pytest.mark.parametrize("lead", BATCHES, ids=str)
@pytest.mark.parametrize("size", [(60, 64, 49), (30, 49, 100), (200, 700, 30)], ids=str)
def test_batches_broadcast(backend, threads, lead, size):
    m, k, n = size
    a, b = random(*lead[0], m, k), random(*lead[1], k, n, seed=1)
    expected = product(a, b)
    for left, right in itertools.product(layouts(a), layouts(b)):
        close(backend.matmul(left, right), a, b, expected=expected)


@pytest.mark.parametrize("lead", [((), ()), ((1,), (1, 1)), ((1, 1), ()), ((), (1,)), ((1,), (3,))])
@pytest.mark.parametrize("rows", [1, 2, 300])
def test_all_threads_take_part_whatever_the_leading_axes(monkeypatch, lead, rows):
    """BLAS has one thread meanwhile: what is not divided would be done by one core."""
    counts, divided = [], _product.in_parts

    def noted(part, count, elements):
        counts.append(count)
        return divided(part, count, elements)

    monkeypatch.setattr(_product, "in_parts", noted)
    a, b = random(*lead[0], rows, 1000), random(*lead[1], 1000, 900, seed=1)
    close(reference.matmul(a, b), a, b)
    assert min(counts) > 1


def test_many_small_products(backend, threads):
    a, b = random(3000, 7, 9), random(3000, 9, 5, seed=1)
    close(backend.matmul(a, b), a, b)


def test_heads_of_attention(backend, threads):
    """Axes of heads and positions exchanged, as views."""
    q, k = random(2, 90, 4, 32), random(2, 50, 4, 32, seed=1)
    q, k = q.transpose(0, 2, 1, 3), k.transpose(0, 2, 3, 1)
    close(backend.matmul(q, k), q, k)


@pytest.mark.parametrize(
    ("a", "b"),
    [((0, 3), (3, 4)), ((2, 0), (0, 4)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 4)), ((0, 2, 3),) * 2],
    ids=str,
)
def test_empty(backend, a, b):
    if len(b) == 3:
        b = (0, 3, 2)
    y = backend.matmul(np.ones(a, np.float32), np.ones(b, np.float32))
    assert y.shape == (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])
    assert not y.any()


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_other_dtypes(backend, dtype):
    a, b = (random(80, 90) * 9).astype(dtype), (random(90, 70) * 9).astype(dtype)
    np.testing.assert_allclose(
        backend.matmul(a, b), np.einsum("mk,kn->mn", a, b), rtol=1e-12, atol=1e-10
    )
    mixed = backend.matmul(a.astype(np.float64), random(90, 70))
    assert mixed.dtype == np.float64


@np.errstate(invalid="ignore")
def test_not_finite(backend):
    a, b = random(40, 100), random(100, 90)
    a[3, 5], a[7, 6], a[8, 7] = np.nan, np.inf, -np.inf
    y = backend.matmul(a, b)
    assert np.isnan(y[3]).all()
    np.testing.assert_array_equal(y[7], np.where(b[6] > 0, np.inf, -np.inf))
    np.testing.assert_array_equal(y[8], np.where(b[7] < 0, np.inf, -np.inf))
    a[9, 8], b[8] = np.inf, 0
    assert np.isnan(backend.matmul(a, b)[9]).all()
    finite = [i for i in range(40) if i not in (3, 7, 8, 9)]
    assert np.isfinite(backend.matmul(a, b)[finite]).all()


def test_sizes_that_do_not_fit(backend):
    with pytest.raises(ValueError, match="matmul"):
        backend.matmul(random(200, 30), random(31, 200))
    with pytest.raises(ValueError, match="broadcast"):
        backend.matmul(random(2, 100, 90), random(3, 90, 100))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 4, 5, 16, 100])
@pytest.mark.parametrize("size", [(1280, 1000), (33, 7), (701, 45), (128, 64)], ids=str)
def test_linear(backend, threads, size, rows, bias):
    k, o = size
    x, weight = random(rows, k), random(o, k, seed=1)
    b = random(o, seed=2) if bias else None
    expected = x.astype(np.float64) @ weight.T.astype(np.float64) + (b if bias else 0)
    for left, right in itertools.product(layouts(x), layouts(weight)):
        y = backend.linear(left, right, b)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, expected, rtol=4e-6, atol=4e-6 * k**0.5)
    wide = backend.linear(
        x.astype(np.float64), weight.astype(np.float64), b if b is None else b.astype(np.float64)
    )
    np.testing.assert_allclose(wide, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("rows", "k", "o"), [(0, 5, 3), (4, 0, 3), (4, 5, 0)])
def test_linear_of_nothing(backend, rows, k, o):
    bias = random(o)
    y = backend.linear(random(rows, k), random(o, k), bias)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (rows, o)) + np.zeros((rows, 1)))
