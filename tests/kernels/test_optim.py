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


def take_step(backend, kind, count, params, grads, states, **settings):
    """Take step number ``count``; states that are no lists are not there."""
    states = {name: arrays for name, arrays in states.items() if isinstance(arrays, list)}
    backend.optimizer_step(kind, params, grads, states, [count] * len(params), settings)


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
        take_step(
            backend, "sgd", step + 1, params, grads, {"momentum_buffer": momentum and buffers},
            lr=0.1, momentum=momentum, dampening=dampening, weight_decay=decay, nesterov=nesterov,
            maximize=maximize,
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
        kept = {"exp_avg": means, "exp_avg_sq": squares, "max_exp_avg_sq": amsgrad and largest}
        take_step(
            backend, "adam", step, params, grads, kept, lr=0.01, betas=(0.9, 0.99), eps=1e-8,
            weight_decay=decay, amsgrad=amsgrad, decoupled_weight_decay=decoupled,
            maximize=maximize,
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
        take_step(
            backend, "rmsprop", step + 1, params, grads,
            {"square_avg": squares, "grad_avg": centred and means,
             "momentum_buffer": momentum and buffers},
            lr=0.01, alpha=0.9, eps=1e-3, weight_decay=decay, momentum=momentum, centered=centred,
            maximize=maximize,
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
        take_step(
            backend, "adagrad", step, params, grads, {"sum": sums}, lr=0.1, lr_decay=0.5,
            weight_decay=decay, eps=1e-8, maximize=maximize,
        )  # fmt: skip
    compare(params, wide)
    compare(sums, s)


def sgd(backend, params, grads):
    take_step(
        backend, "sgd", 1, params, grads, {}, lr=0.5, momentum=0.0, dampening=0.0,
        weight_decay=0.0, nesterov=False, maximize=False,
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
        kept = {"exp_avg": means, "exp_avg_sq": squares, "max_exp_avg_sq": largest}
        take_step(
            backend, "adam", step, params, grads, kept, lr=0.1, betas=(0.9, 0.9), eps=1e-8,
            weight_decay=0.0, amsgrad=True, decoupled_weight_decay=False, maximize=False,
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


def test_a_buffer_starts_as_the_gradient_whatever_the_others_have_done(backend):
    """Each parameter has a count of its own: one that gets its first gradient late starts late."""
    params = [np.ones(20, np.float32) for _ in range(2)]
    grads = [np.full(20, 2, np.float32) for _ in range(2)]
    buffers = [np.full(20, 4, np.float32) for _ in range(2)]
    backend.optimizer_step(
        "sgd", params, grads, {"momentum_buffer": buffers}, [1, 2],
        {"lr": 0.25, "momentum": 0.5, "dampening": 0.5, "weight_decay": 0.0, "nesterov": False,
         "maximize": False},
    )  # fmt: skip
    assert {*buffers[0], *buffers[1]} == {2, 0.5 * 4 + 0.5 * 2}
    assert {*params[0]} == {1 - 0.25 * 2}
    assert {*params[1]} == {1 - 0.25 * 3}


@pytest.mark.parametrize("count", [1, 5])
def test_weights_may_shrink_to_nothing(backend, count):
    """AdamW with ``lr * weight_decay = 1`` forgets the weights: only the step is left."""
    param, grad = np.array([7.0, -3.0], np.float32), np.array([1.0, -2.0], np.float32)
    states = {name: [np.zeros(2, np.float32)] for name in ("exp_avg", "exp_avg_sq")}
    take_step(
        backend, "adam", count, [param], [grad], states, lr=0.5, betas=(0.0, 0.0), eps=0.0,
        weight_decay=2.0, amsgrad=False, decoupled_weight_decay=True, maximize=False,
    )  # fmt: skip
    np.testing.assert_array_equal(param, [-0.5, 0.5])
