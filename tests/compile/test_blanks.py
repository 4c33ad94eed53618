"""A traced run computes nothing that goes image by image, unless something looks at numbers."""

import weakref

import numpy as np
import pytest

import lucid
from lucid import kernels, nn
from lucid._compile import _blank, _trace
from lucid._compile._blank import blank, blank_result, complete
from lucid._compile._fuse import BY_IMAGE
from lucid._compile._trace import faithful_graph
from lucid.autograd._function import observe
from lucid.autograd._tensor import wrap
from lucid.ops._pool import SumPool2d


class Of(nn.Module):
    """A convolution, and what a function makes of it and of the images."""

    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.function = function

    def forward(self, x):
        return self.function(self.conv(x), x)


def written(y):
    y.data[1:] = 1.0
    return y


def with_a_way_out(y, x):
    try:
        return y * float(y.max())
    except:  # noqa: E722
        return y


LOOKS = {
    "with a way out": with_a_way_out,
    "at the mean of all": lambda y, x: y - x.mean(0, keepdim=True).mean(),
    "at the mean of all behind it": lambda y, x: (y - y.mean(0)).relu(),
    "at how many there are": lambda y, x: y * len(x),
    "at the first": lambda y, x: y + y[:1],
    "at the one before": lambda y, x: y + y.roll(1, 0),
    "at all as one": lambda y, x: y.reshape(-1, 4) - y.reshape(-1, 4).mean(0),
    "at all along another axis": lambda y, x: y.transpose(0, 1).softmax(1).transpose(0, 1),
    "at a product of all": lambda y, x: y.flatten(1) @ y.flatten(1).transpose(0, 1),
    "at a number for each": lambda y, x: y * lucid.arange(len(x)).reshape(-1, 1, 1, 1).float(),
    "by another road": lambda y, x: y + float(y.numpy().max()),
    "by NumPy": lambda y, x: y + float(np.asarray(y.data)[1:].sum()),
    "at differences by NumPy": lambda y, x: y + float(np.ptp(np.asarray(y.data), axis=0).max()),
    "at the input's differences": lambda y, x: y + float(np.ptp(np.asarray(x.data), axis=0).max()),
    "at differences in another shape": lambda y, x: (
        y
        + float(np.asarray(np.reshape(y.data, (5, -1), order="F"))[1:].sum() if len(y) == 5 else 0)
    ),
    "at a copy": lambda y, x: y + float(np.asarray(np.copy(y.data))[1:].sum()),
    "at each": lambda y, x: y * sum(float(each.sum()) > 0 for each in y),
    "at whether they differ": lambda y, x: y * (2 if (y[1:] == y[:1]).all() else 3),
    "at the bytes": lambda y, x: y * (np.frombuffer(memoryview(y.data).tobytes(), "f4")[-9:].max()),
    "at strides": lambda y, x: y * (y.data.strides[0] // 4),
    "at the layout": lambda y, x: y * (2 if y.data.flags.c_contiguous else 3),
    "at whether it may be written": lambda y, x: y * (2 + np.asarray(y.data).flags.writeable),
    "of the sum": lambda y, x: y * float(y[-1].sum()),
    "by writing into it": lambda y, x: written(y * 2.0),
    "at the means' differences": lambda y, x: y + float(np.ptp(np.asarray(y.mean((1, 2, 3)).data))),
    "in place": lambda y, x: (y.relu_() + y).add_(1.0),
    "at nothing": lambda y, x: (y.relu() + y).mean((2, 3)),
    "at its own pixels": lambda y, x: (y.flatten(2).transpose(1, 2) @ y.flatten(2) * 0.5).softmax(
        -1
    ),
}


@pytest.mark.parametrize("looks", LOOKS)
def test_the_plan_computes_what_the_model_does(looks, backend, threads):
    model = Of(LOOKS[looks]).eval()
    compiled = lucid.compile(model, (5, 3, 6, 7))
    for count in (5, 4, 1):
        x = lucid.randn(count, 3, 6, 7)
        with lucid.no_grad():
            expected = model(x)
        np.testing.assert_allclose(compiled(x).data, expected.data, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("images", [1, 6])
def test_a_trace_computes_nothing(images, backend, monkeypatch):
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.Hardswish()
    model = nn.Sequential(*layers).eval()
    called = []
    for name in ("conv2d", "scale_shift", "clip", "hardswish"):
        monkeypatch.setattr(kernels.active(), name, lambda *args, name=name: called.append(name))
    graph = faithful_graph(model, (images, 3, 32, 32), np.dtype(np.float32))
    assert not called
    shapes = [value.shape for each in graph.operations for value in each.outputs]
    assert shapes == [(images, 4, 30, 30)] * 3 + [(images, 5, 30, 30)] * 2


LAYOUTS = {
    "channels last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "channels first": lambda x: x,
    "columns first": lambda x: np.asfortranarray(x),
    "with gaps": lambda x: np.repeat(x, 2, 3)[..., ::2],
    "of few channels": lambda x: x[:, :4],
    "repeated": lambda x: np.broadcast_to(x[:1], x.shape),
}
# What goes image by image, of images and a tensor beside them.
OPERATIONS = [
    lambda x, y: nn.functional.conv2d(x, lucid.ones(5, x.shape[1], 3, 2), stride=(2, 1), padding=1),
    lambda x, y: nn.functional.conv2d(x, lucid.ones(x.shape[1], 1, 3, 3), groups=x.shape[1]),
    lambda x, y: nn.BatchNorm2d(x.shape[1]).eval()(x),
    lambda x, y: nn.BatchNorm1d(x.shape[1]).eval()(x.flatten(2)),
    lambda x, y: nn.BatchNorm1d(x.shape[1]).eval()(x.mean((2, 3))),
    *[
        lambda x, y, function=function: function(x)
        for name in ("relu", "gelu", "silu", "hardswish", "elu", "hardsigmoid", "leaky_relu")
        for function in [getattr(nn.functional, name)]
    ],
    lambda x, y: nn.functional.softplus(x),
    lambda x, y: x + y,
    lambda x, y: y - x,
    lambda x, y: x * y.mean((2, 3), keepdim=True),
    lambda x, y: y.mean((0, 2, 3), keepdim=True) / x,
    lambda x, y: x + y.mean(1, keepdim=True),
    lambda x, y: x * 2.0,
    lambda x, y: nn.functional.avg_pool2d(x, 2),
]


@pytest.mark.parametrize("of_y", LAYOUTS)
@pytest.mark.parametrize("of_x", LAYOUTS)
def test_a_blank_lies_as_the_result_does(of_x, of_y, backend):
    drawn = np.random.default_rng(0).standard_normal((3, 6, 5, 7)).astype("f")
    x, y = (wrap(LAYOUTS[layout](drawn)) for layout in (of_x, of_y))
    seen = set()

    def compare(kind, args, outputs):
        result = blank_result(kind, args, drawn)
        if result is None:
            return
        seen.add(kind)
        (expected,) = (output.data for output in outputs)
        assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
        for length, step, other in zip(result.shape, result.strides, expected.strides):
            assert length == 1 or step == other

    with observe(compare), lucid.no_grad():
        for operation in OPERATIONS:
            try:
                operation(x, y)
            except ValueError:  # of other channels
                assert x.shape != y.shape
    if of_x == of_y == "channels last":
        assert seen == {*BY_IMAGE} - {SumPool2d}


def test_numbers_are_there_when_they_are_wanted():
    numbers = np.arange(7.0)
    tensor = wrap(blank((2, 3, 4, 5), (0, 2, 3, 1), numbers))
    view = tensor.data[1:]
    assert tensor.data.transpose(0, 2, 3, 1).flags.c_contiguous
    complete({"nested": [wrap(view)]})
    np.testing.assert_array_equal(
        tensor.data.transpose(0, 2, 3, 1).ravel(), np.resize(numbers, 2 * 3 * 4 * 5)
    )
    tensor.data[...] = 1
    complete(tensor)
    assert (view == 1).all()


def test_each_run_has_numbers_of_its_own(monkeypatch):
    given = []
    softmax = kernels.active().softmax
    monkeypatch.setattr(
        kernels.active(), "softmax", lambda x, *more: given.append(x.copy()) or softmax(x, *more)
    )
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Softmax(1)).eval()
    faithful_graph(model, (2, 3, 8, 8), np.dtype(np.float32))
    first, second = given
    assert first.std() > 0.5
    assert second.std() > 5
    assert not np.allclose(second, 10 * first)


def test_who_waits_for_a_number_waits_for_that_of_the_model():
    def halved(y, x):
        while float(abs(y).max()) > 0.5:
            y = y / 2
        return y

    model = Of(halved).eval()
    x = lucid.randn(2, 3, 6, 7)
    with lucid.no_grad():
        expected = model(x)
    np.testing.assert_allclose(lucid.compile(model, x.shape)(x).data, expected.data, rtol=1e-5)


def test_a_run_keeps_no_memory(monkeypatch):
    made = []

    def noted(*args):
        result = blank(*args)
        made.append(weakref.ref(result.base))
        return result

    monkeypatch.setattr(_blank, "blank", noted)
    monkeypatch.setattr(_trace, "blank", noted)
    layers = [nn.Conv2d(3, 3, 1), nn.ReLU()] * 5
    compiled = lucid.compile(nn.Sequential(*layers).eval(), (4, 3, 8, 8))
    assert len(made) == 22  # the inputs and ten results of two runs
    assert not any(reference() is not None for reference in made)
    assert compiled(lucid.zeros(4, 3, 8, 8)).shape == (4, 3, 8, 8)
