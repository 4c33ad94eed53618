"""One block of memory for the maps of a plan, laid out by when each is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lucid import kernels
from lucid._compile._fuse import Affine, Attention, Average, Convolution, Step, references
from lucid._compile._trace import Trace, refs
from lucid.ops._layout import from_nhwc

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector
_PAGE = 4096  # bytes between lanes: no two threads write one cache line, or the next it fetches


@dataclass(frozen=True)
class Front:
    """The first steps of a plan that are done for one group of images after the other.

    Attributes:
        steps: how many.
        groups: the images of each.
        lanes: how many groups are under way at once, each in memory of its own.
    """

    steps: int = 0
    groups: list[slice] = field(default_factory=list)
    lanes: int = 1


def find_front(steps: Sequence[Step], traced: Trace) -> Front:
    """Return the steps that are worth doing group by group: large maps, few weights.

    These are the convolutions at the beginning as long as the weights, which each group reads
    again, are fewer than the numbers in the maps of one image.
    """
    images = len(traced.values[0])
    count = 0
    for step in steps:
        if not isinstance(step, Convolution):
            break
        maps = [traced.values[number] for number in (step.x.index, step.output)]
        if any(value.ndim != 4 or len(value) != images for value in maps):
            break
        if step.weight.nbytes * images > sum(value.nbytes for value in maps):
            break
        count += 1
    size, lanes = kernels.active().divide_images(images)
    groups = [slice(start, start + size) for start in range(0, images, size)]
    return Front(count, groups, lanes) if count > 1 and len(groups) > 1 else Front()


def nhwc_shape(value: np.ndarray) -> tuple[int, int, int, int]:
    """Return the shape in memory of images ``(N, C, H, W)``, or of rows ``(N, C)`` as pixels."""
    n, c, h, w = value.shape if value.ndim == 4 else (*value.shape, 1, 1)
    return n, h, w, c


def last_uses(steps: Sequence[Step], result: Any) -> dict[int, int]:
    """Return, for each value, the last step that reads it; the result counts as one more."""
    last = {ref.index: position for position, step in enumerate(steps) for ref in references(step)}
    last.update((ref.index, len(steps)) for ref in refs(result))
    return last


@dataclass
class Life:
    """A map in the arena: its size in bytes, and the steps between which it is needed."""

    size: int
    first: int
    last: int
    offset: int = -1


class Arena:
    """The memory of a plan.

    Args:
        steps: the plan's.
        traced: what they were made of.
        front: those that are done group by group.
        runs: the backend's step of each convolution, by its position.
        holds_input: whether the images are copied into the arena first.

    Attributes:
        nbytes: its size.
        maps: the arrays in it by the number of their value, in the value's logical shape; of those
            that hold a group the first lane's.
        lanes: for each lane of the front the maps that hold a group.
        numbers: all values that lie in it, views of maps included.
        grouped: maps that hold one group of images.
        gaps: maps whose pixels do not lie side by side, with the floats left between them.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        traced: Trace,
        front: Front,
        runs: Mapping[int, Any],
        holds_input: bool,
    ) -> None:
        self.gaps = _find_gaps(steps, traced, runs)
        last = last_uses(steps, traced.result)
        made = {step.output for step in steps[: front.steps] if isinstance(step, Convolution)}
        made |= {0} if holds_input else set()
        self.grouped = {number for number in made if last.get(number, 0) < front.steps}
        lives, self.numbers = self._lifetimes(steps, traced, front, last, holds_input)
        grouped = {number: lives.pop(number) for number in self.grouped}
        lane = -(-place(list(grouped.values())) // _PAGE) * _PAGE
        region = Life(lane * front.lanes, 0, front.steps - 1)
        self.nbytes = place([region, *lives.values()])
        memory = np.empty(self.nbytes + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        self._memory = memory[start:]
        attended = {step.output for step in steps if isinstance(step, Attention)}

        def array(number: int, life: Life, offset: int = 0) -> np.ndarray:
            value = traced.values[number]
            flat = self._memory[offset + life.offset :][: life.size].view(value.dtype)
            if number in self.grouped:
                value = value[front.groups[0]]
            if value.ndim != 4 or number in attended:
                return flat.reshape(value.shape)
            *pixels, channels = nhwc_shape(value)
            return from_nhwc(flat.reshape(*pixels, -1)[..., :channels])

        self.lanes = [
            {
                number: array(number, life, region.offset + index * lane)
                for number, life in grouped.items()
            }
            for index in range(front.lanes)
        ]
        self.maps = {number: array(number, life) for number, life in lives.items()}
        self.maps.update(self.lanes[0])

    def contains(self, array: np.ndarray) -> bool:
        """Whether an array lies in this memory."""
        return np.may_share_memory(array, self._memory)

    def _lifetimes(
        self,
        steps: Sequence[Step],
        traced: Trace,
        front: Front,
        last: Mapping[int, int],
        holds_input: bool,
    ) -> tuple[dict[int, Life], set[int]]:
        """Return when the fused steps' results are needed, and all values that lie in the arena."""
        owner: dict[int, int] = {}  # a value that is a view of a map -> that map
        lives: dict[int, Life] = {}

        def add(number: int, position: int) -> None:
            value = traced.values[number]
            size = value.nbytes
            if number in self.gaps:
                size += size // value.shape[1] * self.gaps[number]
            if number in self.grouped:
                size //= len(front.groups)
            # Of other maps of the front the first group already writes its part.
            first = 0 if position < front.steps and number not in self.grouped else position
            lives[number] = Life(size, first, last.get(number, position))
            owner[number] = number

        if holds_input:
            add(0, 0)
        for position, step in enumerate(steps):
            if isinstance(step, (Convolution, Attention, Average, Affine)):
                add(step.output, position)
                continue
            for output in step.outputs:
                for ref in references(step):
                    base = owner.get(ref.index)
                    if base is not None and ref.index in traced.views[output]:
                        owner[output] = base
                        lives[base].last = max(lives[base].last, last.get(output, position))
        return lives, set(owner)


def _find_gaps(steps: Sequence[Step], traced: Trace, runs: Mapping[int, Any]) -> dict[int, int]:
    """Return the maps for whose channels the backend asks for gaps, if all readers allow them."""
    gaps: dict[int, int] = {}
    adjacent = refs(traced.result)
    for position, step in enumerate(steps):
        if not isinstance(step, Convolution):
            adjacent += references(step)
            continue
        run = runs[position]
        if not getattr(run, "reads_gaps", False):
            adjacent.append(step.x)
        if step.residual is not None:
            adjacent.append(step.residual)
        if (gap := getattr(run, "gap", 0)) and traced.values[step.output].ndim == 4:
            gaps[step.output] = gap
    for ref in adjacent:
        gaps.pop(ref.index, None)
    return gaps


def place(lives: Sequence[Life]) -> int:
    """Give each map an offset such that maps needed at the same time do not overlap.

    The largest first, each at the lowest offset that is free for as long as it lives: the greedy
    rule of Pisarchyk & Lee 2020, "Efficient memory management for deep neural net inference".

    Returns:
        The arena's size in bytes.
    """
    placed: list[Life] = []
    for life in sorted(lives, key=lambda life: life.size, reverse=True):
        offset = 0
        for other in sorted(placed, key=lambda other: other.offset):
            if other.last < life.first or life.last < other.first:
                continue
            if offset + life.size <= other.offset:
                break
            offset = max(offset, -(-(other.offset + other.size) // _ALIGNMENT) * _ALIGNMENT)
        life.offset = offset
        placed.append(life)
    return max((life.offset + life.size for life in placed), default=0)
