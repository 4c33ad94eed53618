"""The convolution of inputs of one shape: prepared once, run once or many times.

Images are C-contiguous NHWC arrays, weights have the logical shape ``(O, I/groups, kh, kw)``.
Four ways, chosen by shape:

- pointwise (1×1): the image is already the matrix ``(N·H·W, C)``: one product, no copy;
- depthwise (one input channel a group): multiply-adds along the contiguous channels;
- few channels: an image is taken apart into planes, whose rows make up the patches;
- dense (all others): patches of a cache-sized block of rows, one product a block.

What comes after the sums is applied to each block while it is in the cache.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from lucid.kernels._memory import empty
from lucid.kernels._processors import keeps_busy
from lucid.kernels.geometry import NO_BOUNDS, NO_PADDING, Conv, Epilogue, Padding, Pair, Shape
from lucid.kernels.numpy import _activation
from lucid.kernels.numpy._calls import HERE, ON_THREADS, Buffers, Calls
from lucid.kernels.numpy._pieces import Columns
from lucid.kernels.numpy._rows import repeated, rows_together
from lucid.kernels.numpy._steps import Step
from lucid.kernels.numpy._threads import ELEMENT, get_num_threads
from lucid.kernels.prepared import Prepared

# Channels by kernel width, the floats of a patch that lie side by side, up to which an image is
# taken apart into its channels.
_SHORT_RUN = 16

# Floats in a block: it stays in the caches, and two threads have few calls to make.
_BLOCK = 1 << 18

# With fewer rows a thread, a product is divided by its columns: each thread reads all weights.
_FEW_ROWS = 128

# So many rows of weights are transposed at a time: 4 MB take a third of the time.
_TRANSPOSED = 32

# Multiply-adds of a product that take as long as one of a depthwise convolution.
TAP = 8

_ALL = slice(None)

# Of the output, the input, perhaps a residual, and the calls that it takes part in.
Run = Callable[..., None]
# Of the calls, a block of the output, maybe its residual and its channels.
Finish = Callable[..., None]


@dataclass(frozen=True)
class Packed:
    """Weights ``(O, I/groups, kh, kw)`` as matrices ``(kh·kw·I/groups, O/groups)``."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    groups: list[Columns]

    @property
    def size(self) -> int:
        """How many weights they are."""
        return math.prod(self.shape)


def pack_conv(weight: np.ndarray, conv: Conv, shift: np.ndarray | None) -> Any:
    """Return weights for :func:`prepare_conv`, for any number of images: it copies them no more.

    Here they are :class:`Packed`, or an array of the same shape in the order in which it is read.

    Args:
        weight: ``(O, I/groups, kh, kw)``, with the epilogue's scale multiplied in.
        conv: its geometry.
        shift: the epilogue's.
    """
    is_by_matrices = not (conv.is_by_channel(weight.shape) or _is_of_planes(weight.shape, conv))
    if is_by_matrices:
        return Packed(weight.shape, weight.dtype, _matrices(weight, conv))
    lying = weight.transpose(2, 3, 1, 0)
    packed = np.empty(lying.shape, weight.dtype)
    for some in slices(slice(0, len(weight)), _TRANSPOSED):
        packed[..., some] = lying[..., some]
    return packed.transpose(3, 2, 0, 1)


def _matrices(weight: np.ndarray | Packed, conv: Conv, rows: int | None = None) -> list[Columns]:
    """Return each group's matrix, which patches are multiplied by; see :class:`Columns`."""
    if isinstance(weight, Packed):
        return weight.groups
    grouped = weight.reshape(conv.groups, -1, *weight.shape[1:]).transpose(0, 3, 4, 2, 1)
    return [Columns(group.reshape(-1, group.shape[-1]), rows) for group in grouped]


def prepare_conv(
    input_shape: Shape,
    weight: np.ndarray,
    conv: Conv,
    epilogue: Epilogue,
) -> Prepared:
    """Return a step ``run(out, x)``: a convolution with what its sums go through.

    With ``run(out, x, residual)`` the residual is added at the end.

    Args:
        input_shape: ``(N, H, W, I)``.
        weight: ``(O, I/groups, kh, kw)``, or what :func:`pack_conv` returned.
        conv: its geometry.
        epilogue: what its sums go through.
    """
    return ConvStep(input_shape, weight, conv, epilogue)


