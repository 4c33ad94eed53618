"""Convolutions whose weights are kept for images of any size, one after the other in one launch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lucid.kernels import numpy as reference
from lucid.kernels._placement import Life, place
from lucid.kernels.geometry import Conv, Epilogue, Shape
from lucid.kernels.numba._conv import PackedConv, conv_scratch, is_fast, pack
from lucid.kernels.numba._prepared import (
    Array,
    conv_instructions,
    gather_instruction,
    images_together,
)
from lucid.kernels.numba.machine import _threads
from lucid.kernels.numba.machine._native import FLOAT, Instruction, empty, workspace
from lucid.kernels.numba.machine._recorded import Recorded


class Link(NamedTuple):
    """A kept convolution of a row.

    Attributes:
        packed: its weights.
        epilogue: what its sums go through.
        adds: the map that is added at the end, None for none: 0 is the row's input, 1 the first
            link's output.
    """

    packed: PackedConv
    epilogue: Epilogue
    adds: int | None = None


class _Layout:
    """Where the maps between the links of a row lie, for images of one shape.

    As in a compiled plan the links at the front, whose maps are large and weights few, are done for
    some images after the others, the links behind them for all images.
    """

    def __init__(self, links: Sequence[Link], shape: Shape) -> None:
        self.links, self.shapes = links, [shape]  # of all maps, the input and the output too
        for packed, *_ in links:
            self.shapes.append(packed.conv.output_shape(self.shapes[-1], packed.shape))
        images, end = shape[0], len(links)
        last = list(range(end))  # the link that reads a map last
        for position, link in enumerate(links):
            if link.adds is not None:
                last[link.adds] = position
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
        given = [(self.links[i], part(i, group), part(i + 1, group), group) for i, group in runs]
        most = max(conv_scratch(link.packed, x, out) for link, x, out, _ in given)
        scratch = workspace.empty((most,)) if most else None
        made: list[Instruction] = []
        for (packed, epilogue, adds), source, target, group in given:
            residual = None if adds is None else part(adds, group)
            made += conv_instructions(packed, epilogue, target, source, residual, scratch)
        return made


def _front(links: Sequence[Link], shapes: Sequence[Shape]) -> int:
    """Return how many links at the beginning have fewer weights than numbers in an image's maps."""
    for count, link in enumerate(links):
        numbers = math.prod(shapes[count][1:]) + math.prod(shapes[count + 1][1:])
        if math.prod(link.packed.shape) > numbers:
            return count
    return len(links)


class Kept:
    """Kept convolutions one after the other: a function of images of any size and layout.

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
    return Kept([Link(packed, epilogue._replace(scale=None, shift=None))])


def keep_sequence(
    convs: Sequence[Callable[[Array], Array]], adds: Sequence[int | None]
) -> Callable[[Array], Array]:
    """Return a function of images that runs kept convolutions in a row: see the NumPy backend.

    One launch does all of it, and the maps between lie in the workspace.
    """
    links = []
    for conv, added in zip(convs, adds):
        if not isinstance(conv, Kept):
            return reference.keep_sequence(convs, adds)
        (link,) = conv.links
        links.append(link._replace(adds=added))
    return Kept(links)
