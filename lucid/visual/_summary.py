"""The layers of a model in the order they run: shapes, parameters, multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lucid.autograd import Tensor, no_grad
from lucid.nn import Module
from lucid.nn._evaluation import evaluation
from lucid.visual._macs import Shape, count_macs


@dataclass(frozen=True)
class LayerSummary:
    """One call of one layer.

    Attributes:
        name: the path of the module in the model, as in ``named_modules()``.
        kind: the name of its class.
        input_shape: the shape of its first tensor argument, None if it was not called.
        output_shape: the shape of its (first) result, None if it was not called.
        params: parameter elements that no earlier record has counted.
        macs: multiply-adds of this call.
    """

    name: str
    kind: str
    input_shape: Shape | None
    output_shape: Shape | None
    params: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """What :func:`summary` found out; ``print`` shows it as a table.

    Attributes:
        name: the class of the model.
        input_shapes: the shapes it was run on.
        layers: its parts in the order they ran. They do not overlap: parameters and
            multiply-adds add up to the totals.
        total_params: elements of all parameters, each parameter counted once.
        trainable_params: those that require grad.
        total_macs: multiply-adds of one pass over an input of that shape.
    """

    name: str
    input_shapes: tuple[Shape, ...]
    layers: list[LayerSummary]
    total_params: int
    trainable_params: int
    total_macs: int

    @property
    def total_activations(self) -> int:
        """Elements of all the layers' outputs; in float32 four times as many bytes.

        ``Identity`` and ``Flatten`` return their input and count as nothing.
        """
        return sum(
            math.prod(layer.output_shape)
            for layer in self.layers
            if layer.output_shape is not None and layer.kind not in ("Identity", "Flatten")
        )

    def __str__(self) -> str:
        header = ("layer", "kind", "output shape", "parameters", "multiply-adds")
        rows = [
            (
                layer.name or "(itself)",
                layer.kind,
                "not called" if layer.output_shape is None else str(layer.output_shape),
                f"{layer.params:,}",
                f"{layer.macs:,}",
            )
            for layer in self.layers
        ]
        total = ("total", "", "", f"{self.total_params:,}", f"{self.total_macs:,}")
        lines = table([header, *rows, total], left=3).splitlines()
        rule = "-" * max(len(line) for line in lines)
        title = f"{self.name}, input {', '.join(str(shape) for shape in self.input_shapes)}"
        frozen = self.total_params - self.trainable_params
        footer = [f"{frozen:,} of the parameters are frozen"] if frozen else []
        return "\n".join([title, rule, lines[0], rule, *lines[1:-1], rule, lines[-1], *footer])

    __repr__ = __str__


def table(rows: Sequence[Sequence[str]], left: int) -> str:
    """Return ``rows`` as aligned columns, the first ``left`` of them to the left."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    )


def summary(
    model: Module,
    input_shape: Sequence[int] | Sequence[Sequence[int]],
    *,
    depth: int | None = None,
    dtype: DTypeLike = np.float32,
) -> Summary:
    """Run ``model`` once on zeros and return its layers, parameters and multiply-adds.

    The pass runs in evaluation mode and records nothing; the model comes back as it was, its
    training flags, buffers and hooks included.

    Args:
        model: any module.
        input_shape: the shape of the input, batch included, such as ``(1, 3, 224, 224)``; a
            list of shapes for a model of several inputs.
        depth: show containers at this depth as one row with the sums of what is inside; 1 shows
            the model's direct children, None every layer.
        dtype: of the zeros: an integer type for models that begin with an embedding.

    Returns:
        A :class:`Summary`. A module that runs twice has two records; its parameters are counted
        in the first one. Multiply-adds are those of convolutions, linear layers and attention
        (one multiplication and one addition count as one); a module with products of its own
        adds them by a method ``macs(input_shapes, output_shape) -> int``.

    Raises:
        TypeError: if ``model`` is no module or ``input_shape`` holds no integers.
        ValueError: if a size is negative, ``depth`` is not positive, or the model does not
            accept the shape.
    """
    if not isinstance(model, Module):
        raise TypeError(f"summary: expected a lucid.nn.Module, got {type(model).__name__}")
    if depth is not None and depth < 1:
        raise ValueError(f"summary: depth must be at least 1 or None, got {depth}")
    shapes = _shapes(input_shape)
    recorder = _Recorder(model, depth)
    try:
        with evaluation(model), no_grad():
            model(*(Tensor(np.zeros(shape, dtype), dtype=dtype) for shape in shapes))
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        given = ", ".join(str(shape) for shape in shapes)
        message = f"summary: {type(model).__name__} does not run on an input of shape {given}: "
        raise ValueError(message + str(error)) from error
    finally:
        recorder.remove()
    parameters = list(model.parameters())
    layers = recorder.records()
    return Summary(
        name=type(model).__name__,
        input_shapes=shapes,
        layers=layers,
        total_params=sum(p.data.size for p in parameters),
        trainable_params=sum(p.data.size for p in parameters if p.requires_grad),
        total_macs=sum(layer.macs for layer in layers),
    )


