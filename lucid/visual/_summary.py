"""The layers of a model in the order they run: shapes, parameters, multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from lucid.graph import Call, Shape
from lucid.nn import Module
from lucid.visual._traced import check_model, traced

# Name, kind, output shape, parameters, multiply-adds.
Row = tuple[str, str, str, str, str]


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

    def rows(self) -> tuple[list[Row], Row]:
        """Return the layers as the rows of a table, and the row of their sums."""
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
        return rows, ("total", "", "", f"{self.total_params:,}", f"{self.total_macs:,}")

    def __str__(self) -> str:
        header = ("layer", "kind", "output shape", "parameters", "multiply-adds")
        rows, total = self.rows()
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

    Example:
        >>> info = visual.summary(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (2, 4))
        >>> info.total_params, info.total_macs
        (15, 24)
        >>> [layer.output_shape for layer in info.layers]
        [(2, 3), (2, 3)]
    """
    check_model(model, "summary")
    if depth is not None and depth < 1:
        raise ValueError(f"summary: depth must be at least 1 or None, got {depth}")
    graph = traced(model, input_shape, dtype, "summary")
    parameters = list(model.parameters())
    layers = list(_layers(model, graph.root, depth))
    return Summary(
        name=type(model).__name__,
        input_shapes=tuple(value.shape for value in graph.inputs),
        layers=layers,
        total_params=sum(p.data.size for p in parameters),
        trainable_params=sum(p.data.size for p in parameters if p.requires_grad),
        total_macs=sum(layer.macs for layer in layers),
    )


def _layers(model: Module, root: Call, depth: int | None) -> Iterator[LayerSummary]:
    """Yield the calls as records that do not overlap; then the modules never called."""
    counted: set[int] = set()

    def count(modules: Iterable[Module]) -> int:
        """Return the elements of the modules' own parameters not counted before."""
        own = (p for module in modules for p in module.parameters(recurse=False))
        new = {id(p): p for p in own if id(p) not in counted}
        counted.update(new)
        return sum(p.data.size for p in new.values())

    def records(call: Call, level: int) -> Iterator[LayerSummary]:
        folded = level == depth
        shown = list(call.walk()) if folded else [call]
        params = count(each.module for each in shown)
        macs = sum(each.macs for each in shown)
        # A container appears only for what is its own.
        if folded or not call.calls or params or macs:
            kind = type(call.module).__name__
            before, after = call.input_shape, call.output_shape
            yield LayerSummary(call.name, kind, before, after, params, macs)
        if not folded:
            for inner in call.calls:
                yield from records(inner, level + 1)

    yield from records(root, 0)
    called = {call.module for call in root.walk()}
    for name, module in model.named_modules():
        if module not in called and (params := count([module])):
            yield LayerSummary(name, type(module).__name__, None, None, params, 0)
