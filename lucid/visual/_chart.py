"""What is drawn of a model: boxes in boxes, and the edges between them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from lucid import nn
from lucid._check import is_integer
from lucid.autograd import Tensor
from lucid.graph import Call, Operation, Shape, Value, items, leaves
from lucid.nn import Module
from lucid.visual._traced import check_model, traced

DIRECTIONS = ("LR", "RL", "TB", "TD", "BT")
LEVELS = ("stage", "block", "layer")
Level = Literal["stage", "block", "layer"]
Collapse = bool | Literal["exact"]
REPEATS: dict[str, Collapse] = {"like": True, "exact": "exact", "all": False}  # as users type it

# They hold modules and say nothing by their class: they are titled by their attribute.
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
# They compute nothing: an arrow says the same.
_HIDDEN = (nn.Identity, nn.Flatten, nn.Unflatten)
_NOT_CALLED_BY_NATURE = (nn.ParameterList,)

# Where lucid defines a layer -> its kind, which is its colour.
_KINDS = {
    "_conv": "conv",
    "_batch_norm": "norm",
    "_norm": "norm",
    "_activation": "activation",
    "_pool": "pool",
    "_linear": "linear",
    "_attention": "attention",
    "_embedding": "embedding",
    "_dropout": "dropout",
}

# The kinds that make a block what it is, those that say most first.
_MAIN = ("attention", "conv", "linear", "embedding")
_TELLING = ("attention", "block", *_MAIN[1:], "pool")

# Operations that join two flows, as they are written.
_SYMBOLS = {"Add": "+", "Sub": "-", "Mul": "×", "Div": "÷", "MatMul": "matmul", "Cat": "cat"}


@dataclass(eq=False)
class Node:
    """A box, a group of boxes, an operation, or an end of the model.

    Attributes:
        title: what stands on it, without the count.
        parent: the group it is in.
        what: ``"group"``, ``"box"``, ``"op"`` (an operation that joins flows), ``"unused"`` (a
            module that was not called), ``"input"``, ``"output"``, or the ends ``"first"`` and
            ``"last"`` of a group that stands for several.
        kind: of layer, such as ``"conv"``; empty for others.
        count: how many in a row it stands for.
        id: unique in the chart.
        note: what stands below the title.
        where: the path of its module in the model.
        params: parameter elements in it that no earlier node has counted.
        macs: multiply-adds in it.
    """

    title: str
    parent: Node | None
    what: str
    module: Module | None = None
    kind: str = ""
    input_shape: Shape | None = None
    output_shape: Shape | None = None
    children: list[Node] = field(default_factory=list)
    count: int = 1
    id: str = ""
    run: list[Node] = field(default_factory=list)  # those in a row that the first stands for
    ends: tuple[Node, Node] | None = None  # "first" and "last"
    level: int = 0
    name: str = ""  # the attribute
    note: str = ""
    where: str = ""
    params: int = 0
    macs: int = 0

    def path(self) -> list[Node]:
        """Return the groups that this node is in, the outermost first, and the node itself."""
        return [*([] if self.parent is None else self.parent.path()), self]

    def walk(self) -> Iterator[Node]:
        """Yield this node and all inside."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Edge:
    """An arrow.

    Attributes:
        style: ``"solid"``: data flow; ``"dotted"``: back to the first end of a repeated group,
            or past it; ``"hidden"``: only order.
    """

    start: Node
    end: Node
    style: str = "solid"
    label: str = ""


@dataclass
class Chart:
    """A model as boxes and edges."""

    root: Node
    inputs: list[Node]
    outputs: list[Node]
    edges: list[Edge]


