"""Kernels and their gradients beside PyTorch's, in float32."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional


def random(*shape, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * 3).astype(np.float32)


def with_gradient(function, grad, *arrays):
    """Return PyTorch's value and its gradients with respect to the arrays."""
    inputs = [torch.from_numpy(array).requires_grad_() for array in arrays]
    y = function(*inputs)
    y.backward(torch.from_numpy(grad))
    return y.detach().numpy(), [x.grad.numpy() for x in inputs]


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "settings", "function"),
    [
        ("gelu", (False,), F.gelu),
        ("gelu", (True,), lambda x: F.gelu(x, approximate="tanh")),
        ("silu", (), F.silu),
        ("hardswish", (), F.hardswish),
    ],
    ids=["gelu", "gelu_tanh", "silu", "hardswish"],
)
@np.errstate(over="ignore")  # as it is in an operation
def test_activations(backend, name, settings, function):
    x, grad = random(40, 1003), random(40, 1003, seed=1)
    y, (gx,) = with_gradient(function, grad, x)
    close(getattr(backend, name)(x, *settings), y)
    close(getattr(backend, f"{name}_grad")(grad, x, *settings), gx)


@pytest.mark.parametrize("shape", [(30, 49), (5, 1000), (2, 784, 196)], ids=str)
def test_softmax(backend, shape):
    x, grad = random(*shape), random(*shape, seed=1)
    y, (gx,) = with_gradient(lambda x: x.softmax(-1), grad, x)
    close(backend.softmax(x, -1), y)
    close(backend.softmax_grad(grad, y, -1), gx)
    y, (gx,) = with_gradient(lambda x: x.log_softmax(-1), grad, x)
    close(backend.log_softmax(x, -1), y)
    np.testing.assert_allclose(backend.log_softmax_grad(grad, y, -1), gx, rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(backend, weighted, smoothing):
    x, grad = random(50, 203), random(50, seed=1)
    target = np.random.default_rng(2).integers(0, 203, 50)
    target[::7] = -1
    weight = np.linspace(0.5, 2, 203, dtype=np.float32) if weighted else None
    losses, (gx,) = with_gradient(
        lambda x: F.cross_entropy(
            x,
            torch.from_numpy(target),
            None if weight is None else torch.from_numpy(weight),
            ignore_index=-1,
            reduction="none",
            label_smoothing=smoothing,
        ),
        grad,
        x,
    )
    got, log_p = backend.cross_entropy(x, target, weight, smoothing)
    close(got, losses)
    np.testing.assert_allclose(
        backend.cross_entropy_grad(grad, log_p, target, weight, smoothing), gx, rtol=1e-4, atol=4e-5
    )


@pytest.mark.parametrize(("size", "kernel", "stride", "pad"), [(20, 3, 2, 1), (21, 2, 2, 0)])
def test_pooling(backend, size, kernel, stride, pad):
    x = random(2, 37, size, size)
    nhwc = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    out = (size + 2 * pad - kernel) // stride + 1
    grad = random(2, 37, out, out, seed=1)
    own = np.ascontiguousarray(grad.transpose(0, 2, 3, 1))
    kernels, steps, pads = (kernel,) * 2, (stride,) * 2, ((pad, pad), (pad, pad))
    y, (gx,) = with_gradient(lambda x: F.max_pool2d(x, kernel, stride, pad), grad, x)
    got, taps = backend.max_pool2d(nhwc, kernels, steps, pads, (1, 1), (out, out))
    close(got.transpose(0, 3, 1, 2), y)
    got = backend.max_pool2d_grad(own, taps, nhwc.shape, kernels, steps, pads, (1, 1))
    close(got.transpose(0, 3, 1, 2), gx)
    y, (gx,) = with_gradient(
        lambda x: F.avg_pool2d(x, kernel, stride, pad, divisor_override=1), grad, x
    )
    close(backend.sum_pool2d(nhwc, kernels, steps, pads, (out, out)).transpose(0, 3, 1, 2), y)
    got = backend.sum_pool2d_grad(own, nhwc.shape, kernels, steps, pads)
    close(got.transpose(0, 3, 1, 2), gx)


def test_products(backend):
    a, b, grad = random(3, 70, 40), random(3, 40, 90, seed=1), random(3, 70, 90, seed=2)
    y, (ga, gb) = with_gradient(torch.matmul, grad, a, b)

    def near(got, wanted):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=3e-4)

    near(backend.matmul(a, b), y)
    near(backend.matmul(grad, b.transpose(0, 2, 1)), ga)
    near(backend.matmul(a.transpose(0, 2, 1), grad), gb)
    x, weight, bias, grad = random(70, 40), random(90, 40), random(90), random(70, 90, seed=3)
    y, (gx, gw, _) = with_gradient(F.linear, grad, x, weight, bias)
    near(backend.linear(x, weight, bias), y)
    near(backend.linear(grad, weight.T, None), gx)
    near(backend.linear(grad.T, x.T, None), gw)


@pytest.mark.parametrize("scale", [1.0, 0.125])
def test_attention(backend, scale):
    q, k, v = random(2, 4, 90, 32), random(2, 4, 50, 32, seed=1), random(2, 4, 50, 24, seed=2)
    q /= 3
    y = F.scaled_dot_product_attention(*map(torch.from_numpy, (q, k, v)), scale=scale).numpy()
    out = np.empty_like(y)
    backend.prepare_attention(q.shape, k.shape, v.shape, scale, q.dtype)(out, q, k, v)
    np.testing.assert_allclose(out, y, rtol=1e-4, atol=1e-4)
