"""Random networks: the gradients of each backend are those of float64.

A layer alone is tested elsewhere. What only a network shows is whether a result still holds when
later kernels have run.
"""

import numpy as np
import pytest

import lucid
from lucid import kernels, nn

ACTIVATIONS = [
    nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.GELU, nn.ELU, nn.Tanh, nn.Sigmoid,
    nn.Softplus, nn.Mish, nn.LeakyReLU, nn.PReLU,
]  # fmt: skip


class Residual(nn.Module):
    """``x + layers(x)``."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.layers(x)


class PixelAttention(nn.Module):
    """Attention among the pixels of an image, each a token of its channels."""

    def __init__(self, channels, heads):
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        y, _ = self.attention(tokens, tokens, tokens)
        return y.transpose(1, 2).reshape(x.shape)


class Builder:
    """Adds layers, and knows the shape of the images they make."""

    def __init__(self, rng):
        self.rng = rng
        self.shape = (self.one_of(1, 2, 5), self.one_of(1, 3, 8), *rng.integers(5, 10, 2))
        self.input_shape = tuple(int(size) for size in self.shape)
        self.layers = []

    def one_of(self, *values):
        return values[self.rng.integers(len(values))]

    def add(self, layer):
        with lucid.no_grad():
            self.shape = layer(lucid.zeros(*self.shape)).shape
        self.layers.append(layer)

    def convolution(self, keep=False):
        channels = self.shape[1]
        dilation = self.one_of(1, 1, 2)
        kernel = self.one_of(*[k for k in (1, 2, 3, 5) if k % 2 or not keep])
        reach = dilation * (kernel - 1)
        padding = reach // 2 if keep else int(self.rng.integers(0, reach // 2 + 2))
        if min(self.shape[2:]) + 2 * padding <= reach:
            kernel, padding = 1, 0
        groups = self.one_of(1, 1, channels)
        out = channels if keep else groups * self.one_of(*([1, 2] if groups > 1 else [1, 4, 6]))
        stride = 1 if keep else self.one_of(1, 1, 2)
        bias = bool(self.one_of(True, False))
        return nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias)

    def convolutions(self):
        self.add(self.convolution())
        if self.one_of(True, False) and np.prod(self.shape) / self.shape[1] >= 16:
            self.add(nn.BatchNorm2d(self.shape[1]))
        self.add(self.one_of(*ACTIVATIONS)())

    def residual(self):
        convolution = self.convolution(keep=True)
        self.add(Residual(convolution, self.one_of(*ACTIVATIONS)(), self.convolution(keep=True)))

    def pool(self):
        kind = self.one_of(nn.MaxPool2d, nn.AvgPool2d)
        if min(self.shape[2:]) > 2:
            self.add(kind(self.one_of(2, 3), self.one_of(1, 2), self.one_of(0, 1)))

    def attention(self):
        if np.prod(self.shape[2:]) <= 64:
            channels = self.shape[1]
            self.add(PixelAttention(channels, self.one_of(1, channels)))

    def finish(self):
        if self.one_of(True, False):
            self.add(nn.AdaptiveAvgPool2d(1))
        self.add(nn.Flatten())
        self.add(nn.Linear(self.shape[1], self.one_of(1, 7)))
        return nn.Sequential(*self.layers)


def network(seed):
    rng = np.random.default_rng(seed)
    lucid.manual_seed(seed)
    builder = Builder(rng)
    for _ in range(rng.integers(2, 6)):
        choices = [builder.convolutions, builder.convolutions, builder.residual]
        builder.one_of(*choices, builder.pool, builder.attention)()
    model = builder.finish()
    return model, rng.standard_normal(builder.input_shape), rng.standard_normal(builder.shape)


def gradients(model, state, x, weights, dtype):
    """The gradients of the parameters and of the input, and the output."""
    model.to(dtype).load_state_dict(state)
    model.zero_grad()
    x = lucid.tensor(x, dtype=dtype, requires_grad=True)
    y = model(x)
    (y * lucid.tensor(weights, dtype=dtype)).sum().backward()
    of_parameters = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"output": y.detach(), "input": x.grad, **of_parameters}


@pytest.fixture
def every_backend():
    before = kernels.get_backend()
    yield
    kernels.set_backend(before)


@pytest.mark.parametrize("seed", range(100))
def test_gradients_of_random_networks(every_backend, seed):
    model, x, weights = network(seed)
    state = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    kernels.set_backend("numpy")
    expected = gradients(model, state, x, weights, np.float64)
    expected = {name: value.numpy() for name, value in expected.items()}
    # Of a bias before a batch norm, say, the gradient is 0 up to the rounding of what cancels.
    largest = max(np.abs(value).max() for value in expected.values())
    for backend in kernels.available_backends():
        try:
            kernels.set_backend(backend)
        except ImportError:
            continue
        got = gradients(model, state, x, weights, np.float32)
        for name, value in got.items():
            np.testing.assert_allclose(
                value.numpy(), expected[name], rtol=1e-3, atol=1e-4 * largest,
                err_msg=f"{name} on {backend}",
            )  # fmt: skip
