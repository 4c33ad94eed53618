"""Kept layers whose weights serve images of any size, one after the other in one launch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from lucid.kernels import numpy as reference
from lucid.kernels._placement import Life, place
from lucid.kernels.geometry import Conv, Epilogue, Shape
from lucid.kernels.numba._attention import attention_instructions, factors_of, image_addresses
from lucid.kernels.numba._batch_norm import affine_instruction
from lucid.kernels.numba._conv import PackedConv, conv_scratch, is_fast, pack
from lucid.kernels.numba._prepared import (
    Array,
    addition,
    conv_instructions,
    gather_instruction,
    images_together,
)
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import FLOAT, Instruction, empty, workspace
from lucid.kernels.numba.machine._recorded import Recorded
from lucid.kernels.prepared import Link


class _Step:
    """What a link of a row computes: one map of one or several.

    Attributes:
        weights: how many it has.
    """

    weights = 0

    def made(self, *shapes: Shape) -> Shape:
        """Return the shape of its map, given those that it reads."""
        return shapes[0]

    def instructions(self, out: Array, *maps: Array, residual: Array | None) -> list[Instruction]:
        """Return those that write ``out``, with ``residual`` added at the end."""
        raise NotImplementedError


class _Convolution(_Step):
    def __init__(self, packed: PackedConv, epilogue: Epilogue) -> None:
        self.packed, self.epilogue = packed, epilogue
        self.weights = math.prod(packed.shape)

    def made(self, *shapes: Shape) -> Shape:
        return self.packed.conv.output_shape(shapes[0], self.packed.shape)

    def instructions(self, out: Array, *maps: Array, residual: Array | None) -> list[Instruction]:
        size = conv_scratch(self.packed, maps[0], out)
        scratch = workspace.empty((size,)) if size else None
        return conv_instructions(self.packed, self.epilogue, out, maps[0], residual, scratch)


class _Affine(_Step):
    """A factor and a summand for each channel: a batch norm behind no convolution."""

    def __init__(self, scale: Array, shift: Array) -> None:
        self.factors = np.stack([scale, shift])

    def __call__(self, x: Array) -> Array:
        return reference.keep_affine(*self.factors)(x)

    def instructions(self, out: Array, *maps: Array, residual: Array | None) -> list[Instruction]:
        rows = maps[0].reshape(-1, out.shape[3])
        made = affine_instruction(rows, out, self.factors)
        return [made] if residual is None else [made, addition(out, residual)]


class _Attention(_Step):
    """``softmax(scale · q·kᵀ)·v`` between the positions of maps, for several heads of queries."""

    def __init__(self, heads: int, scale: float) -> None:
        self.heads, self.scale, self.factors = heads, scale, factors_of(scale)

    def __call__(self, *maps: Array) -> Array:
        return reference.keep_attention(self.heads, self.scale)(*maps)

    def made(self, *shapes: Shape) -> Shape:
        return (*shapes[0][:3], self.heads * shapes[2][3])

    def instructions(self, out: Array, *maps: Array, residual: Array | None) -> list[Instruction]:
        images, (_, k, v) = len(out), maps
        rows = [x.reshape(images, -1, like.shape[3]) for x, like in zip((out, *maps), (v, k, k, v))]
        tables = workspace.empty((3, 2 * images))
        q_bytes, k_bytes, v_bytes = (x.strides[0] for x in maps)
        note = image_addresses.pack(
            1, q=maps[0], k=k, v=v, tables=tables, images=images, q_bytes=q_bytes, k_bytes=k_bytes,
            v_bytes=v_bytes,
        )  # fmt: skip
        attend, _ = attention_instructions(rows, list(tables), self.factors, workspace.empty)
        made = [note, *attend]
        return made if residual is None else [*made, addition(out, residual)]


class _Layout:
    """Where the maps between the links of a row lie, for images of one shape.

    As in a compiled plan the links at the front, whose maps are large and weights few, are done for
    some images after the others, the links behind them for all images.
    """

    def __init__(self, links: Sequence[Link], shape: Shape) -> None:
        self.links, self.shapes = links, [shape]  # of all maps, the input and the output too
        images, end = shape[0], len(links)
        last = list(range(end))  # the link that reads a map last
        for position, (step, reads, adds) in enumerate(links):
            self.shapes.append(step.made(*[self.shapes[read] for read in reads]))
            for read in reads if adds is None else (*reads, adds):
                last[read] = position
        self.together = images_together(images) if images else 0
        front = _front(links, self.shapes) if self.together < images else 0
        while any(0 < i < front <= last[i] for i in range(front)):  # read when it is gone
            front -= 1
        self.front = front
        sizes = [math.prod(each[1:]) * FLOAT for each in self.shapes]
        some = {i: Life(sizes[i] * self.together, i - 1, last[i]) for i in range(1, front)}
        whole = {
            i: Life(sizes[i] * images, 0 if i == front else i - 1, last[i])
            for i in range(max(1, front), end)
        }
        region = Life(place(list(some.values())), 0, front - 1)
        self.size = place([region, *whole.values()]) // FLOAT
        for life in some.values():
            life.offset += region.offset
        self.offsets = {i: life.offset // FLOAT for i, life in (some | whole).items()}

    def instructions(self, out: Array, x: Array, memory: Array | None) -> list[Instruction]:
        """Return those of the row, with its maps in ``memory``, of ``size`` floats."""
        images, end, front = len(x), len(self.links), self.front
        maps = {0: x, end: out}
        for i, start in self.offsets.items():
            assert memory is not None
            count = self.together if i < front else images
            size = count * math.prod(self.shapes[i][1:])
            maps[i] = memory[start : start + size].reshape(count, *self.shapes[i][1:])

        def part(i: int, group: slice) -> Array:
            return maps[i] if 0 < i < front else maps[i][group]

        groups = [slice(at, at + self.together) for at in range(0, images, self.together)]
        runs = [(i, group) for group in groups for i in range(front)]
        runs += [(i, slice(None)) for i in range(front, end)]
        made: list[Instruction] = []
        first = most = workspace.used
        for i, group in runs:
            step, reads, adds = self.links[i]
            target, *sources = [part(each, group) for each in (i + 1, *reads)]
            residual = None if adds is None else part(adds, group)
            made += step.instructions(target, *sources, residual=residual)
            most, workspace.used = max(most, workspace.used), first  # the next has the same memory
        workspace.used = most
        return made


def _front(links: Sequence[Link], shapes: Sequence[Shape]) -> int:
    """Return how many links at the beginning have fewer weights than numbers in an image's maps."""
    for count, (step, reads, _) in enumerate(links):
        numbers = sum(math.prod(shapes[i][1:]) for i in (*reads, count + 1))
        if step.weights > numbers:
            return count
    return len(links)


