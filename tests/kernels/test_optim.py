"""Optimiser updates in float32, against their formulas in float64."""

import numpy as np
import pytest

# Less than a vector, whole ones, remainders, nothing, a number, and one that fills several chunks.
SHAPES = [(5,), (16,), (17, 3), (0,), (), (1,), (150, 301), (3, 3)]

STEPS = 3


def parameters(seed):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), np.float32) for shape in SHAPES]


def state():
    return [np.zeros(shape, np.float32) for shape in SHAPES]


def compare(got, expected):
    for a, b in zip(got, expected):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def descent(g, p, decay, maximize):
    return (-g if maximize else g) + decay * p


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(
    ("momentum", "dampening", "nesterov"),
    [(0.0, 0.0, False), (0.9, 0.0, False), (0.9, 0.3, False), (0.8, 0.0, True)],
)
def test_sgd(backend, threads, momentum, dampening, nesterov, maximize, decay):
    params, buffers = parameters(0), state()
    wide = [p.astype(np.float64) for p in params]
    kept = [0.0] * len(params)
    for step in range(STEPS):
        grads = parameters(step + 1)
        for i, g in enumerate(grads):
            g = descent(g.astype(np.float64), wide[i], decay, maximize)
            kept[i] = g if step == 0 else momentum * kept[i] + (1 - dampening) * g
            if momentum == 0:
                wide[i] = wide[i] - 0.1 * g
            else:
                wide[i] = wide[i] - 0.1 * (g + momentum * kept[i] if nesterov else kept[i])
        backend.sgd_step(
            params, grads, buffers if momentum else None, lr=0.1, momentum=momentum,
            dampening=dampening, weight_decay=decay, nesterov=nesterov, maximize=maximize,
            first=step == 0,
        )  # fmt: skip
    compare(params, wide)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam(backend, threads, amsgrad, maximize, decay, decoupled):
    params, means, squares, largest = parameters(0), state(), state(), state()
    wide = [p.astype(np.float64) for p in params]
    m, v, most = ([0.0] * len(params) for _ in range(3))
    for step in range(1, STEPS + 1):
        grads = parameters(step)
        for i, g in enumerate(grads):
            if decoupled:
                wide[i] = wide[i] * (1 - 0.01 * decay)
            g = descent(g.astype(np.float64), wide[i], 0 if decoupled else decay, maximize)
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.99 * v[i] + 0.01 * g**2
            most[i] = np.maximum(most[i], v[i])
            root = np.sqrt((most[i] if amsgrad else v[i]) / (1 - 0.99**step))
            wide[i] = wide[i] - 0.01 * (m[i] / (1 - 0.9**step)) / (root + 1e-8)
        backend.adam_step(
            params, grads, means, squares, largest if amsgrad else None, [step] * len(params),
            lr=0.01, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=decay,
            decoupled_weight_decay=decoupled, maximize=maximize,
        )  # fmt: skip
    compare(params, wide)
    compare(means, m)
    compare(squares, v)
    if amsgrad:
        compare(largest, most)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(("decay", "maximize"), [(0.0, False), (0.1, True)])
def test_rmsprop(backend, threads, centred, momentum, decay, maximize):
    params, squares, means, buffers = parameters(0), state(), state(), state()
    wide = [p.astype(np.float64) for p in params]
    v, a, b = ([0.0] * len(params) for _ in range(3))
    for step in range(STEPS):
        grads = parameters(step + 1)
        for i, g in enumerate(grads):
            g = descent(g.astype(np.float64), wide[i], decay, maximize)
            v[i] = 0.9 * v[i] + 0.1 * g**2
            a[i] = 0.9 * a[i] + 0.1 * g
            root = np.sqrt(v[i] - a[i] ** 2 if centred else v[i])
            b[i] = momentum * b[i] + g / (root + 1e-3)
            wide[i] = wide[i] - 0.01 * b[i]
        backend.rmsprop_step(
            params, grads, squares, means if centred else None, buffers if momentum else None,
            lr=0.01, alpha=0.9, eps=1e-3, weight_decay=decay, momentum=momentum, maximize=maximize,
        )  # fmt: skip
    compare(params, wide)


