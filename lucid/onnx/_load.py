"""From an ONNX file to a module."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from lucid import _random
from lucid._files._common import PathLike
from lucid.nn import Module, Parameter
from lucid.onnx._describe import description
from lucid.onnx._imported import ImportedModel, Step, as_parameter_data, compute
from lucid.onnx._operators import OPERATORS, ROUNDED, Weight
from lucid.onnx._read import Model, Node, UnsupportedError, read

_MOST_MADE = 1 << 22  # elements that constants may become ahead, beside those in the file
_DEEPEST = 16  # names with more parts become one part
_ENDINGS = ("weight", "bias", "running_mean", "running_var")


def load(path: PathLike) -> ImportedModel:
    """Read an ONNX file as a module: it evaluates, compiles, prints and learns as any other.

    Args:
        path: the file, of any opset from 7 on. Tensors beside it are read from its folder alone.

    Returns:
        The module in evaluation mode. Its layers bear the names that their weights have in the
        file; ``train()`` makes batch norms and dropouts those of training again. Numbers in the
        file that are no settings are parameters, constants such as a fixed table among them: the
        file does not tell what was learned.

    Raises:
        ImportError: if the package onnx is not installed.
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged; or if it asks for what lucid does not compute: then all such
            operators are named with their nodes, before anything is built.

    Example:
        >>> net = lucid.onnx.load("net.onnx")  # doctest: +SKIP
        >>> net(lucid.zeros(1, 3, 224, 224)).shape  # doctest: +SKIP
        (1, 1000)
    """
    who = "onnx.load"
    model = read(path, who)
    state = _random.generator().bit_generator.state  # layers draw weights, which are replaced
    try:
        return _Builder(model).build()
    except UnsupportedError as error:
        raise UnsupportedError(f"{who}: {path}: {error}") from error
    except Exception as error:  # what damage leads to depends on where it is
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{who}: {path} is no sound ONNX model: {reason:.500}") from error
    finally:
        _random.generator().bit_generator.state = state


def _check_operators(nodes: Iterable[Node]) -> None:
    unknown = [node for node in nodes if node.kind not in OPERATORS]
    if unknown:
        shown = ", ".join(str(node) for node in unknown[:20])
        more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
        raise UnsupportedError(f"lucid does not compute: {shown}{more}")
    for node in nodes:
        OPERATORS[node.kind].check(node)


class _Builder:
    """Builds the module of one file."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.constants = dict(model.constants)
        # Numbers along an axis are taken for learned; those without are factors and the like.
        self.learned = {
            name for name, value in self.constants.items() if value.ndim and value.dtype.kind == "f"
        }
        self.whole = {
            each.name for each in model.inputs if each.dtype is not None and each.dtype.kind != "f"
        }
        self.made = 0
        self.result = ImportedModel(model.inputs, model.outputs, model.metadata, model.opset)
        self.parameters: dict[str, Parameter] = {}  # by the names of weights
        self.ranks = {
            each.name: None if each.shape is None else len(each.shape) for each in model.inputs
        }

    def build(self) -> ImportedModel:
        nodes = _needed(self.model.nodes, self.model.outputs)
        _check_operators(nodes)
        self.round_weights(nodes)
        nodes = self.with_rounding([node for node in nodes if not self.fold(node)])
        nodes = self.with_biases(_needed(nodes, self.model.outputs))
        uses = Counter(name for node in nodes for name in node.inputs)
        uses.update(self.model.outputs)
        steps: list[Step] = []
        for node in nodes:
            layer = self.layer(node)
            if layer is not None:
                node = Node(node.kind, node.name, node.inputs[:1], node.outputs[:1], {}, node.opset)
            self.take_constants(node)
            steps.append(Step(node, layer, ()))
            self.set_rank(node)
        for name in self.model.outputs:
            if name in self.constants:
                self.result._constants[name] = self.constants[name]
        self.result._steps = _with_ends(steps, self.model.outputs)
        self.result.pretrained_cfg = description(self.model)
        self.result.name = (self.result.pretrained_cfg or {}).get("architecture")
        return self.result.eval()

    def round_weights(self, nodes: list[Node]) -> None:
        """Make weights of integers numbers that are rounded, which can be learned and exported."""
        uses = Counter(name for node in nodes for name in node.inputs)
        for node in nodes:
            if node.kind != "DequantizeLinear" or not self.constants.keys() >= set(node.inputs):
                continue
            name = node.inputs[0]
            whole, scale, *_ = values = [self.constants[each] for each in node.inputs]
            is_weight = whole.ndim > 0 and whole.dtype.kind in "iu"
            if uses[name] > 1 or not is_weight or not _is_plain(node, scale):
                continue
            self.constants[name], *_ = compute(node, values)
            self.learned.add(name)
            if len(values) < 3:
                node.inputs.append(f"{node.outputs[0]}:zero_point")
                self.constants[node.inputs[2]] = np.zeros(scale.shape, whole.dtype)
            node.kind = ROUNDED

    # What is computed ahead.

    def fold(self, node: Node) -> bool:
        """Compute a node of constants alone, and return whether that was done."""
        size = OPERATORS[node.kind].size
        if size is None or not all(name in self.constants for name in node.inputs if name):
            return False
        values = [self.constants[name] if name else None for name in node.inputs]
        count = int(size(node, *values))
        self.made += max(count, 0)
        if self.made > _MOST_MADE + self.model.size:
            raise ValueError(f"{node} makes constants far larger than the file")
        for name, value in zip(node.outputs, compute(node, values)):
            if name:
                self.constants[name] = value
                if value.dtype.kind == "f" and not self.learned.isdisjoint(node.inputs):
                    self.learned.add(name)
        return True

    def with_rounding(self, nodes: list[Node]) -> list[Node]:
        """Return the nodes with one for rounding to integers and back by the same numbers."""
        rounded = {node.outputs[0]: node for node in nodes if node.kind == "QuantizeLinear"}
        joined = []
        for node in nodes:
            before = rounded.get(node.inputs[0]) if node.kind == "DequantizeLinear" else None
            if before is not None and self.are_alike(before, node):
                settings = {"axis": node.integer("axis", 1)}
                inputs = [before.inputs[0], *node.inputs[1:]]
                node = Node(ROUNDED, node.name, inputs, node.outputs, settings, node.opset)
            joined.append(node)
        return joined

    def are_alike(self, one: Node, other: Node) -> bool:
        """Whether two nodes have the same constants behind their first input, of 8 or 16 bits."""
        pairs = list(zip(one.inputs[1:], other.inputs[1:]))
        names = {name for pair in pairs for name in pair}
        return (
            len(one.inputs) == len(other.inputs)
            and names <= set(self.constants)
            and all(np.array_equal(self.constants[a], self.constants[b]) for a, b in pairs)
            and all(self.constants[b].dtype.kind in "iu" for _, b in pairs[1:])
            and all(_is_plain(node, self.constants[one.inputs[1]]) for node in (one, other))
            and one.integer("axis", 1) == other.integer("axis", 1)
        )

    def with_biases(self, nodes: list[Node]) -> list[Node]:
        """Return the nodes with sums joined to the products by constant matrices they follow."""
        uses = Counter(name for node in nodes for name in node.inputs)
        uses.update(self.model.outputs)
        products = {
            node.outputs[0]: node
            for node in nodes
            if node.kind == "MatMul"
            and uses[node.outputs[0]] == 1
            and self.constants.get(node.inputs[1], np.empty(0)).ndim == 2
            and node.inputs[0] not in self.constants
        }
        joined: list[Node] = []
        for node in nodes:
            product = next((products[n] for n in node.inputs if n in products), None)
            bias = next((name for name in node.inputs if name in self.constants), None)
            if node.kind == "Add" and product is not None and bias is not None:
                matrix = self.constants[product.inputs[1]]
                if self.constants[bias].shape == matrix.shape[1:]:
                    joined.remove(product)
                    product.inputs.append(bias)
                    product.outputs = node.outputs
                    node = product
            joined.append(node)
        return joined

    # Layers.

    def layer(self, node: Node) -> str | None:
        """Add the layer that a node is, and return its path; None if it is none."""
        make = OPERATORS[node.kind].layer
        others = node.inputs[1:]
        if make is None or any(name and name not in self.constants for name in others):
            return None
        if node.inputs[0] in self.whole:
            return None  # layers take floating-point numbers
        weights = [Weight(name, self.constants[name]) if name else None for name in others]
        made = make(node, self.ranks.get(node.inputs[0]), *weights)
        if made is None:
            return None
        layer, members = made
        for name, weight in members.items():
            if weight is None:
                continue
            current = getattr(layer, name)
            if weight.array.shape != current.shape:
                raise ValueError(
                    f"{node}: expected a {name} of shape {current.shape}, got {weight.array.shape}"
                )
            if isinstance(current, Parameter):
                setattr(layer, name, self.parameter(weight))
            else:
                setattr(layer, name, as_parameter_data(weight.array.copy()))
        return self.add(_layer_path(node, [w for w in weights if w is not None]), layer)

    def parameter(self, weight: Weight) -> Parameter:
        """Return the parameter of a weight: one for all that share it.

        Not of equal numbers, such as zeros: exporters store one for several that are alike.
        """
        new = Parameter(as_parameter_data(weight.array.copy()))
        if not new.data.size or (new.data == new.data.flat[0]).all():
            return new
        return self.parameters.setdefault(weight.name, new)

    def take_constants(self, node: Node) -> None:
        """Keep the constants that a node takes: as parameters, or outside the graph."""
        fixed = OPERATORS[node.kind].fixed
        for position, name in enumerate(node.inputs):
            if name not in self.constants or name in self.result._learned:
                continue
            if name in self.learned and position not in fixed:
                weight = Weight(name, self.constants[name])
                self.result._learned[name] = self.add(_cleaned(name), self.parameter(weight))
                self.result._constants.pop(name, None)
            else:
                self.result._constants[name] = self.constants[name]

    def add(self, path: str, member: Module | Parameter) -> str:
        """Register a layer or a parameter under a path, or one like it; return that."""
        *parents, last = path.split(".")
        module: Module = self.result
        names = []
        for name in parents:
            name = _free(module, name, Module)
            names.append(name)
            if name not in module._members:
                module.add_module(name, Module())
            module = getattr(module, name)
        last = _free(module, last, None)
        if isinstance(member, Module):
            module.add_module(last, member)
        else:
            module.register_parameter(last, member)
        return ".".join([*names, last])

    # Numbers of axes.

    def set_rank(self, node: Node) -> None:
        """Note how many axes the first output of a node has, where that is plain."""
        known = [
            len(self.constants[name].shape) if name in self.constants else self.ranks.get(name)
            for name in node.inputs
            if name
        ]
        rank = known[0] if known else None
        match node.kind:
            case "Gemm" | "Flatten":
                rank = 2
            case "Reshape":
                rank = self.constants[node.inputs[1]].size if (
                    len(node.inputs) > 1 and node.inputs[1] in self.constants
                ) else None  # fmt: skip
            case "Squeeze" | "Unsqueeze" | "Gather" | "GatherND" | "Einsum" | "Shape" | "OneHot":
                rank = None
            case kind if kind.startswith(("Reduce", "Arg")):
                rank = rank if node.integer("keepdims", 1) else None
            case _:
                sizes = [each for each in known if each is not None]
                rank = max(sizes) if sizes and len(sizes) == len(known) else None
        self.ranks[node.outputs[0]] = rank


