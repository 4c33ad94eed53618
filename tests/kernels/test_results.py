"""What a kernel returns is memory of its own: no workspace's, and none of its arguments'.

Sizes of 1 are the dangerous ones: a transposed copy, or a sum over one part, then copies nothing.
"""

import importlib
import itertools

import numpy as np
import pytest

from lucid.kernels.geometry import NO_PADDING, UNIT, Conv, Epilogue

PADDINGS = [NO_PADDING, ((1, 1), (1, 0))]
STRIDES = [(1, 1), (2, 2)]


class Arrays:
    """Random arrays of one dtype."""

    def __init__(self, dtype, seed):
        self.dtype, self.rng = dtype, np.random.default_rng(seed)

    def __call__(self, *shape):
        return self.rng.standard_normal(shape).astype(self.dtype)

    def integers(self, high, *shape):
        return self.rng.integers(high, size=shape)


def convolutions():
    """The sizes of convolutions: images, height and width, channels, kernel, how."""
    sizes = itertools.product((1, 2), (1, 5), (1, 3), (1, 4), (1, 3, 5), STRIDES)
    for n, size, i, o, k, stride in sizes:
        for groups in {1, i if o % i == 0 else 1}:
            padding = (((k - 1) // 2, k // 2),) * 2
            yield (
                (n, size, size + 1, i),
                (o, i // groups, k, k),
                Conv(stride, padding, UNIT, groups),
            )
    for k, padding in itertools.product((1, 2), PADDINGS):
        yield (2, 5, 5, 1), (1, 1, k, 1), Conv(UNIT, padding)
        yield (2, 5, 5, 2), (2, 1, k, k), Conv(UNIT, padding, (2, 2), 2)


def output_shape(x, weight, how):
    stride, padding, dilation, _ = how
    size = [
        (n + sum(p) - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(x[1:3], weight[2:], stride, padding, dilation)
    ]
    return (x[0], *size, weight[0])


def conv2d(a):
    for x, weight, how in convolutions():
        yield a(*x), a(*weight), how
        yield a(*x), a(*weight), how, Epilogue(shift=a(weight[0]))
        yield a(*x), a(*weight), how, Epilogue(a(weight[0]), a(weight[0]), (0.0, np.inf))


def keep_conv(a):
    for x, weight, how in convolutions():
        yield a(*x), a(*weight), how, Epilogue(a(weight[0]), a(weight[0]), (0.0, np.inf))


def conv2d_input_grad(a):
    for x, weight, how in convolutions():
        yield a(*output_shape(x, weight, how)), a(*weight), x, how


def conv2d_weight_grad(a):
    for x, weight, how in convolutions():
        yield a(*x), a(*output_shape(x, weight, how)), weight, how


def conv_norm_act_train(a):
    for x, weight, how in convolutions():
        yield a(*x), a(*weight), a(weight[0]), a(weight[0]), 1e-5, (0.0, 6.0), how


def conv_norm_act_train_grad(a):
    for x, weight, how in convolutions():
        z = a(*output_shape(x, weight, how))
        columns = z.shape[3]
        mean, variance = a(columns).astype(np.float64), a(columns).astype(np.float64) ** 2 + 1
        norm = a(columns), a(columns), 1e-5, (0.0, np.inf)
        yield a(*z.shape), a(*x), a(*weight), z, mean, variance, *norm, how, True, True


def of_rows():
    return itertools.product((1, 2, 300), (1, 3, 16, 40))


def batch_norm_stats(a):
    for shape in of_rows():
        yield (a(*shape),)


def scale_shift(a):
    for rows, columns in of_rows():
        yield a(rows, columns), a(columns), a(columns)


def batch_norm_grad(a):
    for rows, columns in of_rows():
        for weight in (None, a(columns)):
            yield a(rows, columns), a(rows, columns), a(columns), a(columns) ** 2 + 1, weight


def element_wise(arguments, *settings):
    def make(a):
        for shape in [(), (1,), (1, 1, 1, 1), (5, 3), (1, 300), (300, 1), (2, 9, 9, 4)]:
            yield *[a(*shape) for _ in range(arguments)], *settings
        image = [a(2, 9, 9, 4).transpose(0, 3, 1, 2) for _ in range(arguments)]
        yield *image, *settings

    return make


def along_axis(arguments):
    def make(a):
        for shape in [(1,), (1, 1), (5, 1), (1, 5), (5, 3), (1, 300), (2, 4, 1)]:
            for axis in range(len(shape)):
                yield *[a(*shape) for _ in range(arguments)], axis

    return make


def losses(a, of_losses=False):
    for rows, columns in itertools.product((1, 5), (1, 3, 40)):
        for weight, smoothing in itertools.product((None, a(columns) ** 2), (0.0, 0.1)):
            first = [a(rows)] if of_losses else []
            yield *first, a(rows, columns), a.integers(columns, rows), weight, smoothing


def cross_entropy_grad(a):
    return losses(a, of_losses=True)


def pools():
    sizes = itertools.product((1, 2), (1, 6), (1, 3), (1, 2), (1, 2), PADDINGS)
    for n, size, c, k, stride, padding in sizes:
        if k > size or (k == 1 and padding != NO_PADDING):
            continue
        out = [(size + sum(p) - k) // stride + 1 for p in padding]
        yield (n, size, size, c), (k, k), (stride, stride), padding, tuple(out)


def max_pool2d(a):
    for x, kernel, stride, padding, size in pools():
        yield a(*x), kernel, stride, padding, UNIT, size


def taps(a, shape, kernel):
    return a.integers(kernel[0] * kernel[1], *shape).astype(np.int32)


def max_pool2d_grad(a):
    for x, kernel, stride, padding, size in pools():
        shape = (x[0], *size, x[3])
        # The last tap is inside in any case: the padding is at most one.
        yield a(*shape), np.zeros(shape, np.int32), x, kernel, stride, padding, UNIT


def max_pool2d_take(a):
    for x, kernel, stride, padding, size in pools():
        if padding == NO_PADDING:
            yield a(*x), taps(a, (x[0], *size, x[3]), kernel), kernel, stride, padding, UNIT


def sum_pool2d(a):
    for x, kernel, stride, padding, size in pools():
        yield a(*x), kernel, stride, padding, size


def sum_pool2d_grad(a):
    for x, kernel, stride, padding, size in pools():
        yield a(x[0], *size, x[3]), x, kernel, stride, padding


def sums(a):
    for shape in ((1,), (300,), (1, 1), (300, 1), (1, 300), (1, 300, 1), (2, 300, 3)):
        for count in range(len(shape) + 1):
            for axes in itertools.combinations(range(len(shape)), count):
                yield a(*shape), axes
                yield a(*shape), axes, True


def variance(a):
    for shape in ((300,), (300, 1), (1, 300), (40, 70), (2, 300, 3), (3, 5, 4, 6)):
        for count in range(1, len(shape) + 1):
            for axes in itertools.combinations(range(len(shape)), count):
                yield a(*shape), axes, 2.0
                yield a(*shape) + 1000, axes, 2.0  # values that hardly differ


def matmul(a):
    for m, k, n in itertools.product((1, 3, 40), (1, 70), (1, 5, 50)):
        yield a(m, k), a(k, n)
        yield a(k, m).T, a(n, k).T
        yield a(1, m, k), a(2, k, n)


def linear(a):
    for m, k, n in itertools.product((1, 3, 40), (1, 70), (1, 5, 50)):
        yield a(m, k), a(n, k), a(n)
        yield a(m, k), a(n, k), None


KERNELS = {
    "clip": element_wise(1, 0.0, 6.0),
    "clip_grad": element_wise(2, 0.0, np.inf),
    "elu_grad": element_wise(2, 1.0, 1.0, 1.0),
    "erf": element_wise(1),
    "gelu": element_wise(1, True),
    "gelu_grad": element_wise(2, False),
    "hardswish": element_wise(1),
    "hardswish_grad": element_wise(2),
    "sigmoid": element_wise(1),
    "silu": element_wise(1),
    "silu_grad": element_wise(2),
    "batch_norm_grad": batch_norm_grad,
    "batch_norm_stats": batch_norm_stats,
    "scale_shift": scale_shift,
    "conv2d": conv2d,
    "keep_conv": keep_conv,
    "conv2d_input_grad": conv2d_input_grad,
    "conv2d_weight_grad": conv2d_weight_grad,
    "conv_norm_act_train": conv_norm_act_train,
    "conv_norm_act_train_grad": conv_norm_act_train_grad,
    "cross_entropy": losses,
    "cross_entropy_grad": cross_entropy_grad,
    "max_pool2d": max_pool2d,
    "max_pool2d_grad": max_pool2d_grad,
    "max_pool2d_take": max_pool2d_take,
    "sums": sums,
    "variance": variance,
    "sum_pool2d": sum_pool2d,
    "sum_pool2d_grad": sum_pool2d_grad,
    "linear": linear,
    "matmul": matmul,
    "log_softmax": along_axis(1),
    "log_softmax_grad": along_axis(2),
    "softmax": along_axis(1),
    "softmax_grad": along_axis(2),
}

# Return no arrays: they write where they are told, prepare such a step, or manage threads.
OTHERS = {
    "optimizer_step",
    "prepare_affine",
    "prepare_attention",
    "prepare_average",
    "prepare_conv",
    "keep_affine",
    "keep_attention",
    "keep_row",
    "pack_conv",
}
OTHERS |= {"prepare_images", "join", "join_lanes"}
OTHERS |= {
    "is_ready",
    "warm_up",
    "divide",
    "divide_images",
    "in_parts",
    "get_num_threads",
    "set_num_threads",
}


def test_every_kernel_is_here(backend):
    names = {name for name, value in vars(backend).items() if callable(value)}
    assert names - OTHERS == KERNELS.keys()


def arrays_of(values):
    flat = [part for value in values for part in (value if type(value) is Epilogue else [value])]
    return [value for value in flat if isinstance(value, np.ndarray)]


def called(kernel, arguments):
    results = kernel(*arguments)
    return arrays_of(results if isinstance(results, tuple) else (results,))


def kept_memory():
    """What the fast backend keeps from call to call, on this thread."""
    try:
        return importlib.import_module("lucid.kernels.numba.machine._native").workspace.raw
    except ImportError:
        return np.empty(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", KERNELS)
def test_a_result_is_memory_of_its_own(backend, name, dtype):
    kernel = getattr(backend, name)
    if name == "keep_conv":  # what it returns takes the images

        def kernel(x, *of_weights):
            return backend.keep_conv(*of_weights)(x)

    make = KERNELS[name]
    for first, second in zip(make(Arrays(dtype, 0)), make(Arrays(dtype, 1))):
        results = called(kernel, first)
        values = [result.copy() for result in results]
        for result, other in itertools.product(results, [kept_memory(), *arrays_of(first)]):
            assert not np.shares_memory(result, other)
        for one, other in itertools.combinations(results, 2):
            assert not np.shares_memory(one, other)
        called(kernel, second)  # of the same sizes: it uses the same memory for what it needs
        for result, value in zip(results, values):
            np.testing.assert_array_equal(result, value)
