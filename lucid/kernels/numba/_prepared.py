"""Steps of inference prepared for many calls on inputs of one shape, and joined to one launch.

A prepared step can say the rows of a plan for given arrays. Alone it keeps the plan of its last
arrays; many that follow each other on memory that stays the same become one plan, whose launch
costs Python one call.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit

from lucid.kernels import numpy as reference
from lucid.kernels.geometry import Conv, Epilogue
from lucid.kernels.numba._activation import KINDS
from lucid.kernels.numba._batch_norm import affine_row
from lucid.kernels.numba._conv import (
    conv_row,
    conv_scratch,
    is_fast,
    is_product,
    is_spaced,
    pack,
)
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    WIDTH,
    address,
    call_kernel,
    empty,
    floats,
    kernel,
    share,
    words,
)
from lucid.kernels.numba.machine._vector import load, spread, store
from lucid.kernels.prepared import Bound, Prepared

Array = np.ndarray
Row = tuple[int, ...]

# Pixels a multiple of so many bytes apart compete for a few of the nearest cache's 64 places, each
# 8 lines deep, and a tile reads 14 pixels at once. A cache line is left free behind each: products
# of 2048 channels of mobilenetv4_conv_large went from 145 to 204 GFLOP/s, its depthwise layers from
# 200 to 120 µs.
_PERIOD, _GAP = 2048, 16


class Planned(Prepared):
    """A step, by a function from its arrays to rows of a plan and all that must live for them."""

    def __init__(
        self,
        rows: Callable[..., tuple[list[Row], Any]],
        conform: Callable[..., tuple[Array, ...]] | None = None,
        *,
        gap: int = 0,
        reads_gaps: bool = False,
        reads_input: bool = False,
    ) -> None:
        self.rows = rows
        if conform is not None:
            self.conform = conform  # type: ignore[method-assign]
        self.gap, self.reads_gaps, self.reads_input = gap, reads_gaps, reads_input
        self._bound: tuple[Any, ...] = ()

    def run(self, out: Array, *inputs: Array) -> None:
        arrays = out, *inputs
        now = _threads.get_num_threads(), *[(address(array), array.strides) for array in arrays]
        if now != self._bound:
            self._bound = ()  # an exception may come before all is made
            rows, self._alive = self.rows(*arrays)
            self._plan = _threads.plan(*rows)
            self._bound = now
        _threads.run(self._plan)


class _Chain:
    """Prepared steps one after the other on fixed arrays, in one launch."""

    def __init__(self, steps: Sequence[Bound]) -> None:
        self.steps = steps
        self.bound: tuple[Any, ...] = ()  # for how many threads and what input

    def __call__(self, images: Array) -> None:
        self.follow(images)
        _threads.run(self.plan)

    def follow(self, images: Array) -> tuple[Any, ...]:
        """Let the plan read ``images``, on the threads there are; return what it is bound to."""
        now = _threads.get_num_threads(), address(images), images.strides
        before = self.bound
        if before != now:
            self.bound = ()  # an exception may come before all is changed
            if before[:1] != now[:1]:
                self.bind(images)
            else:
                for index, run, out, group in self.inputs:
                    (row,), _ = run.rows(out, images[group])
                    _threads.set_row(self.plan, index, row)
            self.bound = now
        return now

    def bind(self, images: Array) -> None:
        """Make the plan, and note which of its rows depend on the input."""
        made: list[Row] = []
        self.alive: list[Any] = []
        self.inputs: list[tuple[int, Planned, Array, slice]] = []
        for run, arrays in self.steps:
            assert isinstance(run, Planned)
            if run.reads_input:
                out, group = arrays
                self.inputs.append((len(made), run, out, group))
                made += run.rows(out, images[group])[0]
            else:
                rows, alive = run.rows(*arrays)
                made += rows
                self.alive.append(alive)
        self.plan = _threads.plan(*made)


def join(steps: Sequence[Bound]) -> Callable[[Array], None]:
    """Return a function of a batch ``(N, H, W, C)`` that runs prepared steps one after the other.

    Each is given its arrays; a step that reads the input has a slice in the place of the first, and
    is given those images of the batch.
    """
    calls: list[Callable[[Array], None]] = []
    for is_prepared, group in itertools.groupby(steps, lambda step: isinstance(step[0], Planned)):
        calls.append((_Chain if is_prepared else reference.join)(list(group)))

    def call(images: Array) -> None:
        for each in calls:
            each(images)

    return calls[0] if len(calls) == 1 else call


@kernel
def run_group(args, chunk, thread):
    """All rows of a plan for one group of images, by this thread in its own lane.

    A change is the position of a word in the lane's table, its value for the first group, and how
    much it grows from group to group.
    """
    table, changes = args[0] + thread * args[1], words(args[3])
    plan = words(table)
    for i in range(args[4]):
        plan[changes[3 * i]] = changes[3 * i + 1] + chunk * changes[3 * i + 2]
    for row in range(args[2]):
        arguments = table + 8 * (row * _threads.ROW + _threads.ARGUMENTS)
        for each in range(plan[row * _threads.ROW + 1]):
            call_kernel(plan[row * _threads.ROW], arguments, each, thread)


class _Lanes:
    """Steps for many groups of images, each by one thread in memory of its own, in one launch.

    The plan's rows for the second group differ from those for the first by the addresses of what
    lies outside the lane, and those for the others by multiples of that.
    """

    def __init__(self, lanes: Sequence[tuple[Sequence[Bound], Sequence[Bound]]], groups: int):
        self.lanes = [(_Chain(first), _Chain(second)) for first, second in lanes]
        self.groups = groups
        self.bound: tuple[Any, ...] = ()

    def __call__(self, images: Array) -> None:
        for pair in self.lanes:
            for chain in pair:
                now = chain.follow(images)  # the same for all
        if now != self.bound:
            self.bound = ()
            self.bind()
            self.bound = now
        _threads.run(self.plan)

    def bind(self) -> None:
        """Make the plan, with a table of each lane's rows and what differs from group to group."""
        self.tables = np.stack([first.plan for first, _ in self.lanes])
        first, second = (chain.plan.ravel() for chain in self.lanes[0])
        where = np.flatnonzero(first != second)
        self.changes = np.stack([where, first[where], second[where] - first[where]], axis=1)
        row = (
            run_group.address,
            self.groups,
            address(self.tables),
            self.tables.strides[0],
            self.tables.shape[1],
            address(self.changes),
            len(self.changes),
        )
        self.plan = _threads.plan(row, threads=len(self.lanes))