def chart(
    who: str,
    model: Module,
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None,
    depth: int | None,
    collapse_repeats: Collapse,
    direction: str | None,
    title: str | None,
    dtype: DTypeLike,
    level: str = "layer",
) -> Chart:
    """Run ``model`` if there is a shape to run it on, and return what is to be drawn.

    Its arguments are those of :func:`lucid.visual.mermaid`, and so are its errors.
    """
    check_model(model, who)
    if depth is not None and not is_integer(depth, 1):
        raise ValueError(f"{who}: depth must be an integer of at least 1 or None, got {depth!r}")
    if collapse_repeats not in (True, False, "exact"):
        raise ValueError(
            f"{who}: collapse_repeats must be True, False or 'exact', got {collapse_repeats!r}"
        )
    if direction is not None and direction not in DIRECTIONS:
        raise ValueError(f"{who}: direction must be one of {DIRECTIONS}, got {direction!r}")
    if level not in LEVELS:
        raise ValueError(f"{who}: level must be one of {LEVELS}, got {level!r}")
    if title is not None and not isinstance(title, str):
        raise TypeError(f"{who}: title must be a string, got {type(title).__name__}")
    if level != "layer":
        depth = None
    builder = _Builder(model, depth, title or _own_name(model))
    if input_shape is None:
        builder.structure()
    else:
        graph = traced(model, input_shape, dtype, who)
        for index, value in enumerate(graph.inputs):
            label = _numbered("Input", str(index), len(graph.inputs))
            node = Node(label, None, "input", output_shape=value.shape)
            builder.inputs.append(node)
            builder.made[value] = node
        builder.flow(graph.root)
        tensors = [pair for pair in items(graph.result) if isinstance(pair[1], (Value, Tensor))]
        for key, leaf in tensors:
            label = _numbered("Output", key, len(tensors))
            node = Node(label, None, "output", input_shape=leaf.shape)
            builder.outputs.append(node)
            if isinstance(leaf, Value) and leaf in builder.made:
                builder.connect(builder.made[leaf], node)
        builder.prune()
    _count(builder.root, set())
    edges, groups = builder.edges, [builder.root]
    if level != "layer":
        groups = stages(builder.root)
        edges = _close(builder.root, groups, edges, level)
    if collapse_repeats and level != "stage":
        known = input_shape is not None
        for group in groups:
            _collapse(group, list(edges), exact=collapse_repeats == "exact", flow=known)
        edges = _redirect(builder.root, edges, flow=known)
    drawn = Chart(builder.root, builder.inputs, builder.outputs, list(edges))
    _number(drawn)
    return drawn


def layers_of(
    who: str,
    model: Module,
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None,
    title: str | None = None,
    dtype: DTypeLike = np.float32,
) -> Chart:
    """Return a model with every layer, none collapsed: its stages and blocks are taken from it."""
    return chart(who, model, input_shape, None, False, None, title, dtype)


def _own_name(model: Module) -> str:
    name = getattr(model, "name", None)
    return name if isinstance(name, str) and name else type(model).__name__


def _numbered(title: str, key: str, count: int) -> str:
    return title if count == 1 else f"{title} {key}"


def _number(drawn: Chart) -> None:
    for index, node in enumerate(drawn.root.walk()):
        node.id = f"m{index}"
        if node.ends is not None:
            node.ends[0].id, node.ends[1].id = f"m{index}_in", f"m{index}_out"
    for name, nodes in (("input", drawn.inputs), ("output", drawn.outputs)):
        for index, node in enumerate(nodes):
            node.id = _numbered(name, str(index), len(nodes)).replace(" ", "")


# -- boxes and edges --------------------------------------------------------------------------


