"""Steps of inference prepared for many calls on inputs of one shape, and joined to one launch.

A prepared step can say its instructions for given arrays. Alone it keeps the plan of its last
arrays; many that follow each other on memory that stays the same become one plan, whose launch
costs Python one call.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lucid.kernels import numpy as reference
from lucid.kernels._processors import keeps_busy
from lucid.kernels.geometry import Conv, Epilogue
from lucid.kernels.numba._activation import KINDS
from lucid.kernels.numba._batch_norm import affine_instruction
from lucid.kernels.numba._conv import (
    PackedConv,
    conv_instruction,
    conv_scratch,
    is_fast,
    is_product,
    is_spaced,
    pack,
)
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import (
    FLOAT,
    WIDTH,
    Instruction,
    address,
    call_kernel,
    empty,
    floats,
    kernel,
    piece,
    share,
    words,
)
from lucid.kernels.numba.machine._vector import load, spread, store
from lucid.kernels.prepared import Bound, Prepared

Array = np.ndarray

# Pixels a multiple of so many bytes apart compete for a few of the nearest cache's 64 places, each
# 8 lines deep, and a tile reads 14 pixels at once. A cache line is left free behind each: products
# of 2048 channels of mobilenetv4_conv_large went from 145 to 204 GFLOP/s, its depthwise layers from
# 200 to 120 µs.
_PERIOD, _GAP = 2048, 16


class Planned(Prepared):
    """A step, by a function from its arrays to instructions and all that must live for them."""

    def __init__(
        self,
        instructions: Callable[..., tuple[list[Instruction], Any]],
        conform: Callable[..., tuple[Array, ...]] | None = None,
        *,
        gap: int = 0,
        reads_gaps: bool = False,
        reads_input: bool = False,
    ) -> None:
        self.instructions = instructions
        if conform is not None:
            self.conform = conform  # type: ignore[method-assign]
        self.gap, self.reads_gaps, self.reads_input = gap, reads_gaps, reads_input
        self._bound: tuple[Any, ...] = ()

    def run(self, out: Array, *inputs: Array) -> None:
        arrays = out, *inputs
        now = _threads.get_num_threads(), *[(address(array), array.strides) for array in arrays]
        if now != self._bound:
            self._bound = ()  # an exception may come before all is made
            instructions, self._alive = self.instructions(*arrays)
            self._plan = _threads.plan(*instructions)
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
                    (instruction,), _ = run.instructions(out, images[group])
                    _threads.set_instruction(self.plan, index, instruction)
            self.bound = now
        return now

    def bind(self, images: Array) -> None:
        """Make the plan, and note which instructions depend on the input."""
        made: list[Instruction] = []
        self.alive: list[Any] = []
        self.inputs: list[tuple[int, Planned, Array, slice]] = []
        for run, arrays, _ in self.steps:
            assert isinstance(run, Planned)
            if run.reads_input:
                out, group = arrays
                self.inputs.append((len(made), run, out, group))
                made += run.instructions(out, images[group])[0]
            else:
                instructions, alive = run.instructions(*arrays)
                made += instructions
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
def run_group(chunk, thread, tables, table_bytes, instructions, changes, changes_count):
    """All instructions of a plan for one group of images, by this thread in its own lane.

    A change is the position of a word in the lane's table, its value for the first group, and how
    much it grows from group to group.
    """
    table, change = tables + thread * table_bytes, words(changes)
    plan = words(table)
    for i in range(0, 3 * changes_count, 3):
        plan[change[i]] = change[i + 1] + chunk * change[i + 2]
    for start in range(0, instructions * _threads.WORDS, _threads.WORDS):
        arguments = table + 8 * (start + _threads.ARGUMENTS)
        for each in range(plan[start + 1]):
            call_kernel(plan[start], arguments, each, thread)


class _Lanes:
    """Steps for many groups of images, each by one thread in memory of its own, in one launch.

    The instructions for the second group differ from those for the first by the addresses of what
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
        """Make the plan, with each lane's instructions and what differs from group to group."""
        self.tables = np.stack([first.plan for first, _ in self.lanes])
        first, second = (chain.plan.ravel() for chain in self.lanes[0])
        where = np.flatnonzero(first != second)
        self.changes = np.stack([where, first[where], second[where] - first[where]], axis=1)
        instruction = run_group.pack(
            self.groups,
            tables=self.tables,
            table_bytes=self.tables.strides[0],
            instructions=self.tables.shape[1],
            changes=self.changes,
            changes_count=len(self.changes),
        )
        self.plan = _threads.plan(instruction, threads=len(self.lanes))


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
    return _Lanes(lanes, groups) if all(isinstance(run, Planned) for run, *_ in steps) else None


