"""lucid.compile: a model as a fast callable for inference."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np

from lucid import kernels
from lucid._check import is_whole, short
from lucid._compile._fuse import for_part, freeze, goes_by_image, simplify
from lucid._compile._plan import Plan, UnforeseenError
from lucid._compile._state import same_state
from lucid._compile._steps import Convolution, Step, StepInfo, merged
from lucid._compile._trace import copied, faithful_graph
from lucid.autograd import Tensor, no_grad
from lucid.autograd._dtype import DEFAULT_DTYPE
from lucid.autograd._tensor import wrap
from lucid.graph import Value, leaves, mapped
from lucid.kernels._memory import trim
from lucid.nn import Module

_Traced = tuple[Value, list[Step], Any]
_alive: weakref.WeakSet[CompiledModel] = weakref.WeakSet()


def _unlock_all() -> None:
    for model in _alive:
        model._unlock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_all)


class CompiledModel:
    """A model's inference with its weights as they were when it was compiled.

    Call it with an array or a tensor ``(n, …)`` with ``n`` up to the planned batch; it returns
    what the model returns, arrays for an array and tensors for a tensor, in memory of their own. It
    may be called from several threads; the calls then take turns. A call within a call, such as by
    a signal's handler, runs the model as it is.

    An array is never written to; a tensor is where the model itself changes its input in place.

    Until the kernels of the backend are compiled it computes by NumPy, and goes over between two
    calls.

    Attributes:
        input_shape: the largest input.
        arena_bytes: memory for the intermediate maps at that size.
    """

    _running: bool

    def __init__(self, model: Module, input_shape: tuple[int, ...], keep: bool = True) -> None:
        self.input_shape = input_shape
        self._name = type(model).__name__
        # The plan is made with the memory that a copy will take.
        self._model: Module | None = model
        self._fills_up = False  # whether smaller batches are known to go with others
        first = next(iter(model.parameters()), None)
        self._dtype = DEFAULT_DTYPE if first is None else first.dtype
        self._unlock()
        _alive.add(self)
        # By the images of a batch, and the first and the last of the part that goes through.
        self._plans: dict[tuple[int, int, int], Plan] = {}
        # The last ones that were looked for: the backend, images and threads they are for.
        self._found: tuple[Any, list[Plan]] = None, []
        # By backend and shape: input, steps and result, and whether it goes image by image.
        self._steps: dict[tuple[Any, tuple[int, ...]], tuple[_Traced, bool]] = {}
        self._runs_as_itself = False  # always: no plan can tell what it does
        self._keep = keep
        self._is_interim = not kernels.is_ready()
        with self._backend():
            self._begin()
        if self._is_interim:  # not before: the first answer would wait for a processor
            kernels.warm_up(wait=False)
        if self._model is not None:  # other plans are made when needed, from the weights of now
            self._model = copied(model).eval()

    def _begin(self) -> None:
        """Make the plans for the largest batch."""
        self.release()
        self._steps.clear()
        plans = self._planned(self.input_shape[0])
        opaque = any(plan.has_opaque_steps for plan in plans)
        if plans and not (self._keep or self._is_interim or opaque):
            self._model = None

    def _backend(self) -> AbstractContextManager[None]:
        """Return a context in which the backend computes that the plans are made for."""
        return kernels.standing_in() if self._is_interim else nullcontext()

    def _turn(self) -> AbstractContextManager[Any]:
        """Return a context in which one thread runs at a time."""
        return self._interim_turn() if self._is_interim else self._lock

    @contextmanager
    def _interim_turn(self) -> Iterator[None]:
        """Go over to plans that are made anew, when the kernels are there."""
        with self._lock:
            if self._is_interim and not self._running and kernels.is_ready():
                self._is_interim = False
                self._begin()
            with self._backend():
                yield

    @property
    def arena_bytes(self) -> int:
        """Bytes for the intermediate maps, over all plans made so far."""
        return sum(plan.arena.nbytes for plan in self._plans.values())

    def __call__(self, x: Any) -> Any:
        """Return the model's output for ``x``.

        Raises:
            ValueError: if the shape is not the planned one with a batch of 1 up to the planned.
            TypeError: if the dtype is not the model's.
        """
        array = self._checked(x)
        with self._turn():
            fills_up = self._model is None and len(array) < self.input_shape[0]
            result = self._filled_up(array) if fills_up else self._run(array, x)
        return mapped(_wrapped, result) if isinstance(x, Tensor) else result

    def foresees(self, x: Tensor) -> bool:
        """Return whether a plan, not the model as itself, takes ``x``: of the largest batch."""
        return not self._runs_as_itself and (x.shape, x.dtype) == (self.input_shape, self._dtype)

    def timed(self, x: Any) -> list[tuple[StepInfo, float]]:
        """Run once, and return each step with the seconds it took, in the order they ran.

        Where parts of the batch go through the model side by side, a step's time is the mean over
        the parts; its shape and multiply-adds are those of the whole batch.

        Raises:
            ValueError, TypeError: as for a call.
        """
        array = self._checked(x)
        with self._turn():
            plans = self._planned(len(array))
            if not plans:
                start = time.perf_counter()
                self._run(array, x)
                info = StepInfo("", self._name, (), 0)
                return [(info, time.perf_counter() - start)]
            timings = self._side_by_side(plans, array, Plan.timed)
        seconds = [sum(step) / len(step) for step in zip(*timings)]
        infos = [merged(same) for same in zip(*(plan.infos for plan in plans))]
        return list(zip(infos, seconds))

    def _unlock(self) -> None:
        """Make a lock that nobody has: in a forked child, who had it may not exist.

        A plan can be run again wherever it was left.
        """
        self._lock = threading.RLock()
        self._running = False

    def _checked(self, x: Any) -> np.ndarray:
        array = x.data if isinstance(x, Tensor) else np.asarray(x)
        planned = self.input_shape
        if array.ndim != len(planned) or array.shape[1:] != planned[1:]:
            raise ValueError(
                f"compiled model: expected an input of shape {planned}, or with a smaller batch, "
                f"got {array.shape}; compile again for another size"
            )
        if not 1 <= len(array) <= planned[0]:
            raise ValueError(
                f"compiled model: expected a batch of 1 to {planned[0]} (axis 0), got {len(array)} "
                f"from an input of shape {array.shape}"
            )
        if array.dtype != self._dtype:
            raise TypeError(
                f"compiled model: expected an input of dtype {self._dtype}, got {array.dtype}"
            )
        return array

    def _planned(self, images: int) -> list[Plan]:
        """Return a plan for each part of a batch of so many; none if the model runs as itself."""
        if self._model is None:
            return list(self._plans.values())
        wanted = kernels.active(), images, kernels.get_num_threads()
        if self._found[0] != wanted:
            self._found = wanted, self._find_plans(images)
        return self._found[1]

    def _find_plans(self, images: int) -> list[Plan]:
        key = kernels.active(), (images, *self.input_shape[1:])
        if key not in self._steps and not self._runs_as_itself:
            self._trace(key)
        if self._runs_as_itself:
            return []
        traced, by_image = self._steps[key]
        parts = kernels.active().divide(images) if by_image else [slice(0, images)]
        places = [(images, part.start, part.stop) for part in parts]
        for place in places:
            if place not in self._plans:
                self._plans[place] = Plan(*for_part(place[2] - place[1], *traced))
        return [self._plans[place] for place in places]

    def _trace(self, key: tuple[Any, tuple[int, ...]]) -> None:
        """Find the steps for a backend and a shape, with packed weights, if there are any."""
        assert self._model is not None
        graph = faithful_graph(self._model, key[1], self._dtype)
        trim()  # a plan works in its arena, in memory that the traced run had
        if graph is None:
            return self._run_as_itself()
        (images,), (steps, result) = graph.inputs, simplify(graph)
        del graph  # it holds all weights, which go one by one
        result = freeze(steps, result)
        known = (made for (backend, _), (made, _) in self._steps.items() if backend is key[0])
        _, others, _ = next(known, (None, [], None))
        for step, other in itertools.zip_longest(steps, others):
            if isinstance(step, Convolution):
                step.pack(other if isinstance(other, Convolution) else None)
        self._steps[key] = (images, steps, result), goes_by_image(images, steps, result)

    def _run_as_itself(self) -> None:
        """From now on, have the model run as a whole instead of any plan."""
        self._runs_as_itself = True
        self.release()
        self._steps.clear()

    def release(self) -> None:
        """Give back the memory of the plans made so far."""
        for plan in self._plans.values():
            plan.release()
        self._plans.clear()
        self._found = None, []
        trim()

    def _side_by_side(
        self, plans: list[Plan], array: np.ndarray, call: Callable[[Plan, np.ndarray], Any]
    ) -> list[Any]:
        """Return what each plan gives for its part of the batch."""
        if len(plans) == 1:
            return [call(plans[0], array)]
        ends = list(itertools.accumulate(plan.images for plan in plans))

        def run(part: slice) -> list[Any]:
            with self._backend():  # of this thread
                # Maybe all, where that is not worth dividing: then one after the other.
                return [
                    call(plan, array[end - plan.images : end])
                    for plan, end in zip(plans, ends)
                    if part.start < end <= part.stop
                ]

        results = kernels.active().in_parts(run, len(array), array.size * 100)
        return list(itertools.chain.from_iterable(results))

    def _run(self, array: np.ndarray, x: Any) -> Any:
        """Return the result for ``array``, which is that of ``x``, as arrays."""
        if not self._running:
            try:
                self._running = True
                if plans := self._planned(len(array)):
                    results = self._side_by_side(plans, array, Plan.__call__)
                    return results[0] if len(results) == 1 else mapped(_joined, *results)
            except UnforeseenError:
                self._run_as_itself()
            finally:
                self._running = False
        if self._model is None:
            raise RuntimeError(f"compiled model: a call within a call {_NEEDS_MODULE}")
        given = x if isinstance(x, Tensor) else wrap(array.copy(order="K"))
        with no_grad():
            result = self._model(given)
        # Copies: it may be the input, or something that the model keeps.
        return mapped(
            lambda leaf: leaf.data.copy(order="K") if isinstance(leaf, Tensor) else leaf, result
        )

    def _filled_up(self, array: np.ndarray) -> Any:
        """Return the result for a smaller batch, as a part of a whole one.

        Raises:
            ValueError: if what else is in the batch makes a difference.
        """
        count = len(array)

        def cut(leaf: Any) -> Any:
            return leaf[:count] if isinstance(leaf, np.ndarray) and leaf.ndim else leaf

        whole = np.zeros(self.input_shape, self._dtype)
        whole[:count] = array
        result = self._run(whole, whole)
        if not self._fills_up:  # once, beside other images
            whole[count:] = 100 * np.random.default_rng(0).standard_normal(whole[count:].shape)
            other = mapped(cut, self._run(whole, whole))
            lengths = {leaf.shape[:1] for leaf in leaves(result, np.ndarray)}
            if lengths != {(len(whole),)} or not same_state(mapped(cut, result), other):
                raise ValueError(
                    f"compiled model: the result for {count} is no part of that for {len(whole)}, "
                    f"so a smaller batch {_NEEDS_MODULE}"
                )
            self._fills_up = True
        return mapped(cut, result)

    def __reduce__(self) -> Any:
        # Plans hold memory and this processor's kernels: a copy is compiled where it is made.
        if self._model is None:
            raise TypeError(f"compiled model: a copy {_NEEDS_MODULE}")
        return CompiledModel, (self._model, self.input_shape)

    def __repr__(self) -> str:
        return f"CompiledModel({self._name}, input_shape={self.input_shape})"


_NEEDS_MODULE = "needs the module, which was not kept; compile with keep_module=True"


def _wrapped(leaf: Any) -> Any:
    return wrap(leaf) if isinstance(leaf, np.ndarray) else leaf


def _joined(first: Any, *others: Any) -> Any:
    """Return the results of parts of a batch as one."""
    is_divided = others and isinstance(first, np.ndarray) and first.ndim
    return np.concatenate([first, *others]) if is_divided else first


def compile(
    model: Module, input_shape: Sequence[int], *, keep_module: bool = True
) -> CompiledModel:
    """Return a callable for inference that computes what ``model.eval()`` does, faster.

    The model is run to see its operations. Batch norm goes into the weights of the convolution
    before it, activation, layer scale and residual into its kernel; weights are brought into the
    kernels' form once, and all maps share one arena. What operations do not show makes the module
    around it run as itself: work on raw arrays, choices by value, changes in place. So does the
    whole of a model that changes its input, keeps something from call to call, draws random numbers
    or has hooks. What a model keeps is kept in the compiled one, apart from ``model``.

    Args:
        model: any module that can be copied; it is left untouched, and later changes to it have no
            effect.
        input_shape: the largest input, batch first: ``(N, C, H, W)`` for images.
        keep_module: keep a copy of the model, for plans for smaller batches. Without, the weights
            are in memory once, as the kernels read them, and there are limits: a smaller batch is
            filled up and takes as long as a whole one, which a model refuses whose images make a
            difference to each other; a call within a call is an error, as is a copy or a pickle.
            A model of which a part runs as itself is kept in any case.

    Returns:
        A :class:`CompiledModel`; its results equal the model's to rounding, within 1e-4. Where the
        fast backend's kernels are still to be compiled, once on a machine, it computes by NumPy
        until they are: :func:`lucid.warm_up` waits for them.

    Raises:
        TypeError: if ``model`` is no module, or ``input_shape`` no sequence of integers.
        ValueError: if a size is not positive, or the model does not accept the shape.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
        >>> fast = lucid.compile(model, (16, 3, 32, 32))
        >>> x = lucid.randn(4, 3, 32, 32)  # smaller batches are fine
        >>> fast(x).shape
        (4, 8, 30, 30)
        >>> lucid.allclose(fast(x), model(x), atol=1e-4)
        True
    """
    if not isinstance(model, Module):
        raise TypeError(f"compile: expected a Module, got {type(model).__name__}")
    shape = tuple(input_shape) if isinstance(input_shape, Sequence) else (input_shape,)
    if not shape or not all(map(is_whole, shape)):
        given = short(input_shape)
        raise TypeError(f"compile: input_shape must be a sequence of integers, got {given}")
    if min(shape) < 1:
        raise ValueError(f"compile: the sizes in input_shape must be positive, got {input_shape!r}")
    with ExitStack() as afterwards:
        if gc.isenabled():  # it would look through all modules a hundred times
            gc.disable()
            afterwards.callback(gc.enable)
        return CompiledModel(model, tuple(int(size) for size in shape), keep_module)