# For so many shapes something is prepared at once, such as a batch's and the last one's.
_SHAPES = 2

Thing = TypeVar("Thing")


class Spares(Generic[Thing]):
    """What is prepared for a shape, of which each thread that comes takes one for itself."""

    def __init__(self, make: Callable[[Shape], Thing]) -> None:
        self._make = make
        self._free: dict[Shape, deque[Thing]] = {}  # those that no thread is using

    def take(self, shape: Shape) -> Thing:
        """Return one for a shape."""
        try:
            return self._free[shape].pop()
        except (KeyError, IndexError):
            return self._make(shape)

    def put(self, shape: Shape, thing: Thing) -> None:
        """Let others have it."""
        self._free.setdefault(shape, deque()).append(thing)
        if len(self._free) > _SHAPES:
            self._free.clear()


def keep_conv(
    weight: np.ndarray, conv: Conv, epilogue: Epilogue
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of images ``(N, H, W, I)`` of any layout and size that convolves them.

    It keeps the weights in the form that its products want, and no reference to the arguments.
    Several threads may call it at once.

    Args:
        weight: ``(O, I/groups, kh, kw)``.
        conv: its geometry.
        epilogue: what its sums go through.
    """
    if weight.dtype == np.float16:  # in which nothing is computed, see ``_half``
        wide = keep_conv(weight.astype(np.float32), conv, epilogue)
        return lambda x: wide(x.astype(np.float32)).astype(np.float16)
    return KeptConv(weight, conv, epilogue)


class Convolution:
    """A convolution that is prepared for each shape of images that comes.

    Args:
        weight: ``(O, I/groups, kh, kw)``, or what :func:`pack_conv` returned.
        conv: its geometry.
        epilogue: what its sums go through.
    """

    def __init__(self, weight: Any, conv: Conv, epilogue: Epilogue) -> None:
        self.weight, self.conv, self.epilogue = weight, conv, epilogue
        self._runs = Spares(lambda shape: prepared(shape, weight, conv, epilogue, many_runs=True))

    def issue(
        self, calls: Calls, out: np.ndarray, x: np.ndarray, residual: np.ndarray | None = None
    ) -> None:
        """Issue its calls, for several threads."""

        def some_images(images: slice) -> None:
            run = self._runs.take(x[images].shape)
            run(out[images], x[images], part_of(residual, images), calls=calls)
            self._runs.put(x[images].shape, run)

        # Each thread pads its own images then: eager, 16 of mobilenetv4_conv_small take 0.88 of it
        # on two threads. Products of few rows are divided by columns: a thread reads half a matrix.
        shape, images, rows = self.weight.shape, len(x), math.prod(out.shape[:-1])
        is_of_few = self.conv.is_pointwise(shape) and rows < 2 * _FEW_ROWS
        if images > 1 and keeps_busy(images, get_num_threads()) and not is_of_few:
            # Multiply-adds for a number of the output.
            each = math.prod(shape[1:]) * (TAP if self.conv.is_by_channel(shape) else 1)
            calls.divide(some_images, images, out.size * each // ELEMENT)
        else:
            some_images(_ALL)


class ConvStep(Convolution, Step):
    """A prepared convolution, which knows what it was made of."""

    def __init__(self, input_shape: Shape, weight: Any, conv: Conv, epilogue: Epilogue) -> None:
        super().__init__(weight, conv, epilogue)
        # It copies each image into its planes, however that lies.
        self.in_any_layout = _is_of_planes(weight.shape, conv)
        self.input_shape = input_shape


class KeptConv(Convolution):
    """A convolution as a function of its input."""

    def __init__(self, weight: np.ndarray, conv: Conv, epilogue: Epilogue) -> None:
        scale, shift = (None if row is None else row.copy() for row in epilogue[:2])
        # What is prepared for a shape needs no copy of the weights.
        packed = pack_conv(weight, conv, None)
        super().__init__(packed, conv, epilogue._replace(scale=scale, shift=shift))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the images, convolved."""
        out = empty(self.conv.output_shape(x.shape, self.weight.shape), x.dtype)
        if out.size > 0:
            is_as_it_lies = _is_of_planes(self.weight.shape, self.conv)
            self.issue(ON_THREADS, out, x if is_as_it_lies else np.ascontiguousarray(x))
        return out


def prepared(
    input_shape: Shape,
    weight: Any,
    conv: Conv,
    epilogue: Epilogue,
    many_runs: bool = False,
    watch: Finish | None = None,
) -> Run:
    """Return a function ``run(out, x)``, or ``run(out, x, residual)`` if it is for many runs.

    With ``calls``, see :mod:`lucid.kernels.numpy._calls`, they are done in another way than at once
    and on this thread.

    Args:
        input_shape: that of ``x``, ``(N, H, W, I)``.
        weight: ``(O, I/groups, kh, kw)``, or :class:`Packed`.
        conv: its geometry; negative padding cuts away.
        epilogue: what the sums go through.
        many_runs: whether weights are worth another form in any case.
        watch: is called with ``calls`` and each block ``(…, O)`` of sums in place of an epilogue.
    """
    is_pointwise = conv.is_pointwise(weight.shape)
    bias = None
    is_of_planes = _is_of_planes(weight.shape, conv)
    if is_of_planes:
        weight, bias = epilogue.folded(weight)
        epilogue = Epilogue(None, None, epilogue.bounds, epilogue.activation)
    finish = watch
    if many_runs or not epilogue.is_nothing:
        shape = conv.output_shape(input_shape, weight.shape)
        finish = finisher(epilogue, shape, weight.dtype, many_runs)
    if is_pointwise:
        return _pointwise(input_shape, weight, conv, finish, many_runs)
    if is_of_planes:
        return _dense_by_planes(input_shape, weight, bias, conv, finish)
    if conv.is_by_channel(weight.shape):
        return _depthwise(input_shape, weight, conv, finish)
    return _dense(input_shape, weight, conv, finish)


def _is_of_planes(weight_shape: tuple[int, ...], conv: Conv) -> bool:
    """Whether it is no product, and patches' runs in memory are too short to be copied."""
    _, i, _, kw = weight_shape
    return i * kw <= _SHORT_RUN and conv.groups == 1 and not conv.is_pointwise(weight_shape)


def finisher(epilogue: Epilogue, shape: Shape, dtype: np.dtype[Any], many_runs: bool) -> Finish:
    """Return a function that finishes blocks of an output of that shape.

    It is given the calls to take part in, a block, its residual or None, and the channels that it
    has, if those are not all.
    """
    scale, shift, bounds, activation = epilogue
    steps = ((np.multiply, scale), (np.add, shift))
    factors: list[tuple[np.ufunc, np.ndarray]]
    factors = [(ufunc, row) for ufunc, row in steps if row is not None]
    if bounds[0] == -math.inf or bounds[1] == math.inf:
        # One bound, as a row: two thirds of clip's time. As a number it takes thrice as long.
        for ufunc, bound, none in zip((np.maximum, np.minimum), bounds, NO_BOUNDS):
            if bound != none:
                factors.append((ufunc, np.full(shape[3], bound, dtype)))
        bounds = NO_BOUNDS
    # To repeat the factors costs more than it saves where they are used once on a small output.
    is_worthwhile = many_runs or math.prod(shape) > _BLOCK
    together = rows_together(shape[1] * shape[2], shape[3]) if is_worthwhile else 1
    width = together * shape[3]
    long_factors = factors
    if together > 1:
        long_factors = [(ufunc, repeated(row, together)) for ufunc, row in factors]

    def finish(
        calls: Calls,
        block: np.ndarray,
        residual: np.ndarray | None = None,
        columns: slice = _ALL,
    ) -> None:
        if block.flags.c_contiguous and block.size % width == 0:
            rows = block.reshape(-1, width)
            for ufunc, factor in long_factors:
                calls.do(ufunc, rows, factor, out=rows)
        else:
            for ufunc, factor in factors:
                calls.do(ufunc, block, factor[columns], out=block)
        if bounds != NO_BOUNDS:
            calls.do(np.clip, block, *bounds, out=block)
        if activation is not None:
            _activation.issue(calls, block, *activation)
        if residual is not None:
            calls.do(np.add, block, residual, out=block)

    return finish


def part_of(residual: np.ndarray | None, index: Any) -> np.ndarray | None:
    """Return some of a residual, if there is one."""
    return None if residual is None else residual[index]


# -- pointwise ------------------------------------------------------------------------------------


def pointwise_rows(x: np.ndarray, stride: Pair, calls: Calls = HERE) -> np.ndarray:
    """Return the pixels that a 1×1 convolution reads, as rows of a matrix."""
    return calls.contiguous(x[:, :: stride[0], :: stride[1]]).reshape(-1, x.shape[3])


def _pointwise(
    input_shape: Shape,
    weight: np.ndarray,
    conv: Conv,
    finish: Finish | None,
    many_runs: bool,
) -> Run:
    o, i = weight.shape[:2]
    n, height, width, _ = conv.output_shape(input_shape, weight.shape)
    (matrix,) = _matrices(weight, conv, None if many_runs else n * height * width)
    step = max(512, 2 * _BLOCK // o)  # fewer rows would be a slow product
    if n * height * width > step:
        together = rows_together(height * width, o)
        step = max(1, step // together) * together

    def run(
        out: np.ndarray,
        x: np.ndarray,
        residual: np.ndarray | None = None,
        calls: Calls = HERE,
    ) -> None:
        rows, results = pointwise_rows(x, conv.stride, calls), out.reshape(-1, o)
        others = None if residual is None else residual.reshape(-1, o)

        def some_rows(part: slice) -> None:
            blocks = [part] if finish is None else slices(part, step)
            for block in blocks:
                matrix.multiply(rows[block], results[block], calls=calls)
                if finish is not None:
                    finish(calls, results[block], part_of(others, block))

        def some_columns(part: slice) -> None:
            columns = matrix.columns(part)
            block = results[:, columns]
            matrix.multiply(rows, block, part, calls=calls)
            if finish is not None:
                finish(calls, block, None if others is None else others[:, columns], columns)

        elements = results.size * i // ELEMENT
        if len(rows) < 2 * _FEW_ROWS:
            calls.divide(some_columns, matrix.count, elements)
        else:
            calls.divide(some_rows, len(rows), elements)

    return run


# -- patches --------------------------------------------------------------------------------------


def slices(part: slice, step: int) -> list[slice]:
    """Return a slice as slices of so many, the last of the rest."""
    return [
        slice(start, min(start + step, part.stop)) for start in range(part.start, part.stop, step)
    ]


def evenly(count: int, most: int) -> int:
    """Return a step of at most so many that divides ``count`` evenly: a small rest is slow."""
    return math.ceil(count / math.ceil(count / max(1, most))) if count else 1


# Buffers with zeros around that no convolution is using, by shape and padding. Those of a plan run
# one after the other and share them: with one each they were 54 of the 60 MiB that a half of
# mobilenetv4_hybrid_medium's plan for 16 images took beside its maps.
_buffers: dict[Any, weakref.ref[Buffers]] = {}


def _shared_buffers(key: Any) -> Buffers:
    """Return what convolutions share as long as one of them is there."""
    if (known := _buffers.get(key)) is None or (free := known()) is None:
        free = deque()
        # Nothing but C ends it: Python drops a Ctrl-C that comes in a callback of its own, such as
        # a WeakValueDictionary's, and a training step lets go of each of its convolutions.
        _buffers[key] = weakref.ref(free, functools.partial(_buffers.pop, key))
    return free


class Padder:
    """Some images with zeros around, valid until :meth:`done`."""

    def __init__(
        self, input_shape: Shape, padding: Padding, dtype: np.dtype[Any], images: int
    ) -> None:
        _, h, w, c = input_shape
        (top, bottom), (left, right) = padding
        self._is_needed = padding != NO_PADDING
        self._shape, self._dtype = (images, h + top + bottom, w + left + right, c), dtype
        self._key = self._shape, padding, dtype
        self._shared = self._free = _shared_buffers(self._key)
        self._buffer: np.ndarray | None = None
        # Images without what negative padding cuts away, and where they lie in the buffer.
        sides = [(h, top, min(0, bottom)), (w, left, min(0, right))]
        self._source = _ALL, *[slice(max(0, -a), size + b) for size, a, b in sides]
        self._target = _ALL, *[slice(max(0, a), size + a + b) for size, a, b in sides]

    def __call__(self, images: np.ndarray, calls: Calls = HERE) -> np.ndarray:
        if not self._is_needed:
            return calls.contiguous(images)
        if self._buffer is None:
            self._free = calls.buffers(self._key, self._shared)
            try:
                self._buffer = self._free.pop()
            except IndexError:
                self._buffer = empty(self._shape, self._dtype)
                self._buffer[...] = 0
        padded = self._buffer[: len(images)]
        calls.do(np.copyto, padded[self._target], images[self._source])
        return padded

    def done(self) -> None:
        """Let another convolution have the buffer."""
        if self._buffer is not None:
            self._free.append(self._buffer)
            self._buffer = None


def windows(
    padded: np.ndarray, kernel: Pair, conv: Conv, size: Pair, channels: slice = _ALL
) -> np.ndarray:
    """Return the view ``(N, H', W', kh, kw, C)`` of contiguous padded images ``(N, H, W, C)``."""
    by_image, by_row, by_column, by_channel = padded.strides
    (sh, sw), (dh, dw) = conv.stride, conv.dilation
    first, last, _ = channels.indices(padded.shape[3])
    return np.ndarray(
        (len(padded), *size, *kernel, last - first),
        padded.dtype,
        padded,
        first * by_channel,
        (by_image, by_row * sh, by_column * sw, by_row * dh, by_column * dw, by_channel),
    )


class Patches:
    """The patches of a convolution as rows of a matrix, some images or some rows at a time.

    Attributes:
        images: how many at a time.
        rows: how many rows of the output at a time: all, if there are several images.
        pad: makes the images that they are taken from.
    """

    def __init__(
        self, input_shape: Shape, weight_shape: tuple[int, ...], conv: Conv, dtype: np.dtype[Any]
    ) -> None:
        n, height, width, _ = conv.output_shape(input_shape, weight_shape)
        _, self._channels, *kernel = weight_shape
        self._kernel, self._conv, self._size = (kernel[0], kernel[1]), conv, (height, width)
        row = max(1, width * conv.groups * math.prod(weight_shape[1:]))  # floats in a row's patches
        self.images = evenly(n, min(n, _BLOCK // (row * height)))
        self.rows = evenly(height, min(height, 2 * _BLOCK // row))
        self.pad = Padder(input_shape, conv.padding, dtype, self.images)

    def of_group(self, padded: np.ndarray, group: int) -> np.ndarray:
        """Return the view ``(N, H', W', kh, kw, C)`` of what a group reads of padded images."""
        channels = slice(group * self._channels, (group + 1) * self._channels)
        return windows(padded, self._kernel, self._conv, self._size, channels)


def as_matrix(
    patches: np.ndarray, last: np.ndarray | None = None, calls: Calls = HERE
) -> np.ndarray:
    """Return patches ``(N, H', W', kh, kw, C)`` as a matrix with one in a row.

    The ``last`` matrix is overwritten if it is large enough: memory that is in the cache.
    """
    if last is None or last.size < patches.size:
        last = calls.empty((patches.size,), patches.dtype)
    memory = last.reshape(-1)[: patches.size]
    calls.do(np.copyto, memory.reshape(patches.shape), patches)
    return memory.reshape(-1, math.prod(patches.shape[3:]))


# -- dense ----------------------------------------------------------------------------------------


def _dense(input_shape: Shape, weight: np.ndarray, conv: Conv, finish: Finish | None) -> Run:
    o = weight.shape[0]
    patches = Patches(input_shape, weight.shape, conv, weight.dtype)
    wide = o // conv.groups
    matrices = _matrices(weight, conv)

    def some_images(
        out: np.ndarray, x: np.ndarray, residual: np.ndarray | None, calls: Calls
    ) -> None:
        padded = patches.pad(x, calls)
        views = [patches.of_group(padded, group) for group in range(conv.groups)]
        single = len(x) == 1  # then some of its rows, else some of the images

        def some(part: slice) -> None:
            rows = None
            for block in slices(part, patches.rows if single else patches.images):
                index = (_ALL, block) if single else (block, _ALL)
                target = out[index]
                for group, matrix in enumerate(matrices):
                    rows = as_matrix(views[group][index], rows, calls)
                    if conv.groups == 1:
                        matrix.multiply(rows, target.reshape(-1, o), calls=calls)
                    else:
                        channels = slice(group * wide, (group + 1) * wide)
                        product = calls.empty((*target.shape[:3], wide), out.dtype)
                        matrix.multiply(rows, product.reshape(-1, wide), calls=calls)
                        calls.do(np.copyto, target[..., channels], product)
                        calls.give(product)
                if finish is not None:
                    finish(calls, target, part_of(residual, index))
            if rows is not None:
                calls.give(rows)

        elements = out.size * math.prod(weight.shape[1:]) // ELEMENT
        calls.divide(some, out.shape[1] if single else len(x), elements)

    def run(
        out: np.ndarray,
        x: np.ndarray,
        residual: np.ndarray | None = None,
        calls: Calls = HERE,
    ) -> None:
        for images in slices(slice(0, len(x)), patches.images):
            some_images(out[images], x[images], part_of(residual, images), calls)
        patches.pad.done()

    return run


def _dense_by_planes(
    input_shape: Shape,
    weight: np.ndarray,
    bias: np.ndarray | None,
    conv: Conv,
    finish: Finish | None,
) -> Run:
    """A convolution of few channels, such as an RGB image's.

    A channel of an image is a plane, and each tap a row of the patch matrix: copies of whole rows
    instead of ``kw * channels`` floats at a time, 130 µs for a 224×224 image instead of 220. The
    last row of the matrix is ones, for a bias.
    """
    _, h, w, i = input_shape
    _, height, width, o = conv.output_shape(input_shape, weight.shape)
    kernel = weight.shape[2], weight.shape[3]
    matrix = weight.reshape(o, -1).T
    length = len(matrix)  # without the bias
    if bias is not None:
        matrix = np.concatenate([matrix, bias[None]])
    columns = Columns(matrix)
    step = evenly(height, 2 * _BLOCK // max(1, width * length))
    pad = Padder((i, h, w, 1), conv.padding, weight.dtype, i)  # a plane is an image here

    def one_image(
        out: np.ndarray, x: np.ndarray, residual: np.ndarray | None, calls: Calls
    ) -> None:
        planes = pad(x.transpose(2, 0, 1)[..., None], calls)
        view = windows(planes, kernel, conv, (height, width))[..., 0]
        view = view.transpose(0, 3, 4, 1, 2)  # (I, kh, kw, H', W')

        def some_rows(part: slice) -> None:
            pixels = min(step, part.stop - part.start) * width
            memory = calls.empty(len(matrix) * pixels, weight.dtype)
            for rows in slices(part, step):
                taken, block = view[:, :, :, rows], out[rows]
                pixels = taken.shape[3] * width
                patches = memory[: len(matrix) * pixels].reshape(-1, pixels)
                calls.do(np.copyto, patches[length:], 1)
                calls.do(np.copyto, patches[:length].reshape(taken.shape), taken)
                columns.multiply(patches.T, block.reshape(-1, o), calls=calls)
                if finish is not None:
                    finish(calls, block, part_of(residual, rows))
            calls.give(memory)

        calls.divide(some_rows, height, out.size * len(matrix) // ELEMENT)

    def run(
        out: np.ndarray,
        x: np.ndarray,
        residual: np.ndarray | None = None,
        calls: Calls = HERE,
    ) -> None:
        for index in range(len(x)):
            one_image(out[index], x[index], part_of(residual, index), calls)
        pad.done()

    return run


# -- depthwise ------------------------------------------------------------------------------------


class DepthwiseWindows:
    """What the kernels of a depthwise convolution read, some images at a time.

    With horizontal stride 1, a tap is the whole row shifted by some pixels, so columns and
    channels are one long contiguous axis: measured 1.3 to 2.3 times as fast as the windows with
    the channels innermost, most where channels are few.

    Attributes:
        images: how many at a time.
        by_row: whether columns and channels are one axis.
        pad: makes the images that they are views of.
    """

    def __init__(
        self, input_shape: Shape, weight_shape: tuple[int, ...], conv: Conv, dtype: np.dtype[Any]
    ) -> None:
        n, height, width, o = conv.output_shape(input_shape, weight_shape)
        self._kernel, self._size = (weight_shape[2], weight_shape[3]), (height, width)
        self._conv = conv
        self.by_row = o == input_shape[3] and conv.stride[1] == 1
        self.images = max(1, min(n, _BLOCK // max(1, math.prod(input_shape[1:]))))
        self.pad = Padder(input_shape, conv.padding, dtype, self.images)

    def __call__(self, images: np.ndarray, calls: Calls = HERE) -> np.ndarray:
        """Return the view ``(N, H', W'·C, kh, kw)`` or ``(N, H', W', C, kh, kw)``."""
        padded = self.pad(images, calls)
        if not self.by_row:
            view = windows(padded, self._kernel, self._conv, self._size)
            return view.transpose(0, 1, 2, 5, 3, 4)
        by_image, by_row, by_column, by_channel = padded.strides
        (height, width), (dh, dw) = self._size, self._conv.dilation
        return np.ndarray(
            (len(padded), height, width * padded.shape[3], *self._kernel),
            padded.dtype,
            padded,
            0,
            (by_image, by_row * self._conv.stride[0], by_channel, by_row * dh, by_column * dw),
        )


def _depthwise(input_shape: Shape, weight: np.ndarray, conv: Conv, finish: Finish | None) -> Run:
    o, _, kh, kw = weight.shape
    channels = input_shape[3]
    taken = DepthwiseWindows(input_shape, weight.shape, conv, weight.dtype)
    width = conv.output_shape(input_shape, weight.shape)[2]
    taps = weight.reshape(channels, -1, kh, kw).transpose(2, 3, 0, 1)  # (kh, kw, C, multiplier)
    if o > channels:
        taps, signature = np.ascontiguousarray(taps), "nhwcij,ijcm->nhwcm"
    else:
        columns = width if taken.by_row else 1  # the weights of each, one after the other
        repeated = empty((kh, kw, columns, channels), weight.dtype)
        repeated[...] = taps.transpose(0, 1, 3, 2)
        taps = repeated.reshape(kh, kw, -1)
        signature = "nhkij,ijk->nhk" if taken.by_row else "nhwcij,ijc->nhwc"

    def some_images(
        out: np.ndarray, x: np.ndarray, residual: np.ndarray | None, calls: Calls
    ) -> None:
        view = taken(x, calls)

        def some_rows(rows: slice) -> None:
            part, block = view[:, rows], out[:, rows]
            shape = part.shape[:-2] if o == channels else (*part.shape[:-2], -1)
            calls.do(np.einsum, signature, part, taps, out=block.reshape(shape))
            if finish is not None:
                finish(calls, block, part_of(residual, (_ALL, rows)))

        calls.divide(some_rows, out.shape[1], out.size * kh * kw * TAP // ELEMENT)

    def run(
        out: np.ndarray,
        x: np.ndarray,
        residual: np.ndarray | None = None,
        calls: Calls = HERE,
    ) -> None:
        for images in slices(slice(0, len(x)), taken.images):
            some_images(out[images], x[images], part_of(residual, images), calls)
        taken.pad.done()

    return run