class _Call:
    """One call of a module while the model runs."""

    def __init__(self, module: Module, inputs: tuple[Shape, ...]) -> None:
        self.module = module
        self.inputs = inputs
        self.output: Shape | None = None
        self.macs = 0
        self.children: list[_Call] = []


class _Recorder:
    """Builds the tree of calls by hooks on every module, and flattens it into records."""

    def __init__(self, model: Module, depth: int | None) -> None:
        self._model = model
        self._depth = depth
        self._names = {module: name for name, module in model.named_modules()}
        self._root = _Call(model, ())
        self._open = [self._root]
        self._counted: set[int] = set()
        self._handles: list[Any] = []
        for module in self._names:
            self._handles += [
                module.register_forward_pre_hook(self._enter, with_kwargs=True),
                module.register_forward_hook(self._leave),
            ]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        call = _Call(module, tuple(value.shape for value in inputs))
        self._open[-1].children.append(call)
        self._open.append(call)

    def _leave(self, module: Module, args: tuple[Any, ...], output: Any) -> None:
        call = self._open.pop()
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        call.output = first.shape if isinstance(first, Tensor) else None
        if call.output is not None:
            call.macs = count_macs(module, call.inputs, call.output)

    def records(self) -> list[LayerSummary]:
        """Return the calls as records that do not overlap; then the modules never called."""
        records: list[LayerSummary] = []
        for call in self._root.children:
            self._flatten(call, 0, records)
        called = set(_modules(self._root))
        for module, name in self._names.items():
            if module not in called:
                params = self._count(module.parameters(recurse=False))
                if params:
                    records.append(LayerSummary(name, type(module).__name__, None, None, params, 0))
        return records

    def _flatten(self, call: _Call, level: int, records: list[LayerSummary]) -> None:
        folded = level == self._depth
        if folded:
            params = self._count(p for module in _modules(call) for p in _own(module))
            macs = _total_macs(call)
        else:
            params, macs = self._count(_own(call.module)), call.macs
        # A container appears only for what is its own.
        if folded or not call.children or params or macs:
            records.append(
                LayerSummary(
                    name=self._names[call.module],
                    kind=type(call.module).__name__,
                    input_shape=call.inputs[0] if call.inputs else None,
                    output_shape=call.output,
                    params=params,
                    macs=macs,
                )
            )
        if not folded:
            for child in call.children:
                self._flatten(child, level + 1, records)

    def _count(self, parameters: Any) -> int:
        """Return the elements of the parameters not counted before."""
        new = {id(p): p for p in parameters if id(p) not in self._counted}
        self._counted.update(new)
        return sum(p.data.size for p in new.values())


def _own(module: Module) -> Any:
    return module.parameters(recurse=False)


def _modules(call: _Call) -> list[Module]:
    return [call.module, *(module for child in call.children for module in _modules(child))]


def _total_macs(call: _Call) -> int:
    return call.macs + sum(_total_macs(child) for child in call.children)


def _shapes(value: Any, who: str = "summary") -> tuple[Shape, ...]:
    """Return one shape, or a list of shapes, as a tuple of shapes."""
    try:
        several = len(value) > 0 and all(not isinstance(v, (int, np.integer)) for v in value)
        shapes = tuple(tuple(shape) for shape in (value if several else [value]))
    except TypeError:
        shapes = ((None,),)
    for size in (size for shape in shapes for size in shape):
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
            raise TypeError(
                f"{who}: input_shape must be a tuple of integers such as (1, 3, 224, 224), "
                f"or a list of such tuples, got {value!r}"
            )
        if size < 0:
            raise ValueError(f"{who}: input_shape has a negative size: {value!r}")
    return tuple(tuple(int(size) for size in shape) for shape in shapes)