class Kept:
    """Kept layers one after the other: a function of images of any size and layout.

    What a call launches is made once for a shape.
    """

    def __init__(self, links: Sequence[Link]) -> None:
        self.links = links

        @functools.lru_cache(maxsize=4)  # to make them took half of a convolution's Python
        def recorded(shape: Shape, threads: int) -> tuple[Shape, int, Recorded | None]:
            layout = _Layout(links, shape)
            made = layout.shapes[-1]
            memory = ((layout.size,), "f") if layout.size else None
            kinds = (made, "f"), (shape, "f"), memory
            return made, layout.size, None if 0 in made else Recorded(layout.instructions, kinds)

        self._recorded = recorded

    def __call__(self, x: Array) -> Array:
        if not x.flags.c_contiguous:
            x, strange = empty(x.shape), x
            _threads.launch(gather_instruction(x, strange))
        shape, size, launches = self._recorded(x.shape, _threads.get_num_threads())
        out = empty(shape)
        if launches is not None:
            launches.launch(out, x, empty((size,)) if size else None)
        return out


def keep_conv(weight: Array, conv: Conv, epilogue: Epilogue) -> Callable[[Array], Array]:
    """Return a function of images that convolves them: see the NumPy backend.

    What a call launches is made once for a shape. Images of another layout are copied first.
    """
    if not is_fast(weight, weight, conv):
        return reference.keep_conv(weight, conv, epilogue)
    packed = pack(epilogue.folded(weight)[0], conv, epilogue.shift)
    step = _Convolution(packed, epilogue._replace(scale=None, shift=None))
    return Kept([Link(step, (0,))])


def keep_affine(scale: Array, shift: Array) -> Callable[[Array], Array]:
    """Return a function that scales and shifts channels: see the NumPy backend."""
    if scale.dtype != np.float32:
        return reference.keep_affine(scale, shift)
    return _Affine(scale, shift)


def keep_attention(heads: int, scale: float) -> Callable[..., Array]:
    """Return a function of queries, keys and values: see the NumPy backend."""
    return _Attention(heads, scale)


def keep_row(links: Sequence[Link]) -> Callable[[Array], Array]:
    """Return a function of images that runs kept layers in a row: see the NumPy backend.

    One launch does all of it, and the maps between lie in the workspace.
    """
    steps = [run.links[0].layer if isinstance(run, Kept) else run for run, *_ in links]
    are_steps = all(isinstance(step, _Step) for step in steps)
    # An attention has no weights, which would tell that all is of float32.
    if not are_steps or all(isinstance(step, _Attention) for step in steps):
        return reference.keep_row(links)
    return Kept([link._replace(layer=step) for link, step in zip(links, steps)])