class _Builder:
    """Places every call in its box, and draws an edge wherever data go from box to box."""

    def __init__(self, model: Module, depth: int | None, title: str) -> None:
        self._depth = depth
        self._names = {id(module): name for name, module in model.named_modules()}
        self._below: dict[int, dict[int, str]] = {}  # module -> paths of the modules inside
        self._called: set[int] = set()
        self._home: dict[int, Node] = {}  # module -> its first node
        self.inputs: list[Node] = []
        self.outputs: list[Node] = []
        self.edges: dict[Edge, None] = {}  # in order, once each
        self.made: dict[Value, Node] = {}
        self.root = Node(title, None, "group", model, level=0)

    def connect(self, start: Node, end: Node, style: str = "solid") -> None:
        if start is not end:
            self.edges[Edge(start, end, style)] = None

    # -- what was run

    def flow(self, root: Call) -> None:
        """Draw a run of the model."""
        self.root.input_shape, self.root.output_shape = root.input_shape, root.output_shape
        self._home[id(root.module)] = self.root
        if not self._opens(self.root, root):
            self.root.what = "box"
            self.root.kind = _kind(root.module)
        self._walk(root, self.root)
        self._add_uncalled(root.module)

    def _opens(self, node: Node, call: Call) -> bool:
        return self._may_open(node) and any(
            not isinstance(part.module, _HIDDEN) for part in call.calls
        )

    def _may_open(self, node: Node) -> bool:
        """Whether the inside of ``node`` is shown: not of lucid's own layers, nor too deep."""
        kind = type(node.module)
        own_layer = kind.__module__.startswith("lucid.nn.") and kind not in _CONTAINERS
        return not own_layer and (self._depth is None or node.level < self._depth)

    def _walk(self, call: Call, node: Node) -> None:
        """Go through ``call``, which is drawn in ``node``."""
        self._called.add(id(call.module))
        node.macs += call.macs
        if node.what == "box" and node.module is call.module:
            # Not all that goes into a layer goes into an operation that is seen: indices, say.
            for value in call.inputs:
                if value in self.made:
                    self.connect(self.made[value], node)
        groups: dict[str, Node] = {"": node}
        for part in call.parts:
            if isinstance(part, Operation):
                self._step(part, node)
            elif node.what == "box" or isinstance(part.module, _HIDDEN):
                self._walk(part, node)
            else:
                self._walk(part, self._place(part, call, groups))

    def _place(self, part: Call, call: Call, groups: dict[str, Node]) -> Node:
        """Return the node of a call within ``call``.

        Modules between the two that were not called themselves (a ModuleList, say) are groups
        around it.
        """
        path = self._paths(call.module).get(id(part.module))
        if path is None:  # it is registered elsewhere
            path = self._names.get(id(part.module), "").rpartition(".")[2]
        pieces = path.split(".")
        outer = groups[""]
        for position in range(1, len(pieces)):
            prefix = ".".join(pieces[:position])
            if prefix not in groups:
                module = call.module.get_submodule(prefix)
                self._called.add(id(module))
                group = self._node(module, pieces[position - 1], outer)
                if self._may_open(group):
                    group.what, group.title = "group", _title(module, pieces[position - 1])
                groups[prefix] = group
            outer = groups[prefix]
            if outer.what == "box":
                return outer
        node = self._node(part.module, pieces[-1], outer)
        node.input_shape, node.output_shape = part.input_shape, part.output_shape
        if self._opens(node, part):
            node.what, node.title = "group", _title(part.module, pieces[-1])
        return node

    def _node(self, module: Module, name: str, outer: Node, what: str = "box") -> Node:
        node = Node(type(module).__name__, outer, what, module, _kind(module))
        node.level, node.name = outer.level + 1, name
        node.where = f"{outer.where}.{name}" if outer.where else name
        outer.children.append(node)
        self._home.setdefault(id(module), node)
        return node

    def _paths(self, module: Module) -> dict[int, str]:
        if id(module) not in self._below:
            self._below[id(module)] = {id(m): name for name, m in module.named_modules() if name}
        return self._below[id(module)]

    def _step(self, operation: Operation, node: Node) -> None:
        """Follow the data through one operation, which ran in ``node``."""
        values = leaves(operation.args, Value)
        sources = list(dict.fromkeys(self.made[value] for value in values if value in self.made))
        if node.what == "box":
            target = node
        elif len(sources) == 1:  # an arrow goes through it
            target = sources[0]
        elif sources:
            target = Node(_SYMBOLS.get(operation.name, operation.name.lower()), node, "op")
            target.macs, target.output_shape = operation.macs, operation.outputs[0].shape
            node.children.append(target)
        else:
            return
        self.made.update(dict.fromkeys(operation.outputs, target))
        for source in sources:
            self.connect(source, target)

    def _add_uncalled(self, model: Module) -> None:
        """Draw the modules that were not called beside what was, each once, closed."""
        inside: list[str] = []  # what is below a module drawn here
        for path, module in model.named_modules():
            parent, _, name = path.rpartition(".")
            home = self._home.get(id(model.get_submodule(parent))) if path else None
            if id(module) in self._called or home is None or home.what != "group":
                continue
            if isinstance(module, (*_HIDDEN, *_NOT_CALLED_BY_NATURE)):
                continue
            if any(path.startswith(above + ".") for above in inside):
                continue
            if not any(id(m) in self._called for m in module.modules()):
                if isinstance(module, _CONTAINERS) and not any(module.children()):
                    continue
                self._node(module, name, home, "unused")
                inside.append(path)

    def prune(self) -> None:
        """Take out operations whose result nothing uses."""
        while True:
            used = {edge.start for edge in self.edges}
            dead = {n for n in self.root.walk() if n.what == "op" and n not in used}
            if not dead:
                return
            for node in dead:
                assert node.parent is not None
                node.parent.children.remove(node)
            self.edges = {edge: None for edge in self.edges if edge.end not in dead}

    # -- what is there

    def structure(self) -> None:
        """Draw the modules as they are registered, and in what order where that is certain."""
        assert self.root.module is not None
        if not self._place_children(self.root, {id(self.root.module)}):
            self.root.what, self.root.kind = "box", _kind(self.root.module)

    def _place_children(self, node: Node, above: set[int]) -> bool:
        """Draw the modules inside ``node``; return whether there are any."""
        assert node.module is not None
        if not self._may_open(node):
            return False
        for name, module in node.module._own("module"):
            if module is None or id(module) in above or isinstance(module, _HIDDEN):
                continue
            child = self._node(module, name, node)
            if self._place_children(child, above | {id(module)}):
                child.what, child.title = "group", _title(module, name)
        in_a_row = type(node.module).forward is nn.Sequential.forward
        for start, end in zip(node.children, node.children[1:]):
            self.connect(start, end, "solid" if in_a_row else "hidden")
        return bool(node.children)


