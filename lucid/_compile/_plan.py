"""Steps bound to memory: one arena for all maps, laid out by when each is needed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lucid import kernels
from lucid._compile._describe import StepInfo, describe
from lucid._compile._fuse import (
    Affine,
    Attention,
    Average,
    Convolution,
    freeze,
    references,
    simplify,
)
from lucid._compile._trace import Ref, Trace, trace
from lucid.autograd import Function, Tensor, no_grad
from lucid.autograd._graph import Node
from lucid.nn import Module
from lucid.ops._layout import from_nhwc, to_nhwc
from lucid.ops._shape import Permute, Reshape

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector

_ALL = slice(None)


@dataclass
class _Life:
    """A map in the arena: its size in bytes, and the steps between which it is needed."""

    size: int
    first: int
    last: int
    offset: int = -1


class _Bound(NamedTuple):
    """A prepared step of the backend and the arrays, in the arena, that it works on."""

    run: Callable[..., None]
    arrays: tuple[np.ndarray | None, ...]


# What runs a step; None where nothing is left to do.
_Call = _Bound | Callable[[], None] | None


class Plan:
    """A model's inference on inputs of exactly one shape.

    The first steps, where maps are large and weights few, are done for a few images after the
    others: their maps stay in a cache from one step to the next. The steps behind them are done for
    the whole batch, so that weights are read once.

    ``plan(x)`` takes an array and returns what the model returns, with arrays for tensors. The
    arrays are valid after the next call too. Not for two threads at once.
    """

    def __init__(self, model: Module, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        traced = trace(model, shape, dtype)
        self.steps = simplify(traced)
        freeze(self.steps)
        self.result = traced.result
        self.infos: list[StepInfo] = [describe(step, traced) for step in self.steps]
        self.values: list[Any] = [None] * len(traced.values)
        self._bind(traced)
        for step in self.steps:
            if isinstance(step, Convolution):  # the backend has them in a form of its own
                step.weight = step.bias = np.empty(0, step.weight.dtype)

    def _bind(self, traced: Trace) -> None:
        value = traced.values[0]
        self._load: Callable[..., None] | None = None
        if value.ndim == 4:
            self._load = kernels.active().prepare_images(_nhwc_shape(value), value.dtype)
        self._front, self._groups = self._find_front(traced)
        self._runs = {
            position: self._prepared(position, traced)
            for position, step in enumerate(self.steps)
            if isinstance(step, Convolution)
        }
        self._gaps = self._find_gaps(traced)
        lives, self._in_arena = self._lifetimes(traced)
        self.arena_bytes = _place(list(lives.values()))
        arena = np.empty(self.arena_bytes + _ALIGNMENT, np.uint8)
        start = -arena.ctypes.data % _ALIGNMENT
        attended = {step.output for step in self.steps if isinstance(step, Attention)}
        for number, life in lives.items():
            value = traced.values[number]
            begin = start + life.offset
            flat = arena[begin : begin + life.size].view(value.dtype)
            if number in self._grouped:
                value = value[self._groups[0]]
            if number in self._gaps:
                *pixels, channels = _nhwc_shape(value)
                self.values[number] = from_nhwc(flat.reshape(*pixels, -1)[..., :channels])
            elif value.ndim == 4 and number not in attended:
                self.values[number] = from_nhwc(flat.reshape(_nhwc_shape(value)))
            else:
                self.values[number] = flat.reshape(value.shape)
        self._arena = arena
        self._fixed = set(lives)  # values that are the same arrays in every run
        # The steps in the order they run, those of the front once for each group.
        front, rest = range(self._front), range(self._front, len(self.steps))
        self._order = [*front] * len(self._groups) + [*rest]
        calls = [self._convolution(i, group) for group in self._groups for i in front]
        calls += [self._call(position, traced) for position in rest]
        # Values outside the arena are dropped after their last use.
        last = self._last_uses(traced)
        drops: list[list[int]] = [[] for _ in calls]
        for number, position in last.items():
            if number not in self._fixed and 0 <= position < len(self.steps):
                drops[position - len(self.steps)].append(number)
        self._calls = _joined_calls(calls, drops)
        self._single_calls = [
            (kernels.active().join([] if call is None else [call]), numbers)
            if call is None or isinstance(call, _Bound)
            else (call, numbers)
            for call, numbers in zip(calls, drops)
        ]

    def _find_front(self, traced: Trace) -> tuple[int, list[slice]]:
        """Return how many steps are done group by group, and the groups of images.

        These are the convolutions at the beginning as long as the weights, which each group reads
        again, are fewer than the numbers in the maps of one image.
        """
        images = len(traced.values[0])
        size = kernels.active().images_together(images)
        groups = [slice(start, start + size) for start in range(0, images, size)]
        front = 0
        for step in self.steps:
            if not isinstance(step, Convolution):
                break
            maps = [traced.values[number] for number in (step.x.index, step.output)]
            if any(value.ndim != 4 or len(value) != images for value in maps):
                break
            if step.weight.nbytes * images > sum(value.nbytes for value in maps):
                break
            front += 1
        if len(groups) < 2 or front < 2:
            return 0, []
        return front, groups

    def _last_uses(self, traced: Trace) -> dict[int, int]:
        """Return, for each value, the last step that reads it; views count for their base."""
        last: dict[int, int] = {}
        for position, step in enumerate(self.steps):
            for ref in references(step):
                last[ref.index] = position
        for ref in _result_refs(self.result):
            last[ref.index] = len(self.steps)
        return last

    def _lifetimes(self, traced: Trace) -> tuple[dict[int, _Life], set[int]]:
        """Return when the fused steps' results are needed, and all values that lie in the arena."""
        last = self._last_uses(traced)
        self._grouped: set[int] = set()  # maps of one group of images
        owner: dict[int, int] = {}  # a value that is a view of a map -> that map
        lives: dict[int, _Life] = {}
        if self._load is not None:  # images are copied into the arena
            lives[0] = _Life(traced.values[0].nbytes, 0, max(last.get(0, 0), self._front - 1))
            owner[0] = 0
        for position, step in enumerate(self.steps):
            if isinstance(step, (Convolution, Attention, Average, Affine)):
                number = step.output
                size = traced.values[number].nbytes
                if number in self._gaps:
                    channels = traced.values[number].shape[1]
                    size = size // channels * (channels + self._gaps[number])
                life = _Life(size, position, last.get(number, position))
                if position < self._front <= life.last:
                    life.first = 0  # the first group writes its part
                elif position < self._front:
                    life.size //= len(self._groups)
                    self._grouped.add(number)
                lives[number] = life
                owner[number] = number
                continue
            for output in step.outputs:
                for ref in references(step):
                    base = owner.get(ref.index)
                    if base is not None and (
                        isinstance(step.kind, Module) or ref.index in traced.views[output]
                    ):
                        owner[output] = base
                        lives[base].last = max(lives[base].last, last.get(output, position))
        return lives, set(owner)

    # -- binding one step -------------------------------------------------------------------

    def _call(self, position: int, traced: Trace) -> _Call:
        """Return what runs a step: bound to the arena, or on what is there; None: done for good."""
        backend, values, step = kernels.active(), self.values, self.steps[position]
        if isinstance(step, Convolution):
            return self._convolution(position)
        if isinstance(step, Average):
            value = traced.values[step.x.index]
            run, out = backend.prepare_average(_nhwc_shape(value), value.dtype), values[step.output]
            return self._on_images([step.x.index], lambda x: (run, (x, out)))
        if isinstance(step, Affine):
            value = traced.values[step.x.index]
            run = backend.prepare_affine(
                _nhwc_shape(value), step.scale, step.shift, -np.inf, np.inf
            )
            out = _images(values[step.output])
            return self._on_images([step.x.index], lambda x: (run, (x, out)))
        if isinstance(step, Attention):
            return self._attention(step, traced)
        call = self._operation(step)
        return None if self._is_fixed(step, call) else call

    def _prepared(self, position: int, traced: Trace) -> Callable[..., None]:
        """Return the backend's step of a convolution, of a group of images in the front."""
        step = self.steps[position]
        assert isinstance(step, Convolution)
        x = traced.values[step.x.index]
        if position < self._front:
            x = x[self._groups[0]]
        _, run = kernels.active().prepare_conv(
            _nhwc_shape(x), step.weight, step.bias, step.activation, *step.how
        )
        return run

    def _convolution(self, position: int, group: slice = _ALL) -> _Call:
        run, step = self._runs[position], self.steps[position]
        assert isinstance(step, Convolution)
        x = step.x.index
        out = self._map(step.output, group)
        if step.residual is None:
            # A kernel that takes its input apart anyway spares a copy in channels-last memory.
            in_any_order = getattr(run, "takes_any_order", False)
            return self._on_images([x], lambda x: (run, (x, out, None)), in_any_order, group)
        return self._on_images(
            [x, step.residual.index],
            lambda x, residual: (run, (x, out, residual)),
            group=group,
        )

    def _find_gaps(self, traced: Trace) -> dict[int, int]:
        """Return the maps whose pixels are not side by side, with the floats left between them.

        Those are maps for whose channels the backend asks for it, if all who read them allow it.
        """
        gaps = {}
        adjacent = _result_refs(self.result)
        for position, step in enumerate(self.steps):
            if not isinstance(step, Convolution):
                adjacent += references(step)
                continue
            run = self._runs[position]
            if not getattr(run, "reads_gaps", False):
                adjacent.append(step.x)
            if step.residual is not None:
                adjacent.append(step.residual)
            if (gap := getattr(run, "gap", 0)) and traced.values[step.output].ndim == 4:
                gaps[step.output] = gap
        for ref in adjacent:
            gaps.pop(ref.index, None)
        return gaps

    def _map(self, number: int, group: slice) -> np.ndarray:
        """Return a map in the arena as the kernels take it, NHWC."""
        value = self._part(number, group)
        return value.transpose(0, 2, 3, 1) if number in self._gaps else _images(value)

    def _part(self, number: int, group: slice) -> np.ndarray:
        """Return the images of a group of a value."""
        value: np.ndarray = self.values[number]
        return value if number in self._grouped else value[group]

    def _on_images(
        self,
        numbers: list[int],
        bind: Callable[..., tuple[Any, tuple[Any, ...]]],
        in_any_order: bool = False,
        group: slice = _ALL,
    ) -> _Call:
        """Return the call of ``bind`` of maps: now, if they lie in the arena, or in each run."""
        if self._fixed.issuperset(numbers):
            maps = [self._map(number, group) for number in numbers]
            if all(np.may_share_memory(array, self._arena) for array in maps):
                return _Bound(*bind(*maps))
        images = _any_images if in_any_order else _images

        def call() -> None:
            run, arrays = bind(*[images(self._part(number, group)) for number in numbers])
            run(*arrays)

        return call

    def _attention(self, step: Attention, traced: Trace) -> _Call:
        values, out = self.values, self.values[step.output]
        q, k, v = step.q.index, step.k.index, step.v.index
        shapes = [traced.values[number].shape for number in (q, k, v)]
        keys = (*shapes[1][:-2], shapes[1][-1], shapes[1][-2])
        run = kernels.active().prepare_attention(
            shapes[0], keys, shapes[2], step.scale, traced.values[q].dtype
        )

        def arrays() -> tuple[np.ndarray, ...]:
            return values[q], values[k].swapaxes(-1, -2), values[v], out

        if self._fixed.issuperset((q, k, v)) and values[q].strides[-1] == values[q].itemsize:
            return _Bound(run, arrays())
        return lambda: run(*arrays())

    def _is_fixed(self, step: Any, call: Callable[[], None]) -> bool:
        """Whether the step only views a map in the arena in another shape: then do it now."""
        if step.kind not in (Permute, Reshape) or not isinstance(step.args[0], Ref):
            return False
        if step.args[0].index not in self._fixed:
            return False
        call()
        if not np.may_share_memory(self.values[step.outputs[0]], self._arena):
            return False
        self._fixed.update(step.outputs)
        return True

    def _operation(self, step: Any) -> Callable[[], None]:
        values, outputs, args = self.values, step.outputs, step.args

        if isinstance(step.kind, Module):

            def call() -> None:
                result = step.kind(*[_filled(arg, values) for arg in args])
                for number, tensor in zip(outputs, _result_tensors(result)):
                    values[number] = tensor.data

            return call
        kind: type[Function] = step.kind
        plain = (False,) * len(args)

        def apply() -> None:
            result = kind.forward(Node(kind, plain), *[_filled(arg, values) for arg in args])
            for number, value in zip(outputs, result if isinstance(result, tuple) else (result,)):
                values[number] = value.data if isinstance(value, Tensor) else np.asarray(value)

        return apply

    # -- running ----------------------------------------------------------------------------

    def __call__(self, x: np.ndarray) -> Any:
        return self._run(x, self._calls)

    def _run(self, x: np.ndarray, calls: list[tuple[Callable[[], None], list[int]]]) -> Any:
        values = self.values
        if self._load is None:
            values[0] = x
        with no_grad(), np.errstate(all="ignore"):
            if self._load is not None:
                self._load(x.transpose(0, 2, 3, 1), to_nhwc(values[0]))
            for call, drops in calls:
                call()
                for number in drops:
                    values[number] = None
        result = self._returned(self.result)
        if self._load is None:
            values[0] = None
        return result

    def timed(self, x: np.ndarray) -> list[float]:
        """Run step by step, and return the seconds of each in the order of ``infos``.

        Bringing the input into the plan's memory counts for the first.
        """
        ends = [time.perf_counter()]

        def clocked(call: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                call()
                ends.append(time.perf_counter())

            return run

        self._run(x, [(clocked(call), drops) for call, drops in self._single_calls])
        seconds = [0.0] * len(self.steps)
        for position, (start, end) in zip(self._order, itertools.pairwise(ends)):
            seconds[position] += end - start
        return seconds

    def _returned(self, value: Any) -> Any:
        """Return a result with arrays in place of references, out of the arena."""
        if isinstance(value, Ref):
            array = self.values[value.index]
            inside = value.index in self._in_arena or value.index == 0
            return array.copy(order="K") if inside else array
        if isinstance(value, Tensor):  # does not depend on the input
            return value.data.copy()
        if isinstance(value, dict):
            return {key: self._returned(item) for key, item in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*[self._returned(item) for item in value])
        if isinstance(value, (list, tuple)):
            return type(value)([self._returned(item) for item in value])
        return value


def _joined_calls(
    calls: list[_Call], drops: list[list[int]]
) -> list[tuple[Callable[[], None], list[int]]]:
    """Return the calls, those bound to memory joined, each with the values to drop after it."""
    joined: list[tuple[Callable[[], None], list[int]]] = []
    bound: list[_Bound] = []
    dropped: list[int] = []

    def finish() -> None:
        nonlocal bound, dropped
        if bound or dropped:
            joined.append((kernels.active().join(bound), dropped))
        bound, dropped = [], []

    for call, numbers in zip(calls, drops):
        if call is None or isinstance(call, _Bound):
            bound += [] if call is None else [call]
            dropped += numbers
        else:
            finish()
            joined.append((call, numbers))
    finish()
    return joined


def _nhwc_shape(value: np.ndarray) -> tuple[int, int, int, int]:
    """Return the shape in memory of images ``(N, C, H, W)``, or of rows ``(N, C)`` as pixels."""
    n, c, h, w = value.shape if value.ndim == 4 else (*value.shape, 1, 1)
    return n, h, w, c


def _images(value: np.ndarray) -> np.ndarray:
    if value.ndim == 4:
        return to_nhwc(value)
    return np.ascontiguousarray(value).reshape(_nhwc_shape(value))


def _any_images(value: np.ndarray) -> np.ndarray:
    return value.transpose(0, 2, 3, 1) if value.ndim == 4 else _images(value)


def _place(lives: list[_Life]) -> int:
    """Give each map an offset such that maps needed at the same time do not overlap.

    The largest first, each at the lowest offset that is free for as long as it lives: the greedy
    rule of Pisarchyk & Lee 2020, "Efficient memory management for deep neural net inference".

    Returns:
        The arena's size in bytes.
    """
    placed: list[_Life] = []
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


def _filled(value: Any, values: list[Any]) -> Any:
    if isinstance(value, Ref):
        return Tensor._wrap(values[value.index])
    if isinstance(value, (list, tuple)) and _result_refs(value):
        return type(value)([_filled(item, values) for item in value])
    return value


def _result_refs(value: Any) -> list[Ref]:
    if isinstance(value, Ref):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [ref for item in value for ref in _result_refs(item)]
    return []


def _result_tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _result_tensors(item)]
    return []