@kernel
def add_part(chunk, thread, chunks, x, y, size):
    """``x += y``, a part of it."""
    sums, summands = floats(x), floats(y)
    start, stop = share(size, chunk, chunks)
    for i in range(start, stop):
        sums[i] += summands[i]


def addition(x: Array, y: Array) -> Instruction:
    """Return the instruction for ``x += y``."""
    chunks = max(1, min(_threads.MAX_CHUNKS, x.size >> 15))
    return add_part.pack(chunks, x=x, y=y, size=x.size)


def pack_conv(weight: Array, conv: Conv, shift: Array | None) -> Any:
    """Return weights for :func:`prepare_conv`: see the NumPy backend. The shift is among them."""
    if not is_fast(weight, weight, conv):
        return reference.pack_conv(weight, conv, shift)
    return pack(weight, conv, shift)


def conv_instructions(
    packed: PackedConv,
    epilogue: Epilogue,
    out: Array,
    x: Array,
    residual: Array | None,
    scratch: Array | None,
) -> list[Instruction]:
    """Return those that convolve, with as much scratch memory as the convolution wants.

    The epilogue's scale and shift are among the packed weights.
    """
    kind = 0 if epilogue.activation is None else KINDS[epilogue.activation]
    inside = None if packed.conv.is_depthwise(packed.shape) else residual
    made = [conv_instruction(packed, x, out, epilogue.bounds, inside, scratch, kind=kind)]
    if residual is not None and inside is None:
        made.append(addition(out, residual))
    return made


def prepare_conv(
    input_shape: tuple[int, int, int, int],
    weight: Any,
    conv: Conv,
    epilogue: Epilogue,
) -> Prepared:
    """Return a step ``run(out, x)``, or ``run(out, x, residual)``: see the NumPy backend.

    Clipping and the residual are applied to the sums while they are in registers, other activations
    to each tile in the nearest cache.
    """
    if not isinstance(weight, PackedConv):
        if not is_fast(weight, weight, conv):
            return reference.prepare_conv(input_shape, weight, conv, epilogue)
        weight = pack(epilogue.folded(weight)[0], conv, epilogue.shift)
    packed = weight
    scratch: Array | None = None  # the same for all arrays, as the step runs on one after the other

    def instructions(
        out: Array, x: Array, residual: Array | None = None
    ) -> tuple[list[Instruction], Any]:
        nonlocal scratch
        size = conv_scratch(packed, x, out)
        if size and (scratch is None or scratch.size < size):
            scratch = empty((size,))
        result = conv_instructions(packed, epilogue, out, x, residual, scratch)
        return result, (packed, x, out, residual, scratch)

    even = conv.is_depthwise(packed.shape) or is_product(packed.shape, conv)
    gap = _GAP if even and packed.shape[0] * FLOAT % _PERIOD == 0 else 0

    def conform(x: Array, *residual: Array) -> tuple[Array, ...]:
        first = x if is_spaced(x) else np.ascontiguousarray(x)
        return first, *map(np.ascontiguousarray, residual)

    return Planned(instructions, conform if even else None, gap=gap, reads_gaps=even)


def divide_images(images: int) -> tuple[int, int]:
    """Return how many images of a batch, a divisor, go through the large maps together.

    And how many such groups are under way at once, see :func:`join_lanes`: one for each thread, if
    that keeps all threads busy. Else they share a group of two to four images, one for each.

    mobilenetv4_conv_medium at batch 16 takes 136 ms in lanes and 138 without on two cores that
    share a third-level cache, and 141 and 158 on two that do not.
    """
    threads = _threads.get_num_threads()
    if threads > 1 and keeps_busy(images, threads):
        return 1, min(threads, images)
    return images_together(images), 1


def images_together(images: int) -> int:
    """Return how many images of a batch, a divisor, share the threads in the large maps."""
    most = min(4, max(2, _threads.get_num_threads()))
    return next(size for size in range(most, 0, -1) if images % size == 0)


# -- images from outside --------------------------------------------------------------------------


@kernel
def gather_images(
    chunk, thread, x, out, height, width, channels, image_step, row_step, column_step, channel_step,
    count, images,
):  # fmt: skip
    """Some rows of images of any layout as NHWC."""
    for row in range(chunk * count, min((chunk + 1) * count, images * height)):
        source = x + row // height * image_step + row % height * row_step
        target = floats(out + row * width * channels * FLOAT)
        if channels == 3 and column_step == FLOAT:
            # Of planes LLVM weaves whole vectors: two images took 70 µs by the loop below, now 22.
            red, green = floats(source), floats(source + channel_step)
            blue = floats(source + 2 * channel_step)
            for column in range(width):
                target[3 * column] = red[column]
                target[3 * column + 1] = green[column]
                target[3 * column + 2] = blue[column]
            continue
        for c in range(channels):
            at = source + c * channel_step
            for column in range(width):
                target[column * channels + c] = floats(at + column * column_step)[0]


