"""lucid.compile: a model as a fast callable for inference."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid import kernels
from lucid._compile._describe import StepInfo, merged
from lucid._compile._plan import Plan
from lucid.autograd import Tensor
from lucid.autograd._tensor import DEFAULT_DTYPE
from lucid.kernels._memory import trim
from lucid.nn import Module


class CompiledModel:
    """A model's inference with its weights as they were when it was compiled.

    Call it with an array or a tensor ``(n, …)`` with ``n`` up to the planned batch; it returns
    what the model returns, arrays for an array and tensors for a tensor. It may be called from
    several threads; the calls then take turns.

    Attributes:
        input_shape: the largest input.
        arena_bytes: memory for the intermediate maps at that size.
    """

    def __init__(self, model: Module, input_shape: tuple[int, ...]) -> None:
        self.input_shape = input_shape
        # Plans for smaller batches are made when they are needed, from the weights of now.
        self._model = copy.deepcopy(model).eval()
        first = next(iter(model.parameters()), None)
        self._dtype = DEFAULT_DTYPE if first is None else first.dtype
        self._lock = threading.Lock()
        self._plans: dict[tuple[int, int], Plan] = {}
        self._divisible = False
        plan = self._plan(slice(0, input_shape[0]))
        if len(kernels.active().divide(input_shape[0])) > 1:
            self._divisible = self._is_divisible(plan)

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
        with self._lock:
            if self._divisible:
                result = self._run_divided(array)
            else:
                result = self._plan(slice(0, len(array)))(array)
        return _wrapped(result) if isinstance(x, Tensor) else result

    def timed(self, x: Any) -> list[tuple[StepInfo, float]]:
        """Run once, and return each step with the seconds it took, in the order they ran.

        Where parts of the batch go through the model side by side, a step's time is the mean over
        the parts; its shape and multiply-adds are those of the whole batch.

        Raises:
            ValueError, TypeError: as for a call.
        """
        array = self._checked(x)
        with self._lock:
            parts = [slice(0, len(array))]
            if self._divisible:
                parts = kernels.active().divide(len(array))
            plans = [self._plan(part) for part in parts]
            if len(parts) == 1:
                timings = [plans[0].timed(array)]
            else:
                timings = kernels.active().in_parts(
                    lambda part: self._plan(part).timed(array[part]), len(array), array.size * 100
                )
        seconds = [sum(step) / len(step) for step in zip(*timings)]
        infos = [merged(same) for same in zip(*(plan.infos for plan in plans))]
        return list(zip(infos, seconds))

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

    def _plan(self, part: slice) -> Plan:
        """Return the plan for a part of a batch; parts that run side by side have their own."""
        key = part.start, part.stop
        if key not in self._plans:
            shape = (part.stop - part.start, *self.input_shape[1:])
            self._plans[key] = Plan(self._model, shape, self._dtype)
            trim()  # the traced run kept every map; a plan works in its arena
        return self._plans[key]

    def _run_divided(self, array: np.ndarray) -> Any:
        """Run parts of the batch side by side, each through the whole model."""
        for part in kernels.active().divide(len(array)):
            self._plan(part)
        return _joined(
            kernels.active().in_parts(
                lambda part: self._plan(part)(array[part]), len(array), array.size * 100
            )
        )

    def _is_divisible(self, plan: Plan) -> bool:
        """Whether parts of a batch give parts of the result, as a look at one input tells."""
        x = np.random.default_rng(0).standard_normal(self.input_shape).astype(self._dtype)
        whole = _arrays(plan(x))
        try:
            joined = _arrays(self._run_divided(x))
        except (ValueError, RuntimeError):  # the model cannot run a part of the batch
            return False
        return len(whole) == len(joined) and all(
            a.shape == b.shape
            and np.abs(a - b).max(initial=0) <= 1e-4 * np.abs(a).max(initial=1e-30)
            for a, b in zip(whole, joined)
        )

    def __repr__(self) -> str:
        return f"CompiledModel({type(self._model).__name__}, input_shape={self.input_shape})"


def _wrapped(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return Tensor._wrap(value)
    if isinstance(value, dict):
        return {key: _wrapped(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[_wrapped(item) for item in value])
    if isinstance(value, (list, tuple)):
        return type(value)([_wrapped(item) for item in value])
    return value


def _arrays(value: Any) -> list[np.ndarray]:
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [array for item in value for array in _arrays(item)]
    return []


def _joined(parts: list[Any]) -> Any:
    """Return the results of parts of a batch as one, in the same nesting."""
    first = parts[0]
    if isinstance(first, np.ndarray) and first.ndim:
        return np.concatenate(parts)
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*[_joined(list(items)) for items in zip(*parts)])
    if isinstance(first, (list, tuple)):
        return type(first)([_joined(list(items)) for items in zip(*parts)])
    return first


def compile(model: Module, input_shape: Sequence[int]) -> CompiledModel:
    """Return a callable for inference that computes what ``model.eval()`` does, faster.

    The model is run to see its operations. Batch norm goes into the weights of the convolution
    before it, activation, layer scale and residual into its kernel; weights are brought into the
    kernels' form once, and all maps share one arena. What is not understood, such as a module
    that works on raw arrays, runs as itself.

    Args:
        model: any module; it is left untouched, and later changes to it have no effect.
        input_shape: the largest input, batch first: ``(N, C, H, W)`` for images.

    Returns:
        A :class:`CompiledModel`; its results equal the model's to rounding, within 1e-4.

    Raises:
        TypeError: if ``model`` is no module, or ``input_shape`` no sequence of integers.
        ValueError: if a size is not positive, or the model does not accept the shape.
    """
    if not isinstance(model, Module):
        raise TypeError(f"compile: expected a Module, got {type(model).__name__}")
    shape = tuple(input_shape) if isinstance(input_shape, Sequence) else (input_shape,)
    if not shape or not all(
        isinstance(size, (int, np.integer)) and not isinstance(size, bool) for size in shape
    ):
        raise TypeError(f"compile: input_shape must be a sequence of integers, got {input_shape!r}")
    if min(shape) < 1:
        raise ValueError(f"compile: the sizes in input_shape must be positive, got {input_shape!r}")
    return CompiledModel(model, tuple(int(size) for size in shape))
