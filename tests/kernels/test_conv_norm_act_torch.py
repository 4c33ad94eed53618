"""Convolution, batch norm and clip as one operation of training, against PyTorch."""

import numpy as np
import pytest

from lucid.kernels.geometry import NO_BOUNDS
from tests.kernels.test_conv_norm_act import EPS, LARGE, arguments
from tests.kernels.test_conv_norm_act import kernels as kernels

torch = pytest.importorskip("torch")


def by_torch(x, weight, gamma, beta, bounds, how):
    stride, ((top, bottom), (left, right)), dilation, groups = how
    image = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    z = torch.nn.functional.conv2d(image, weight, None, stride, 0, dilation, groups)
    y = torch.nn.functional.batch_norm(z, None, None, gamma, beta, True, 0.1, EPS)
    return y.clamp(*bounds).permute(0, 2, 3, 1) if bounds != NO_BOUNDS else y.permute(0, 2, 3, 1)


@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bounds", [(0.0, np.inf), (0.0, 6.0)])
def test_gradient_at_nan_and_infinite_gradient_where_clipped(kernels, case, bounds, dtype):
    *arrays, how = arguments(case)
    x, weight, gamma, beta = (array.astype(dtype) for array in arrays)
    settings = (gamma, beta, EPS, bounds, how)
    y, z, mean, variance, *_ = kernels.conv_norm_act_train(x, weight, *settings)
    grad = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    finite = grad.copy()
    grad[y == 0], finite[y == 0] = np.inf, 0
    both = [
        kernels.conv_norm_act_train_grad(g, x, weight, z, mean, variance, *settings, True, True)
        for g in (grad, finite)
    ]
    for result, right in zip(*both):
        assert np.isfinite(result).all()
        np.testing.assert_array_equal(result, right)
    # As in PyTorch, NaN is at no bound: all of the gradient reaches the summand.
    z = np.full_like(z, np.nan)
    *_, dbeta = kernels.conv_norm_act_train_grad(
        finite, x, weight, z, mean, variance, *settings, True, True
    )
    t = torch.full(z.shape, torch.nan, requires_grad=True, dtype=torch.from_numpy(z).dtype)
    torch.relu(t).backward(torch.from_numpy(finite))
    np.testing.assert_allclose(dbeta, t.grad.sum((0, 1, 2)).numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("bounds", [NO_BOUNDS, (0.0, np.inf), (0.0, 6.0)])
def test_value_and_gradients(kernels, case, bounds):
    *arrays, how = arguments(case)
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = by_torch(*tensors, bounds, how)
    x, weight, gamma, beta = arrays
    settings = (gamma, beta, EPS, bounds, how)
    y, z, mean, variance, *_ = kernels.conv_norm_act_train(x, weight, *settings)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-9, atol=1e-9)
    grad = np.random.default_rng(1).standard_normal(y.shape)
    expected.backward(torch.tensor(grad))
    results = kernels.conv_norm_act_train_grad(
        grad, x, weight, z, mean, variance, *settings, True, True
    )
    for result, tensor in zip(results, tensors):
        right = tensor.grad.numpy()
        scale = np.abs(right).max()
        np.testing.assert_allclose(result, right, rtol=1e-8, atol=1e-9 * scale)
