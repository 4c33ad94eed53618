"""A traced run computes the first image of a batch alone, unless something looks at others."""

import mmap
from collections import deque

import numpy as np
import pytest

import lucid
from lucid import kernels, nn
from lucid._compile._first import begun, complete, shown
from lucid._compile._trace import faithful_graph
from lucid.autograd._tensor import wrap


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


LOOKS = {
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


def test_a_trace_computes_one_image(backend, monkeypatch):
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.Hardswish()
    model = nn.Sequential(*layers).eval()
    lengths = set()
    conv2d = kernels.active().conv2d

    def counted(x, *more):
        lengths.add(len(x))
        return conv2d(x, *more)

    monkeypatch.setattr(kernels.active(), "conv2d", counted)
    graph = faithful_graph(model, (6, 3, 32, 32), np.dtype(np.float32))
    assert lengths == {1}
    assert {value.shape[0] for each in graph.operations for value in each.outputs} == {6}


def test_others_are_the_first_from_further_on():
    first = np.random.default_rng(0).standard_normal((1, 4, 5, 3)).transpose(0, 3, 1, 2)
    tensor = wrap(begun(first, 4))
    batch = tensor.data
    assert batch.shape == (4, 3, 4, 5)
    assert batch.strides == np.empty((4, 4, 5, 3)).transpose(0, 3, 1, 2).strides
    assert not batch[2:].any()
    before = shown(tensor).copy()
    np.testing.assert_array_equal(before[:1], first)
    complete([tensor])
    np.testing.assert_array_equal(shown(tensor), batch)
    np.testing.assert_array_equal(batch, before)
    assert len(np.unique(batch[:, 0, 0, 0])) == 4


def test_the_memory_of_a_batch_is_used_again_when_that_is_gone():
    rng, free = np.random.default_rng(0), deque()
    firsts = [rng.standard_normal((1, 3, size, 6)).astype("f") for size in (5, 4, 5)]
    old = begun(firsts[0], 4, free)
    complete([wrap(old)])
    view = old[:, 1:]
    del old
    assert not free
    del view
    (memory,) = free
    smaller, other = (begun(first, 4, free) for first in firsts[1:])
    assert not free
    for array, first in ((smaller, firsts[1]), (other, firsts[2])):
        tensor = wrap(array)
        before = shown(tensor).copy()
        complete([tensor])
        np.testing.assert_array_equal(array, before)
        np.testing.assert_array_equal(array[:1], first)
    del smaller, other, tensor, array
    assert len(free) == 2
    assert memory in free


def test_a_run_keeps_no_memory(monkeypatch):
    made, make = [], mmap.mmap

    def noted(*args, **more):
        memory = make(*args, **more)
        if more.get("access") == mmap.ACCESS_COPY:  # no machine code
            made.append(memory)
        return memory

    monkeypatch.setattr(mmap, "mmap", noted)
    layers = [nn.Conv2d(3, 3, 1), nn.ReLU()] * 5
    compiled = lucid.compile(nn.Sequential(*layers).eval(), (4, 3, 8, 8))
    assert 0 < len(made) <= 6  # of two runs of eleven batches
    for memory in made:
        memory.close()  # nothing else has it
    assert compiled(lucid.zeros(4, 3, 8, 8)).shape == (4, 3, 8, 8)
