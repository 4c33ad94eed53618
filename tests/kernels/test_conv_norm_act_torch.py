"""Convolution, batch norm and clip as one operation of training, against PyTorch."""

import numpy as np
import pytest

from tests.kernels.test_conv_norm_act import EPS, LARGE, arguments
from tests.kernels.test_conv_norm_act import kernels as kernels

torch = pytest.importorskip("torch")


def by_torch(x, weight, gamma, beta, bounds, how):
    stride, ((top, bottom), (left, right)), dilation, groups = how
    image = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    z = torch.nn.functional.conv2d(image, weight, None, stride, 0, dilation, groups)
    y = torch.nn.functional.batch_norm(z, None, None, gamma, beta, True, 0.1, EPS)
    return y.clamp(*bounds).permute(0, 2, 3, 1) if bounds != (None, None) else y.permute(0, 2, 3, 1)


@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("bounds", [(None, None), (0.0, None), (0.0, 6.0)])
def test_value_and_gradients(kernels, case, bounds):
    *arrays, how = arguments(case)
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = by_torch(*tensors, bounds, how)
    x, weight, gamma, beta = arrays
    settings = (gamma, beta, EPS, *bounds, *how)
    y, z, mean, variance = kernels.conv_norm_act_train(x, weight, *settings)
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