@pytest.mark.parametrize(("decay", "maximize"), [(0.0, False), (0.1, True)])
def test_adagrad(backend, threads, decay, maximize):
    params, sums = parameters(0), state()
    wide = [p.astype(np.float64) for p in params]
    s = [0.0] * len(params)
    for step in range(1, STEPS + 1):
        grads = parameters(step)
        for i, g in enumerate(grads):
            g = descent(g.astype(np.float64), wide[i], decay, maximize)
            s[i] = s[i] + g**2
            wide[i] = wide[i] - 0.1 / (1 + (step - 1) * 0.5) * g / (np.sqrt(s[i]) + 1e-8)
        backend.adagrad_step(
            params, grads, sums, [step] * len(params), lr=0.1, lr_decay=0.5, weight_decay=decay,
            eps=1e-8, maximize=maximize,
        )  # fmt: skip
    compare(params, wide)
    compare(sums, s)


def sgd(backend, params, grads):
    backend.sgd_step(
        params, grads, None, lr=0.5, momentum=0.0, dampening=0.0, weight_decay=0.0,
        nesterov=False, maximize=False, first=True,
    )  # fmt: skip


def test_any_layout_and_dtype(backend, threads):
    """Read-only gradients in any layout; parameters too, each by itself, and of either dtype."""
    rng = np.random.default_rng(0)

    def lying(x):
        return [x.copy(), x.T.copy().T, np.repeat(x, 2, axis=1)[:, ::2], x.astype(np.float64)]

    start = rng.standard_normal((20, 30)).astype(np.float32)
    grad = rng.standard_normal((20, 30)).astype(np.float32)
    pairs = [(p, g) for p in range(4) for g in range(4) if (p == 3) == (g == 3)]
    params = [lying(start)[p] for p, _ in pairs]
    grads = [lying(grad)[g] for _, g in pairs]
    for g in grads:
        g.flags.writeable = False
    sgd(backend, params, grads)
    for param in params:
        np.testing.assert_allclose(param, start - 0.5 * grad, rtol=1e-6, atol=1e-6)


def test_neighbours_are_left_alone(backend, threads):
    whole = np.full(40_000, 7, np.float32)
    parts = [whole[3:18], whole[40:39_000], whole[39_001:39_002]]
    sgd(backend, parts, [np.ones(p.shape, np.float32) for p in parts])
    changed = np.zeros(40_000, bool)
    changed[3:18] = changed[40:39_000] = changed[39_001] = True
    np.testing.assert_array_equal(whole, np.where(changed, 6.5, 7))


def test_nan_stays_with_its_element(backend):
    params = [np.ones(50, np.float32), np.ones(3, np.float32)]
    grads = [np.zeros(50, np.float32), np.zeros(3, np.float32)]
    grads[0][20] = np.nan
    means, squares, largest = (
        [np.zeros(50, np.float32), np.zeros(3, np.float32)] for _ in range(3)
    )
    for step in (1, 2):
        backend.adam_step(
            params, grads, means, squares, largest, [step, step], lr=0.1, beta1=0.9, beta2=0.9,
            eps=1e-8, weight_decay=0.0, decoupled_weight_decay=False, maximize=False,
        )  # fmt: skip
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(params[0])), [20])
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(largest[0])), [20])
    assert np.isfinite(params[1]).all()


def test_an_infinite_parameter_without_decay(backend):
    """Decay 0 adds nothing, not 0 · infinity."""
    params = [np.array([np.inf, 1], np.float32)]
    sgd(backend, params, [np.ones(2, np.float32)])
    np.testing.assert_array_equal(params[0], [np.inf, 0.5])


def test_nothing_at_all(backend):
    sgd(backend, [], [])
    sgd(backend, [np.zeros((0, 3), np.float32)], [np.zeros((0, 3), np.float32)])
