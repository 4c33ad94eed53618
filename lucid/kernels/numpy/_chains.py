"""Steps joined to one call; of one image, chains of layers whose inner channels threads share.

A launch on several threads of Python costs some 65 µs, and a layer of one image takes 100 to 1000.
But what an inverted bottleneck does between its two products it does channel by channel: so each
thread computes some of the inner channels by all its layers, and what these contribute to
the result, which is added up at the end (as Shoeybi et al. 2019, "Megatron-LM", section 3, divide a
transformer's layers). One launch instead of two or three, and no map goes from core to core.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np

from lucid.kernels._memory import empty
from lucid.kernels.geometry import UNIT, Shape
from lucid.kernels.numpy._calls import Calls, Recording
from lucid.kernels.numpy._prepared import TAP, ConvStep, KeptConv, Run, Spares, finisher, prepared
from lucid.kernels.numpy._steps import Step
from lucid.kernels.numpy._threads import ELEMENT, WORTHWHILE, get_num_threads
from lucid.kernels.prepared import Bound, Link

Array = np.ndarray

# Shorter calls of NumPy wait for Python's lock more than they gain: with half of it one image of
# mobilenetv4_conv_small takes 1.1 of the time.
_WORTH_A_CHAIN = 2 * WORTHWHILE

_LONGEST = 3  # layers of a chain

_Layer = Callable[[Calls, Array], Array]


def join(steps: Sequence[Bound]) -> Callable[[Array], None]:
    """Return a function of the input that runs prepared steps one after the other on their arrays.

    None of them reads the input: :func:`prepare_images` makes none that would.
    """
    recording: Recording | None = None

    def call(images: Array) -> None:
        nonlocal recording
        if recording is None or recording.threads != get_num_threads():
            recording = _record(steps)
        recording.play()

    return call


def _record(steps: Sequence[Bound]) -> Recording:
    """Return the calls of some steps on their arrays."""
    recording = Recording()
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

    The output is what the last one makes.
    """
    last = {i: position for position, link in enumerate(links) for i in (*link.reads, link.adds)}
    calls: list[tuple[Callable[..., Array], tuple[int, ...], int | None, int]] = []
    made = 0  # the number of the map that the last call makes
    while made < len(links):
        some = range(made, made + _length([link.layer for link in links[made : made + _LONGEST]]))
        is_row = all(links[i].reads == (i,) for i in some) and links[some[-1]].adds not in some[1:]
        if not is_row or any(links[i].adds is not None or last[i + 1] != i + 1 for i in some[:-1]):
            some = some[:1]
        layers = [links[i].layer for i in some]
        made += len(some)
        layer = _KeptChain(layers) if len(layers) > 1 else layers[0]
        calls.append((layer, links[some[0]].reads, links[made - 1].adds, made))

    def run(x: Array) -> Array:
        maps: dict[Any, Array] = {0: x}
        for layer, reads, adds, made in calls:
            x = layer(*[maps[i] for i in reads])
            if adds is not None:
                np.add(x, maps[adds], out=x)
            for i in [i for i in maps if last[i] < made]:
                del maps[i]
            maps[made] = x
        return x

    return run


class _KeptChain:
    """Kept layers, of one image a chain where that is worth it."""

    def __init__(self, layers: list[KeptConv]) -> None:
        self._layers, self._chains = layers, Spares(self._chain)

    def __call__(self, x: Array) -> Array:
        n, height, width, channels = x.shape
        shape = n, height, width, channels
        chain = self._chains.take(shape)
        if chain is None:
            for layer in self._layers:
                x = layer(x)
        else:
            x, source = empty(chain.output_shape, x.dtype), np.ascontiguousarray(x)
            chain.run(x, source)
        self._chains.put(shape, chain)
        return x

    def _chain(self, shape: Shape) -> _Chain | None:
        steps = []
        for layer in self._layers:
            steps.append(ConvStep(shape, layer.weight, layer.conv, layer.epilogue))
            shape = layer.conv.output_shape(shape, layer.weight.shape)
        return _worthwhile(steps)


def _length(layers: Sequence[Any]) -> int:
    """Return how many of the first layers are product, maybe depthwise, and product; else 1.

    The middle must be as wide as the ends: what each thread contributes is a whole output.
    """
    for length, layer in enumerate(layers, 1):
        if not isinstance(layer, (ConvStep, KeptConv)):
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
        self.output_shape = last.conv.output_shape(last.input_shape, last.weight.shape)
        self._finish = finisher(last.epilogue, self.output_shape, last.weight.dtype, True)
        self._work = sum(map(_work, steps))
        self._of: dict[tuple[int, int], list[_Layer]] = {}

    def issue(self, calls: Calls, out: Array, x: Array, *residual: Array) -> None:
        """Issue the calls of all its layers."""
        rows = x.reshape(-1, x.shape[3])

        def part(units: slice) -> Array:
            channels = self._inner.columns(units)
            maps = calls.empty((*x.shape[:3], channels.stop - channels.start), x.dtype)
            self._inner.multiply(rows, maps.reshape(len(rows), -1), units, calls=calls)
            layers = self._of.get((channels.start, channels.stop))
            if layers is None:
                layers = self._of[channels.start, channels.stop] = list(self._layers(channels))
            for layer in layers:
                maps = layer(calls, maps)
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

    def _layers(self, channels: slice) -> Iterator[_Layer]:
        """Give what happens to some inner channels between the products."""
        shape = *self._first.input_shape[:3], channels.stop - channels.start
        first = self._first
        finish = finisher(first.epilogue.of(channels), shape, first.weight.dtype, True)

        def finished(calls: Calls, maps: Array) -> Array:
            finish(calls, maps)
            return maps

        yield finished
        for step in self._between:
            weight, conv = step.weight[channels], step.conv._replace(groups=shape[3])
            run = prepared(shape, weight, conv, step.epilogue.of(channels), many_runs=True)
            yield functools.partial(_run, run, conv.output_shape(shape, weight.shape))


def _run(run: Run, shape: tuple[int, ...], calls: Calls, maps: Array) -> Array:
    result = calls.empty(shape, maps.dtype)
    run(result, maps, calls=calls)
    return result
