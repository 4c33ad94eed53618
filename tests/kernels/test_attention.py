"""Prepared attention against the definition in float64."""

import itertools

import numpy as np
import pytest

SIZES = [
    # L, E, S, V
    (1, 1, 1, 1), (14, 16, 16, 16), (15, 17, 33, 5), (100, 64, 49, 64), (13, 8, 15, 40),
    (784, 64, 49, 64), (200, 20, 300, 33),
]  # fmt: skip


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def definition(q, k, v, scale):
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scores = scale * np.einsum("...le,...se->...ls", q, k)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("...ls,...sv->...lv", weights, v)


def attend(backend, q, k, v, scale):
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    out = np.full((*lead, q.shape[-2], v.shape[-1]), 7, q.dtype)
    run = backend.prepare_attention(q.shape, k.shape, v.shape, scale, q.dtype)
    run(out, q, k, v)
    return out


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.125, -0.5])
def test_values(backend, threads, size, scale):
    length, e, s, width = size
    q, k, v = random(2, length, e), random(2, s, e, seed=1), random(2, s, width, seed=2)
    for array in (q, k, v):
        array.flags.writeable = False
    expected = definition(q, k, v, scale)
    np.testing.assert_allclose(attend(backend, q, k, v, scale), expected, rtol=1e-4, atol=2e-5)
    wide = [x.astype(np.float64) for x in (q, k, v)]
    np.testing.assert_allclose(attend(backend, *wide, scale), expected, rtol=1e-10, atol=1e-12)


def test_layouts(backend, threads):
    q, k, v = random(2, 50, 24), random(2, 30, 24, seed=1), random(2, 30, 20, seed=2)
    expected = definition(q, k, v, 0.3)

    def lying(x):
        yield x
        yield np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2)
        yield np.repeat(x, 2, axis=2)[..., ::2]
        yield np.repeat(x, 2, axis=1)[:, ::2]

    for a, b, c in itertools.product(lying(q), lying(k), lying(v)):
        np.testing.assert_allclose(attend(backend, a, b, c, 0.3), expected, rtol=1e-4, atol=2e-5)


def test_leading_axes_broadcast(backend, threads):
    q, k, v = random(2, 3, 40, 16), random(2, 1, 20, 16, seed=1), random(3, 20, 8, seed=2)
    np.testing.assert_allclose(
        attend(backend, q, k, v, 0.25), definition(q, k, v, 0.25), rtol=1e-4, atol=2e-5
    )
    q, k, v = q[0, 0], k[0, 0], v[0]
    np.testing.assert_allclose(
        attend(backend, q, k, v, 0.25), definition(q, k, v, 0.25), rtol=1e-4, atol=2e-5
    )


def test_called_again_with_other_memory(backend):
    run = backend.prepare_attention((1, 30, 8), (1, 20, 8), (1, 20, 8), 1.0, np.dtype(np.float32))
    for seed in range(4):
        q, k, v = random(1, 30, 8, seed=seed), random(1, 20, 8), random(1, 20, 8, seed=seed + 9)
        out = np.empty((1, 30, 8), np.float32)
        for _ in range(2):
            run(out, q, k, v)
            np.testing.assert_allclose(out, definition(q, k, v, 1), rtol=1e-4, atol=2e-5)
            q += 1  # the same memory with other numbers


def test_not_finite(backend):
    q, k, v = random(1, 30, 8), random(1, 20, 8, seed=1), random(1, 20, 8, seed=2)
    q[0, 3, 2], q[0, 4] = np.nan, 1e20
    with np.errstate(all="ignore"):
        out = attend(backend, q, k, v, 1.0)
    assert np.isnan(out[0, 3]).all()
    rows = [i for i in range(30) if i != 3]
    np.testing.assert_allclose(out[0, rows], definition(q, k, v, 1)[0, rows], rtol=1e-4, atol=2e-5)


def test_empty(backend):
    q, k, v = random(0, 5, 4), random(0, 6, 4), random(0, 6, 3)
    assert attend(backend, q, k, v, 1.0).shape == (0, 5, 3)