def _is_plain(node: Node, scale: np.ndarray) -> bool:
    """Whether there is one scale, or one for each place along an axis, in float32."""
    return scale.ndim <= 1 and scale.dtype == np.float32 and set(node.attributes) <= {"axis"}


def _needed(nodes: list[Node], outputs: Iterable[str]) -> list[Node]:
    """Return the nodes that the outputs depend on."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(filter(None, node.outputs)):
            wanted.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def _with_ends(steps: list[Step], outputs: Iterable[str]) -> list[Step]:
    """Return the steps, each with the values that none after it uses."""
    used = set(outputs)
    ended = []
    for step in reversed(steps):
        names = {name for name in (*step.node.inputs, *step.node.outputs) if name}
        ended.append(step._replace(last=tuple(sorted(names - used))))
        used |= names
    return ended[::-1]


# -- names ----------------------------------------------------------------------------------------


def _layer_path(node: Node, weights: list[Weight]) -> str:
    """Return the path that the layer of a node had where it comes from, as far as names tell."""
    for weight in weights:
        path, _, ending = weight.name.rpartition(".")
        if path and ending in _ENDINGS:
            return _cleaned(path)
    # PyTorch's names of nodes: /blocks/blocks.0/blocks.0.1/act/Relu
    parts: list[str] = []
    for part in node.name.strip("/").split("/"):
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    if len(parts) > 1 and re.fullmatch(rf"{re.escape(node.kind)}(_\d+)?", parts[-1]):
        parts.pop()
    path = ".".join(parts)
    return _cleaned(path if re.search("[A-Za-z]", path) else f"{node.kind}_{path}")


def _cleaned(name: str) -> str:
    """Return a name as a path: words apart by dots."""
    path = re.sub(r"\.{2,}", ".", re.sub(r"[^\w.]+", "_", name).strip(".")) or "value"
    return path.replace(".", "_") if path.count(".") >= _DEEPEST else path


def _free(module: Module, name: str, kind: type[Module] | None) -> str:
    """Return a name that a member may have: of that kind already, or new."""
    count = 0
    candidate = name
    while hasattr(module, candidate):
        if kind is not None and isinstance(getattr(module, candidate), kind):
            return candidate
        count += 1
        candidate = f"{name}_{count}"
    return candidate
