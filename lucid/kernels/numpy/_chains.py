"""Layers joined to one call; of one image, chains of them whose inner channels threads share.

A launch on several threads of Python costs some 65 µs, and a layer of one image takes 100 to 1000.
But what an inverted bottleneck does between its two products it does channel by channel: so each
thread computes some of the inner channels by all its layers, and what these contribute to
the result, which is added up at the end (as Shoeybi et al. 2019, "Megatron-LM", section 3, divide a
transformer's layers). One launch instead of two or three, and no map goes from core to core.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from lucid.kernels._memory import empty_like
from lucid.kernels.geometry import UNIT
from lucid.kernels.numpy._calls import Calls, Recording, Scratch
from lucid.kernels.numpy._prepared import TAP, Convolution, ConvStep, finisher, prepared
from lucid.kernels.numpy._steps import Step
from lucid.kernels.numpy._threads import ELEMENT, WORTHWHILE, available_threads
from lucid.kernels.prepared import Bound, Link

Array = np.ndarray

# Shorter calls of NumPy wait for Python's lock more than they gain: with half of it one image of
# mobilenetv4_conv_small takes 1.1 of the time.
_WORTH_A_CHAIN = 2 * WORTHWHILE

_LONGEST = 3  # layers of a chain

# Numbers of an image from which on its layers' calls are long: 8 MB.
_LARGE = 1 << 21


def join(steps: Sequence[Bound]) -> Callable[[Array], None]:
    """Return a function of the input that runs prepared steps one after the other on their arrays.

    None of them reads the input: :func:`prepare_images` makes none that would.
    """
    # By the number of threads; two, as a plan runs beside others or, where they are busy, alone.
    recordings: dict[int, Recording] = {}

    def call(images: Array) -> None:
        threads = available_threads()
        if threads not in recordings:
            if len(recordings) > 1:
                recordings.clear()
            recordings[threads] = _record(steps, threads)
        recordings[threads].play()

    return call


def _record(steps: Sequence[Bound], threads: int) -> Recording:
    """Return the calls of some steps on their arrays."""
    recording = Recording(threads)
    for step, arrays, _ in _chained(steps):
        cast("Step", step).issue(recording, *arrays)
        recording.end_step()
    return recording


def _chained(steps: Sequence[Bound]) -> Iterator[Bound]:
    """Give the steps, those of a chain as one."""
    position = 0
    while position < len(steps):
        some = steps[position : position + _LONGEST]
        some = some[: _length([bound.step for bound in some])]
        chain = None
        if len(some) > 1 and all(map(_follows, some, some[1:])):
            chain = _worthwhile([cast("ConvStep", bound.step) for bound in some])
        if chain is None:
            some = some[:1]
            yield some[0]
        else:
            out, _, *residual = some[-1].arrays
            yield Bound(chain, (out, some[0].arrays[1], *residual))
        position += len(some)


def _follows(bound: Bound, after: Bound) -> bool:
    """Whether a step's output is what the next one convolves, and nothing else."""
    (out, _, *residual), (_, x, *added) = bound.arrays, after.arrays
    is_same = x.shape == out.shape and x.ctypes.data == out.ctypes.data
    is_added = any(np.may_share_memory(out, array) for array in added)
    return is_same and bound.passes_on and not residual and not is_added


def keep_row(links: Sequence[Link]) -> Callable[[Array], Array]:
    """Return a function of images that runs kept layers one after the other.

    The output is what the last one makes. Several threads may call it at once.
    """
    return _Row(links)


class _Row:
    """Kept layers one after the other; if an image of one size comes again, recorded.

    Of several images, and of a large one, the calls are long, and a recording would hold large
    maps. So it is not made for sizes that come once, and there is one: a thread that comes while
    another uses it calls layer by layer.
    """

    def __init__(self, links: Sequence[Link]) -> None:
        self._links = links
        # The last link that reads a map.
        self._last = {i: n for n, link in enumerate(links) for i in (*link.reads, link.adds)}
        self._runs: list[range] = []
        while (start := self._runs[-1].stop if self._runs else 0) < len(links):
            self._runs.append(range(start, self._end(start)))
        self._recorded: tuple[tuple[int, ...], list[deque[_Piece | None]]] = (), []

    def _end(self, start: int) -> int:
        """Return the end of the longest run of convolutions from there that can be recorded.

        It needs one map from outside, and only its last map is used outside.
        """
        end = start + 1
        (first, *_) = self._links[start].reads
        for stop in range(start, len(self._links)):
            layer, reads, adds = self._links[stop]
            is_inside = all(i in (first, None) or start < i <= stop for i in (*reads, adds))
            if not isinstance(layer, Convolution) or not is_inside:
                break
            if all(self._last.get(i, stop) <= stop for i in range(start + 1, stop + 1)):
                end = stop + 1
        return end

    def __call__(self, x: Array) -> Array:
        shape, recorded = self._recorded
        if shape != x.shape:
            is_small = len(x) == 1 and 0 < x.size <= _LARGE
            to_come: list[deque[_Piece | None]]
            to_come = [deque([None] if is_small and len(some) > 1 else []) for some in self._runs]
            self._recorded = x.shape, to_come
            recorded = [deque() for _ in self._runs]
        maps: dict[Any, Array] = {0: x}
        for some, free in zip(self._runs, recorded):
            try:
                piece = free.pop()
            except IndexError:
                self._by_layer(some, maps)
            else:
                x = maps[self._links[some.start].reads[0]]
                try:
                    piece = piece or _Piece(self._links, some, self._last, x)
                    maps[some.stop] = piece(x)
                finally:
                    free.append(piece)
            for i in [i for i in maps if self._last.get(i, some.stop) < some.stop]:
                del maps[i]
        return maps[len(self._links)]

    def _by_layer(self, some: range, maps: dict[Any, Array]) -> None:
        for n in some:
            layer, reads, adds = self._links[n]
            maps[n + 1] = layer(*[maps[i] for i in reads])
            if adds is not None:
                np.add(maps[n + 1], maps[adds], out=maps[n + 1])