def gather_instruction(out: Array, x: Array) -> Instruction:
    n, height, width, channels = x.shape
    count = max(1, (1 << 13) // (width * channels))  # rows of a chunk: some 10 µs
    image_step, row_step, column_step, channel_step = x.strides
    return gather_images.pack(
        -(-n * height // count), x=x, out=out, height=height, width=width, channels=channels,
        image_step=image_step, row_step=row_step, column_step=column_step,
        channel_step=channel_step, count=count, images=n,
    )  # fmt: skip


def prepare_images(shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> Prepared | None:
    """Return a step ``run(out, x)`` that copies ``x`` ``(N, H, W, C)``, of any layout.

    It reads the input, see :func:`join`.
    """
    if dtype != np.float32 or 0 in shape:
        return reference.prepare_images(shape, dtype)

    def instructions(out: Array, x: Array) -> tuple[list[Instruction], Any]:
        return [gather_instruction(out, x)], out

    return Planned(instructions, lambda x: (x,), reads_input=True)


# -- the mean over all positions ------------------------------------------------------------------


@piece
def _add_pixels(x, step, pixels, count, out, is_first):
    """Add up to four vectors of some pixels to those at ``out``, or write them there."""
    s0 = s1 = s2 = s3 = spread(np.float32(0))
    if count >= 4 * WIDTH:
        for p in range(pixels):
            at = x + p * step
            s0 = s0 + load(at, WIDTH)
            s1 = s1 + load(at + WIDTH * FLOAT, WIDTH)
            s2 = s2 + load(at + 2 * WIDTH * FLOAT, WIDTH)
            s3 = s3 + load(at + 3 * WIDTH * FLOAT, WIDTH)
    else:
        for p in range(pixels):
            at = x + p * step
            s0 = s0 + load(at, count)
            s1 = s1 + load(at + WIDTH * FLOAT, count - WIDTH)
            s2 = s2 + load(at + 2 * WIDTH * FLOAT, count - WIDTH * 2)
            s3 = s3 + load(at + 3 * WIDTH * FLOAT, count - WIDTH * 3)
    if not is_first:
        s0 = s0 + load(out, count)
        s1 = s1 + load(out + WIDTH * FLOAT, count - WIDTH)
        s2 = s2 + load(out + 2 * WIDTH * FLOAT, count - WIDTH * 2)
        s3 = s3 + load(out + 3 * WIDTH * FLOAT, count - WIDTH * 3)
    store(out, s0, count)
    store(out + WIDTH * FLOAT, s1, count - WIDTH)
    store(out + 2 * WIDTH * FLOAT, s2, count - WIDTH * 2)
    store(out + 3 * WIDTH * FLOAT, s3, count - WIDTH * 3)


@kernel
def average_part(chunk, thread, x, out, positions, channels, blocks, together):
    """Some channels' means of one image: sums of some pixels each, and their sum."""
    image, block = chunk // blocks, chunk % blocks
    first, last = share(channels, block, blocks)
    source = x + image * positions * channels * FLOAT
    target = out + image * channels * FLOAT
    step = channels * FLOAT
    for c in range(first, last, 4 * WIDTH):
        for start in range(0, positions, together):
            pixels = min(together, positions - start)
            at = source + start * step + c * FLOAT
            _add_pixels(at, step, pixels, last - c, target + c * FLOAT, start == 0)
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

    def instructions(out: Array, x: Array) -> tuple[list[Instruction], Any]:
        blocks = max(1, min(channels // 64, positions * channels >> 14))
        instruction = average_part.pack(
            n * blocks,
            x=x,
            out=out,
            positions=positions,
            channels=channels,
            blocks=blocks,
            together=together,
        )
        return [instruction], (x, out)

    return Planned(instructions)


# -- batch norm that is behind no convolution -----------------------------------------------------


def prepare_affine(
    shape: tuple[int, int, int, int], scale: Array, shift: Array, low: float, high: float
) -> Prepared:
    """Return a step ``run(out, x)``: ``clip(x · scale + shift, low, high)`` channel by channel."""
    if scale.dtype != np.float32 or 0 in shape:
        return reference.prepare_affine(shape, scale, shift, low, high)
    factors = np.stack([scale, shift]).astype(np.float32)

    def instructions(out: Array, x: Array) -> tuple[list[Instruction], Any]:
        flat = x.reshape(-1, shape[3])
        return [affine_instruction(flat, out, factors, (low, high))], (x, out, factors)

    return Planned(instructions)