def _title(module: Module, name: str) -> str:
    """Return the title of a group: its attribute if it is a mere container, else its class."""
    return name if type(module) in _CONTAINERS and not name.isdigit() else type(module).__name__


def _kind(module: Module) -> str:
    for cls in type(module).__mro__:
        package, _, file = cls.__module__.rpartition(".")
        if package in ("lucid.nn.modules", "lucid.models") and file in _KINDS:
            return _KINDS[file]
    return ""


def _count(node: Node, counted: set[int]) -> None:
    """Add up multiply-adds and parameters over what is inside, each parameter once."""
    assert node.module is not None
    for child in node.children:
        if child.what != "op":  # those are among the group's own
            _count(child, counted)
            node.macs += child.macs
            node.params += child.params
    for parameter in node.module.parameters():
        if id(parameter) not in counted:
            counted.add(id(parameter))
            node.params += parameter.data.size


# -- levels -----------------------------------------------------------------------------------


def stages(root: Node) -> list[Node]:
    """Return the stages of a model: what is directly in it.

    A container of stages, such as a ``Sequential`` of ``Sequential`` of blocks, is replaced by
    what is in it; so is a module that is alone.
    """
    found: list[Node] = []
    for child in root.children:
        if child.what != "op":
            found += stages(child) if _holds_stages(child) else [child]
    alone = len(found) == 1 and found[0].what == "group"
    return stages(found[0]) if alone else found or [root]


def _holds_stages(node: Node) -> bool:
    return any(
        _is_container(node)
        and _is_container(inner)
        and any(n.what == "group" for n in inner.children)
        for inner in node.children
    )


def _is_container(node: Node) -> bool:
    return node.what == "group" and isinstance(node.module, _CONTAINERS)


def stage_title(stage: Node) -> str:
    """Return how a stage is called: as its module says in ``diagram_label``, or its path."""
    return getattr(stage.module, "diagram_label", None) or stage.where or stage.title


def main_layers(node: Node) -> list[Node]:
    """Return the layers in ``node`` that hold most of its weights: no norm, no activation."""
    return [n for n in node.walk() if n.what == "box" and n.kind in _MAIN]


def label(node: Node) -> str:
    """Return what a block or a layer is: what it says itself, its only main layer, or its class."""
    own = getattr(node.module, "diagram_label", None)
    if isinstance(own, str):
        return own
    main = main_layers(node)
    if _is_container(node) and len(main) == 1:
        return label(main[0])
    name = type(node.module).__name__.lstrip("_") if node.module is not None else node.title
    if isinstance(node.module, nn.Conv2d):
        return f"{'Depthwise' if is_depthwise(node.module) else 'Conv'} {kernel(node.module)}"
    return name