def join_lanes(
    lanes: Sequence[tuple[Sequence[Bound], Sequence[Bound]]], groups: int
) -> Callable[[Array], None] | None:
    """Return a function of a batch that runs prepared steps for all its groups of images.

    Each group goes through all steps on one thread, so that no thread waits for another between
    them, nor reads what another has written. None if a step is not of this backend.

    Args:
        lanes: for each lane, the steps on its memory for the first and for the second group.
        groups: how many there are.
    """
    steps = itertools.chain.from_iterable(itertools.chain.from_iterable(lanes))
    return _Lanes(lanes, groups) if all(isinstance(run, Planned) for run, _ in steps) else None


@kernel
def add_part(chunk, thread, chunks, x, y, size):
    """``x += y``, a part of it."""
    sums, summands = floats(x), floats(y)
    start, stop = share(size, chunk, chunks)
    for i in range(start, stop):
        sums[i] += summands[i]


def _add_row(x: Array, y: Array) -> Row:
    chunks = max(1, min(_threads.MAX_CHUNKS, x.size >> 15))
    return add_part.pack(chunks, x=x, y=y, size=x.size)


def prepare_conv(
    input_shape: tuple[int, int, int, int],
    weight: Array,
    conv: Conv,
    epilogue: Epilogue,
) -> Prepared:
    """Return a step ``run(out, x)``, or ``run(out, x, residual)``: see the NumPy backend.

    Clipping and the residual are applied to the sums while they are in registers, other activations
    to each tile in the nearest cache.
    """
    if not is_fast(weight, weight, conv):
        return reference.prepare_conv(input_shape, weight, conv, epilogue)
    weight, shift = epilogue.folded(weight)
    packed = pack(weight, conv, shift)
    is_depthwise = conv.is_depthwise(weight.shape)
    bounds, activation = epilogue.bounds, epilogue.activation
    kind = 0 if activation is None else KINDS[activation]
    scratch: Array | None = None  # the same for all arrays, as the step runs on one after the other

    def rows(out: Array, x: Array, residual: Array | None = None) -> tuple[list[Row], Any]:
        nonlocal scratch
        inside = None if is_depthwise else residual
        size = conv_scratch(packed, x, out)
        if size and (scratch is None or scratch.size < size):
            scratch = empty((size,))
        result = [conv_row(packed, x, out, bounds, inside, scratch, kind=kind)]
        if residual is not None and inside is None:
            result.append(_add_row(out, residual))
        return result, (packed, x, out, residual, scratch)

    even = is_depthwise or is_product(weight.shape, conv)
    gap = _GAP if even and len(weight) * 4 % _PERIOD == 0 else 0

    def conform(x: Array, *residual: Array) -> tuple[Array, ...]:
        first = x if is_spaced(x) else np.ascontiguousarray(x)
        return first, *map(np.ascontiguousarray, residual)

    return Planned(rows, conform if even else None, gap=gap, reads_gaps=even)


