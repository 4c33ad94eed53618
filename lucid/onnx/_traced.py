"""A model as ONNX is to have it: its operations, and which sizes in them are those of the input.

The model runs on inputs of different sizes. What is equal in all runs is a constant; an integer
that differs is a :class:`Size`, which a file must compute from the shape of something.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lucid import ops
from lucid._compile._fuse import fold_constants
from lucid._compile._state import no_random_numbers_lost
from lucid._compile._trace import FaithfulRecorder
from lucid.autograd import Function, Tensor, no_grad
from lucid.autograd._tensor import array_of, wrap
from lucid.graph import Operation, Value, leaves
from lucid.nn import Module
from lucid.ops._dropout import Dropout

Shape = tuple[int, ...]
Array = np.ndarray


@dataclass(frozen=True)
class Size:
    """An integer that depends on the input's size: what it was in each of the runs."""

    runs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Varying:
    """Any other constant that depends on the input's size or values, as it was in each run."""

    runs: tuple[Any, ...]


@dataclass
class Traced:
    """The operations of a model and what it returns.

    Attributes:
        inputs: the values it was run on.
        operations: with a :class:`Size` or :class:`Varying` where the runs differ.
        result: what the model returns, values in the place of tensors.
        names: of parameters and buffers, by the ids of their arrays.
        shapes: of all values, by their numbers.
    """

    inputs: list[Value]
    operations: list[Operation]
    result: Any
    names: dict[int, str]
    shapes: list[tuple[int | Size, ...]] = field(repr=False)

    def shape(self, value: Value | Tensor | Array) -> tuple[int | Size, ...]:
        """Return the shape of a value, with sizes that depend on the input, or of a constant."""
        return self.shapes[value.number] if isinstance(value, Value) else value.shape


# What one can do about sizes.
FIX = "; dynamic_batch=False and dynamic_size=False leave them as they are"


class ExportError(ValueError):
    """The model does something that the file could not say; the message names the place."""


def place(path: str) -> str:
    """Return in words where in a model something is."""
    return f"in {path!r}" if path else "in the model itself"


class _Recorder(FaithfulRecorder):
    """Takes comparisons, indices and changes in place for operations as well."""

    choices = frozenset()

    def __init__(self, model: Module) -> None:
        super().__init__(model, set())
        self.readers: dict[str, str] = {}  # functions that read values, by the module they are in

    def read(self, tensor: Tensor) -> None:
        known = set(self.culprits)
        super().read(tensor)
        self.readers.update(dict.fromkeys(self.culprits - known, _running()))

    def assigned(self, tensor: Tensor, result: Tensor) -> bool:
        old, new = self.find(tensor), self.find(result)
        if old is None or new is None or self.opened is not None:
            return False
        if old in self.graph.inputs or old.dtype != new.dtype:
            return False
        array = array_of(tensor)
        for known in self.made.values():
            other = known.thing()
            if other is None or other is tensor:
                continue
            if np.may_share_memory(array_of(other), array):
                return False  # a view of it, or what it is a view of, changes too
        self.know(tensor, new)
        self.versions[id(tensor)] += 1
        return True


def _running() -> str:
    """Return in words the function of lucid that runs, as the model called it; "" if none does."""
    homes = [
        (frame.f_globals.get("__name__", ""), frame.f_code.co_name)
        for frame, _ in traceback.walk_stack(None)
    ]
    names = [name for home, name in homes if home.startswith("lucid.ops.") and hasattr(ops, name)]
    return f", in {names[-1]}" if names else ""


def trace(
    model: Module, runs: Sequence[Sequence[Array]], kept: Iterable[type[Function]] = ()
) -> Traced:
    """Run a copy of ``model`` in evaluation mode on several inputs and compare what it did.

    Args:
        model: is left as it is.
        runs: for each run the arrays of all inputs.
        kept: operations that are not computed now even where all their arguments are constant.

    Raises:
        ExportError: if the operations do not tell the whole story, or depend on sizes.
    """
    copied = copy.deepcopy(model).eval()
    graphs = []
    with no_random_numbers_lost() as were_drawn:
        for arrays in runs:
            recorder = _Recorder(copied)
            try:
                with no_grad():
                    graphs.append(recorder.run(*[wrap(array) for array in arrays]))
            except Exception as error:
                if not graphs:
                    raise
                raise ExportError(
                    "export: the model does not run on inputs of shape "
                    f"{', '.join(str(array.shape) for array in arrays)}{FIX}; its error: "
                    f"{type(error).__name__}: {error}"
                ) from error
            if recorder.culprits:
                culprit = min(recorder.culprits)
                raise ExportError(
                    f"export: {place(culprit)} values are read or changed by "
                    "something that is no operation of lucid (a comparison, a choice by value, "
                    f"NumPy, a change in place){recorder.readers.get(culprit, '')}; a file holds "
                    "operations only"
                )
        drawn = were_drawn()
    first = graphs[0]
    folded = [fold_constants(graph, kept) for graph in graphs]
    operations = []
    for same in zip(*[operations for operations, _ in folded]):
        if len({(each.kind, each.module, len(each.outputs)) for each in same}) > 1:
            raise _unlike(same[0])
        operations.append(replace(same[0], args=_merged([each.args for each in same])))
    longest = max((operations for operations, _ in folded), key=len)
    if len(longest) > min(len(operations) for operations, _ in folded):
        raise _unlike(longest[len(operations)])
    values = [[*graph.inputs, *_outputs(graph.operations)] for graph in graphs]
    arguments = [operation.args for operation in operations]
    names = {
        id(tensor.data): first.names[id(tensor)]
        for tensor in (*copied.parameters(), *copied.buffers(), *leaves(arguments, Tensor))
        if id(tensor) in first.names
    }
    shapes = [_merged([value.shape for value in same]) for same in zip(*values)]
    result = _merged([result for _, result in folded])
    if drawn and not any(operation.kind is Dropout for operation in operations):
        raise ExportError("export: the model draws random numbers; a file could not")
    return Traced(first.inputs, operations, result, names, shapes)


def _unlike(operation: Operation) -> ExportError:
    return ExportError(
        f"export: {place(operation.module)} the model does something else for inputs of another "
        f"size{FIX}"
    )


def _outputs(operations: Iterable[Operation]) -> list[Value]:
    return [value for operation in operations for value in operation.outputs]


def _merged(runs: list[Any]) -> Any:
    """Return a nested value of the first run, with :class:`Size` where another run has another."""
    first = runs[0]
    if isinstance(first, (list, tuple)) and len({len(run) for run in runs}) > 1:
        return Varying(tuple(runs))
    if isinstance(first, dict):
        return {key: _merged([run[key] for run in runs]) for key in first}
    if isinstance(first, (list, tuple)):
        inside = [_merged(list(same)) for same in zip(*runs)]
        return type(first)(*inside) if hasattr(first, "_fields") else type(first)(inside)
    if isinstance(first, Value):
        return first
    arrays = [run.data if isinstance(run, Tensor) else run for run in runs]
    if all(array is arrays[0] for array in arrays):
        return first
    if isinstance(first, (Tensor, np.ndarray)):
        return first if all(_same(array, arrays[0]) for array in arrays) else Varying(tuple(arrays))
    if isinstance(first, slice):
        return slice(*_merged([(run.start, run.stop, run.step) for run in runs]))
    if all(type(run) is type(first) and run == first for run in runs):
        return first
    whole = all(isinstance(run, (int, np.integer)) for run in runs)
    return Size(tuple(map(int, runs))) if whole else Varying(tuple(runs))


def _same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