def kernel(conv: nn.Conv2d) -> str:
    """Return the size of a kernel, such as ``3×3``."""
    return "×".join(map(str, conv.kernel_size))


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether each channel is filtered by itself."""
    return conv.groups == conv.in_channels > 1


def kind(node: Node) -> str:
    """Return the kind of a block or a layer, which is its colour."""
    if any("Attention" in type(inner.module).__name__ for inner in node.walk()):
        return "attention"
    main = main_layers(node)
    if len(main) > 1:
        return "block"
    inside = [inner.kind for inner in node.walk() if inner.what == "box"]
    return main[0].kind if main else next((k for k in inside if k), node.kind)


def stage_kind(stage: Node) -> str:
    """Return the kind of those blocks in a stage that say most."""
    kinds = [kind(block) for block in blocks(stage)]
    return min(kinds, key=lambda k: _TELLING.index(k) if k in _TELLING else len(_TELLING))


def contents(stage: Node) -> list[tuple[str, int]]:
    """Return the kinds of blocks in a stage and how many there are of each."""
    return list(Counter(label(block) for block in blocks(stage)).items())


def blocks(stage: Node) -> list[Node]:
    """Return the blocks of a stage; a layer is its own."""
    inside = [node for node in stage.children if node.what != "op"]
    # A stage of layers alone is one block.
    return inside if any(node.what == "group" for node in inside) else [stage]


def in_words(counts: Sequence[tuple[str, int]]) -> str:
    """Return kinds and counts, such as ``2 × UIB ExtraDW, MQA``."""
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in counts)


def _close(root: Node, found: list[Node], edges: dict[Edge, None], level: str) -> dict[Edge, None]:
    """Make boxes of the stages or of their blocks, and return the edges between those.

    What the stages were in is not drawn.
    """
    if found == [root]:
        return edges
    ends: dict[Node, tuple[Node, Node]] = {}  # where an edge to a node, and from it, goes now
    shown = list(_shown(root, found))
    for node in root.walk():
        inside = [stage for stage in found if node in stage.path()]
        if inside and node not in found:
            ends[node] = inside[0], inside[-1]
    for stage in found:
        title, text = stage_title(stage), in_words(contents(stage))
        inner = blocks(stage)
        if level == "stage" or inner == [stage]:
            stage.kind = stage_kind(stage)
            _to_box(stage, title, text if text != title else "", ends)
        else:
            for block in inner:
                block.kind = kind(block)
                _to_box(block, label(block), "", ends)
            stage.title = title
        stage.parent = root
    for node in shown:
        node.parent = root
    root.children = shown
    moved = (
        Edge(ends.get(e.start, (e.start,))[-1], ends.get(e.end, (e.end,))[0], e.style, e.label)
        for e in edges
    )
    return {edge: None for edge in moved if edge.start is not edge.end}


def _shown(group: Node, found: list[Node]) -> Iterator[Node]:
    """Yield the stages, and the operations between them."""
    for child in group.children:
        if child in found or child.what == "op":
            yield child
        else:
            yield from _shown(child, found)


def _to_box(node: Node, title: str, note: str, ends: dict[Node, tuple[Node, Node]]) -> None:
    for inner in node.walk():
        if inner is not node:
            ends[inner] = node, node
    node.title, node.note, node.children = title, note, []
    if node.what == "group":
        node.what = "box"


# -- repeats ----------------------------------------------------------------------------------


def _collapse(group: Node, edges: Sequence[Edge], *, exact: bool, flow: bool) -> None:
    """Find the runs of like siblings that feed only each other; mark the first of each."""
    runs: list[list[Node]] = []
    for child in group.children:
        like = runs and _likeness(runs[-1][0], exact) == _likeness(child, exact)
        if (
            like
            and child.what in ("box", "group")
            and (not flow or _only_feeds(runs[-1][-1], child, edges))
        ):
            runs[-1].append(child)
        else:
            runs.append([child])
    for run in runs:
        first = run[0]
        if len(run) > 1:
            first.count, first.run = len(run), run
            if flow and first.what == "group":
                first.ends = (Node("Input", first, "first"), Node("Output", first, "last"))
        _collapse(first, edges, exact=exact, flow=flow)


def _likeness(node: Node, exact: bool) -> object:
    """Return what two nodes have in common if they may stand for each other.

    The same title but for a number at its end, the same class, and the same run of titles one
    level further in. Layers must have the same settings and shapes. ``exact`` asks that of
    everything inside. The model's direct children must have alike names too.
    """
    name = _stem(node.name) if node.level == 1 else ""
    what = (node.what, node.module.__class__, _stem(node.title), name)
    if node.what == "box" and (exact or not any(node.module.children() if node.module else ())):
        return (*what, repr(node.module), node.input_shape, node.output_shape)
    if exact:
        shapes = (node.input_shape, node.output_shape)
        return (*what, shapes, tuple(_likeness(child, exact) for child in node.children))
    inside = [
        (child.module.__class__, _stem(child.title))
        for child in node.children
        if child.what != "op"
    ]
    return (*what, tuple(x for i, x in enumerate(inside) if i == 0 or inside[i - 1] != x))


def _stem(title: str) -> str:
    return re.sub(r"_?\d+$", "", title)


def _only_feeds(node: Node, following: Node, edges: Sequence[Edge]) -> bool:
    """Whether all that leaves ``node`` goes into ``following``, which takes nothing else."""
    inside, next_inside = set(node.walk()), set(following.walk())
    between = False
    for edge in edges:
        leaves = edge.start in inside and edge.end not in inside
        enters = edge.end in next_inside and edge.start not in next_inside
        if leaves != enters:
            return False
        between = between or leaves
    return between


def _redirect(root: Node, edges: dict[Edge, None], *, flow: bool) -> dict[Edge, None]:
    """Drop what is in the hidden members of runs; return the edges between what is left."""
    first_of = {node: run.run[0] for run in root.walk() for node in run.run}
    kept: dict[Edge, None] = {}

    def draw(start: Node, end: Node, style: str = "solid", label: str = "") -> None:
        if start is not end:
            kept[Edge(start, end, style, label)] = None

    def leave(path: list[Node]) -> Node:
        """Return where an edge starts that leaves what is along ``path``, outermost first."""
        for node in path:
            if first_of.get(node, node) is not node:
                first = first_of[node]
                return first if first.ends is None else first.ends[1]
        return path[-1]

    def enter(path: list[Node]) -> Node:
        """Return where an edge ends that enters ``path``; go on inside, from first end to first."""
        for position, node in enumerate(path):
            if node.ends is not None:
                draw(node.ends[0], enter(path[position + 1 :]))
                return node.ends[0]
        return path[-1]

    for edge in edges:
        above_start, above_end = edge.start.path(), edge.end.path()
        common = shared(above_start, above_end)
        if any(first_of.get(node, node) is not node for node in above_start[:common]):
            continue  # within one that is not drawn
        out, into = above_start[common:], above_end[common:]
        run = first_of.get(out[0])
        if run is not None and run is first_of.get(into[0]):
            if out[0] is run and run.ends is not None:  # from the first to the second
                draw(leave(out[1:]), run.ends[1])
        else:
            draw(leave(out), enter(into), edge.style)
    for node in root.walk():
        if node.ends is not None:
            draw(node.ends[1], node.ends[0], "dotted")
            if not _has_residual(node, edges):
                residual = sum(_has_residual(member, edges) for member in node.run)
                if residual:
                    label = f"residual in {residual} of {node.count}"
                    draw(node.ends[0], node.ends[1], "dotted", label)
    for node in list(root.walk()):
        node.children = [c for c in node.children if first_of.get(c, c) is c]
    return kept


def shared(path: Sequence[Node], other: Sequence[Node]) -> int:
    """Return how many nodes two paths have in common before they part."""
    both = zip(path, other)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] is pair[1], both))


def _has_residual(node: Node, edges: dict[Edge, None]) -> bool:
    """Whether an addition directly in ``node`` takes something from outside of it."""
    inside = set(node.walk())
    return any(
        edge.end.parent is node and edge.end.title == "+" and edge.start not in inside
        for edge in edges
    )
