"""Models by stages: rows that open into blocks, and those into layers; as SVG and as HTML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lucid import nn
from lucid.graph import Shape
from lucid.visual._chart import (
    Chart,
    Node,
    blocks,
    contents,
    in_words,
    is_depthwise,
    kernel,
    kind,
    label,
    main_layers,
    stage_kind,
    stage_title,
    stages,
)


@dataclass
class Row:
    """The model (of which ``shape`` is the input's), a stage, a block or a layer.

    Attributes:
        where: the path of its module in the model, made unique if that runs twice.
        title: its name.
        text: what it is, or holds.
        kind: of layer, such as ``"conv"``, of that which says most.
        shape: of the output, without the batch; None where it was not run.
        params, macs: in it.
        rows: what it opens into.
    """

    where: str
    title: str
    text: str
    kind: str
    shape: Shape | None
    params: int
    macs: int
    rows: list[Row] = field(default_factory=list)

    def walk(self) -> Iterator[Row]:
        """Yield this row and all inside."""
        yield self
        for row in self.rows:
            yield from row.walk()

    @property
    def channels(self) -> int:
        """The channels of the output, 0 where there are none."""
        shape = self.shape or (0,)
        return shape[0] if len(shape) != 2 else shape[-1]  # (N, L, C)

    @property
    def side(self) -> int:
        """The width of the output as a map, 1 of anything else."""
        return self.shape[-1] if self.shape and len(self.shape) > 2 else 1


def outline(drawn: Chart) -> Row:
    """Return a model as a row of stages, of blocks, of layers; ``drawn`` shows all its layers."""
    names: set[str] = set()

    def row(node: Node, within: Row, text: str, title: str = "", colour: str = "") -> Row:
        where = node.where if node.what != "op" else f"{within.where}.{node.title}"
        unique, number = where, 2
        while unique in names:
            unique, number = f"{where}-{number}", number + 1
        names.add(unique)
        shape = node.output_shape[1:] if node.output_shape else None
        title = title or _name(node, within.where) or node.title
        return Row(unique, title, text, colour or kind(node), shape, node.params, node.macs)

    def open_block(block: Node, shown: Row) -> None:
        """Put the layers of a block into its row, and in short into its text."""
        inside = [node for node in block.walk() if node.what != "group"]
        if inside != [block]:
            for node in inside:
                text = _sources(node, block, drawn) if node.what == "op" else _layer(node)
                shown.rows.append(row(node, shown, text))

    root = drawn.root
    shape = drawn.inputs[0].output_shape if drawn.inputs else None
    whole = Row("", root.title, "", "inout", shape and shape[1:], root.params, root.macs)
    for stage in stages(root):
        text = in_words(contents(stage))
        shown = row(stage, whole, text, stage_title(stage), stage_kind(stage))
        whole.rows.append(shown)
        if (inner := blocks(stage)) == [stage]:
            open_block(stage, shown)
            continue
        for block in inner:
            details = f": {words}" if block.children and (words := _inside(block)) else ""
            shown.rows.append(row(block, shown, label(block) + details))
            open_block(block, shown.rows[-1])
    return whole


def _name(node: Node, within: str) -> str:
    return node.where.removeprefix(within).lstrip(".")


def _layer(node: Node) -> str:
    return f"{type(node.module).__name__} {_settings(node)}".rstrip()


def _settings(node: Node) -> str:
    """Return what a layer's class does not say: channels, kernel, stride."""
    layer = node.module
    if isinstance(layer, nn.Linear):
        return f"{layer.in_features} → {layer.out_features}"
    if not isinstance(layer, nn.Conv2d):
        return ""
    words = [kernel(layer)]
    words.append(
        "depthwise" if is_depthwise(layer) else f"{layer.in_channels} → {layer.out_channels}"
    )
    if layer.stride != (1, 1):
        words.append(f"stride {layer.stride[0]}")
    return ", ".join(words)


def _inside(block: Node) -> str:
    """Return what a block does in short: as it says itself, or layer by layer."""
    own = block.module.extra_repr() if block.module is not None else ""
    return own or ", ".join(map(_short_settings, main_layers(block)))


def _short_settings(node: Node) -> str:
    layer = node.module
    if isinstance(layer, nn.Linear):
        return f"→\u00a0{layer.out_features}"
    if not isinstance(layer, nn.Conv2d):
        return label(node)
    words = f"{'dw ' if is_depthwise(layer) else ''}{kernel(layer)}"
    words += "" if layer.stride == (1, 1) else f" /{layer.stride[0]}"
    words += "" if is_depthwise(layer) else f" → {layer.out_channels}"
    return words.replace(" ", "\u00a0")


def _sources(operation: Node, block: Node, drawn: Chart) -> str:
    """Return what an operation joins, by the names of the layers that it comes from."""
    names = [
        _name(edge.start, block.where) or edge.start.title
        if block in edge.start.path()
        else "the block's input"
        for edge in drawn.edges
        if edge.end is operation
    ]
    return f" {operation.title} ".join(names) if len(operation.title) == 1 else ", ".join(names)