class _Piece:
    """Convolutions of a row on memory of their own, for inputs like one."""

    def __init__(
        self, links: Sequence[Link], some: range, last: Mapping[Any, int], like: Array
    ) -> None:
        memory, dtype = Scratch(), like.dtype
        (first, *_) = links[some.start].reads
        self._input = x = memory.empty(like.shape, dtype)
        maps, steps = {first: x}, []
        for n in some:
            layer, (i, *_), adds = links[n]
            x = maps[i]
            out = memory.empty(layer.conv.output_shape(x.shape, layer.weight.shape), dtype)
            arrays = (out, x) if adds is None else (out, x, maps[adds])
            step = ConvStep(x.shape, layer.weight, layer.conv, layer.epilogue)
            steps.append(Bound(step, arrays, passes_on=last.get(n + 1) == n + 1 < some.stop))
            maps[n + 1] = out
            for dead in [i for i in maps if i != n + 1 and last.get(i, n) <= n]:
                memory.give(maps.pop(dead))
        self._output = out
        self._call = join(steps)

    def __call__(self, x: Array) -> Array:
        np.copyto(self._input, x)
        self._call(x)
        out = empty_like(self._output)
        np.copyto(out, self._output)
        return out


def _length(layers: Sequence[Any]) -> int:
    """Return how many of the first layers are product, maybe depthwise, and product; else 1.

    The middle must be as wide as the ends: what each thread contributes is a whole output.
    """
    for length, layer in enumerate(layers, 1):
        if not isinstance(layer, ConvStep):
            break
        shape, conv = layer.weight.shape, layer.conv
        if conv.is_pointwise(shape) and conv.stride == UNIT:
            if length > 1:
                inner, ends = layers[0].weight.shape[0], (layers[0].weight.shape[1], shape[0])
                return length if inner >= max(ends) else 1
        elif length != 2 or not conv.is_depthwise(shape):
            break
    return 1


def _worthwhile(steps: list[ConvStep]) -> _Chain | None:
    """Return a chain of some convolutions of one image, if they are enough work for several."""
    is_enough = steps[0].input_shape[0] == 1 and sum(map(_work, steps)) >= _WORTH_A_CHAIN
    return _Chain(steps) if is_enough else None


def _work(step: ConvStep) -> int:
    """Return how many elements' worth of work it is, with what comes after its sums."""
    elements = math.prod(step.conv.output_shape(step.input_shape, step.weight.shape))
    taps = math.prod(step.weight.shape[1:])
    if step.conv.is_depthwise(step.weight.shape):
        taps *= TAP
    return elements + elements * taps // ELEMENT


class _Chain(Step):
    """A product, maybe a depthwise convolution, and a product, maybe with a residual."""

    def __init__(self, steps: Sequence[ConvStep]) -> None:
        self._first, *self._between, self._last = steps
        (self._inner,), (self._outer,) = self._first.weight.groups, self._last.weight.groups
        last = self._last
        shape = last.conv.output_shape(last.input_shape, last.weight.shape)
        self._finish = finisher(last.epilogue, shape, last.weight.dtype, many_runs=True)
        self._work = sum(map(_work, steps))

    def issue(self, calls: Calls, out: Array, x: Array, *residual: Array) -> None:
        """Issue the calls of all its layers."""
        rows = x.reshape(-1, x.shape[3])

        def part(units: slice) -> Array:
            channels = self._inner.columns(units)
            maps = calls.empty((*x.shape[:3], channels.stop - channels.start), x.dtype)
            self._inner.multiply(rows, maps.reshape(len(rows), -1), units, calls=calls)
            epilogue = self._first.epilogue.of(channels)
            finisher(epilogue, maps.shape, x.dtype, many_runs=True)(calls, maps)
            for step in self._between:
                weight, conv = step.weight[channels], step.conv._replace(groups=maps.shape[3])
                epilogue = step.epilogue.of(channels)
                run = prepared(maps.shape, weight, conv, epilogue, many_runs=True)
                source = maps
                maps = calls.empty(conv.output_shape(source.shape, weight.shape), x.dtype)
                run(maps, source, calls=calls)
            sums = out if units == whole else calls.empty(out.shape, x.dtype)
            matrices = (array.reshape(-1, array.shape[3]) for array in (maps, sums))
            self._outer.multiply(*matrices, depth=channels, calls=calls)
            return sums

        whole = slice(0, self._inner.count)
        total, *others = calls.divide(part, self._inner.count, self._work)
        for other in others:
            calls.do(np.add, total, other, out=out)
            total = out
        self._finish(calls, out, *residual)