def divide_images(images: int) -> tuple[int, int]:
    """Return how many images of a batch, a divisor, go through the large maps together.

    And how many such groups are under way at once, see :func:`join_lanes`: one for each thread, if
    that leaves no thread idle for more than an eighth of the time. Else all threads share a group
    of two to four images, one for each.

    mobilenetv4_conv_medium at batch 16 takes 136 ms in lanes and 138 without on two cores that
    share a third-level cache, and 141 and 158 on two that do not.
    """
    threads = _threads.get_num_threads()
    if threads > 1 and -(-images // threads) * threads * 7 <= images * 8:
        return 1, min(threads, images)
    most = min(4, max(2, threads))
    return next(size for size in range(most, 0, -1) if images % size == 0), 1


# -- images from outside --------------------------------------------------------------------------


@kernel
def gather_images(args, chunk, thread):
    """Some rows of images of any layout as NHWC."""
    height, width, channels = args[2], args[3], args[4]
    for row in range(chunk * args[9], min((chunk + 1) * args[9], args[10] * height)):
        source = args[0] + row // height * args[5] + row % height * args[6]
        target = floats(args[1] + row * width * channels * 4)
        if channels == 3 and args[7] == 4:
            # Of planes LLVM weaves whole vectors: two images took 70 µs by the loop below, now 22.
            red, green, blue = (
                floats(source),
                floats(source + args[8]),
                floats(source + 2 * args[8]),
            )
            for column in range(width):
                target[3 * column] = red[column]
                target[3 * column + 1] = green[column]
                target[3 * column + 2] = blue[column]
            continue
        for c in range(channels):
            at = source + c * args[8]
            for column in range(width):
                target[column * channels + c] = floats(at + column * args[7])[0]


def prepare_images(shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> Prepared | None:
    """Return a step ``run(out, x)`` that copies ``x`` ``(N, H, W, C)``, of any layout.

    It reads the input, see :func:`join`.
    """
    if dtype != np.float32 or 0 in shape:
        return reference.prepare_images(shape, dtype)
    n, height, width, channels = shape
    # Rows of a chunk: some 10 µs.
    count = max(1, (1 << 13) // (width * channels))

    def rows(out: Array, x: Array) -> tuple[list[Row], Any]:
        chunks = -(-n * height // count)
        row = (
            gather_images.address,
            chunks,
            address(x),
            address(out),
            height,
            width,
            channels,
            *x.strides,
            count,
            n,
        )
        return [row], out

    return Planned(rows, lambda x: (x,), reads_input=True)


# -- the mean over all positions ------------------------------------------------------------------


@njit
def _add_pixels(x, step, pixels, count, out, is_first):
    """Add up to four vectors of some pixels to those at ``out``, or write them there."""
    s0 = s1 = s2 = s3 = spread(np.float32(0))
    if count >= 4 * WIDTH:
        for p in range(pixels):
            at = x + p * step
            s0 = s0 + load(at, WIDTH)
            s1 = s1 + load(at + WIDTH * 4, WIDTH)
            s2 = s2 + load(at + WIDTH * 8, WIDTH)
            s3 = s3 + load(at + WIDTH * 12, WIDTH)
    else:
        for p in range(pixels):
            at = x + p * step
            s0 = s0 + load(at, count)
            s1 = s1 + load(at + WIDTH * 4, count - WIDTH)
            s2 = s2 + load(at + WIDTH * 8, count - WIDTH * 2)
            s3 = s3 + load(at + WIDTH * 12, count - WIDTH * 3)
    if not is_first:
        s0 = s0 + load(out, count)
        s1 = s1 + load(out + WIDTH * 4, count - WIDTH)
        s2 = s2 + load(out + WIDTH * 8, count - WIDTH * 2)
        s3 = s3 + load(out + WIDTH * 12, count - WIDTH * 3)
    store(out, s0, count)
    store(out + WIDTH * 4, s1, count - WIDTH)
    store(out + WIDTH * 8, s2, count - WIDTH * 2)
    store(out + WIDTH * 12, s3, count - WIDTH * 3)


@kernel
def average_part(chunk, thread, x, out, positions, channels, blocks, together):
    """Some channels' means of one image: sums of some pixels each, and their sum."""
    image, block = chunk // blocks, chunk % blocks
    first, last = share(channels, block, blocks)
    source = x + image * positions * channels * 4
    target = out + image * channels * 4
    step = channels * 4
    for c in range(first, last, 4 * WIDTH):
        for start in range(0, positions, together):
            pixels = min(together, positions - start)
            at = source + start * step + c * 4
            _add_pixels(at, step, pixels, last - c, target + c * 4, start == 0)
    means = floats(target)
    factor = np.float32(1.0 / positions)
    for c in range(first, last):
        means[c] *= factor


def prepare_average(shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> Prepared:
    """Return a step ``run(out, x)`` that writes the mean ``(N, C)`` of ``x`` ``(N, H, W, C)``."""
    if dtype != np.float32 or 0 in shape:
        return reference.prepare_average(shape, dtype)
    n, height, width, channels = shape
    positions = height * width
    together = max(64, math.isqrt(positions))  # so many are added one by one

    def rows(out: Array, x: Array) -> tuple[list[Row], Any]:
        blocks = max(1, min(channels // 64, positions * channels >> 14))
        row = average_part.pack(
            n * blocks,
            x=x,
            out=out,
            positions=positions,
            channels=channels,
            blocks=blocks,
            together=together,
        )
        return [row], (x, out)

    return Planned(rows)


# -- batch norm that is behind no convolution -----------------------------------------------------


def prepare_affine(
    shape: tuple[int, int, int, int], scale: Array, shift: Array, low: float, high: float
) -> Prepared:
    """Return a step ``run(out, x)``: ``clip(x · scale + shift, low, high)`` channel by channel."""
    if scale.dtype != np.float32 or 0 in shape:
        return reference.prepare_affine(shape, scale, shift, low, high)
    scale, shift = np.ascontiguousarray(scale), np.ascontiguousarray(shift, np.float32)

    def rows(out: Array, x: Array) -> tuple[list[Row], Any]:
        flat = x.reshape(-1, shape[3])
        return [affine_row(flat, out, scale, shift, low, high)], (x, out, scale, shift)

    return Planned(rows)
