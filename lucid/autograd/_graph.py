"""The tape: nodes, and the walk back over them."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lucid.autograd._grad_mode import grad_mode, is_grad_enabled, set_grad_enabled
from lucid.autograd._tensor import Tensor, as_array, check_view, wrap
from lucid.kernels._memory import is_lease

if TYPE_CHECKING:
    from lucid.autograd._function import Function

Hook = Callable[[Tensor], "Tensor | None"]
Gradients = Sequence["Tensor | None"]

_sequence = itertools.count()


class _Output:
    """Stands in a node's saved values for one of its own outputs.

    A node must not hold its output tensor (the tensor holds the node): it holds what it is of.
    """

    __slots__ = ("_index", "_version", "data")

    def __init__(self, tensor: Tensor) -> None:
        self.data = tensor.data
        self._index = tensor._index
        self._version = tensor._version


class Node:
    """One recorded operation; the ``ctx`` that a :class:`Function` sees.

    A node points back: at the sources of its inputs and at the values its gradient needs.
    Nothing points from a node to its outputs, so graphs hold no reference cycles, and a graph
    dies with the last tensor that was computed from it.

    A function may set attributes of its own on the node; they are dropped when the graph is
    freed.
    """

    __slots__ = (
        "__dict__",
        "_freed",
        "_hooks",
        "_non_differentiable",
        "_saved",
        "edges",  # per argument: (source, output index) or None; a source is a node or a leaf
        "function",
        "input_meta",  # per argument: (shape, dtype) or None
        "name",
        "needs_input_grad",
        "output_meta",  # per output: (shape, dtype)
        "retained",  # in backward: whether it may come again
        "sequence",  # nodes made later have larger numbers; consumers are always made later
        "view",
    )

    edges: tuple[tuple[Node | Tensor, int] | None, ...]
    input_meta: tuple[tuple[tuple[int, ...], np.dtype[Any]] | None, ...]
    output_meta: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]
    view: Callable[[Tensor], Tensor] | None
    _saved: tuple[Any, ...]
    _hooks: dict[int, list[Hook]] | None

    def __init__(self, function: type[Function], needs_input_grad: tuple[bool, ...]) -> None:
        self.name = function.__name__
        self.function = function
        self.needs_input_grad = needs_input_grad
        self.view = None
        self._saved = ()
        self._non_differentiable: tuple[Any, ...] = ()
        self._hooks = None
        self._freed = False

    def __repr__(self) -> str:
        return f"<{self.name}>"

    if TYPE_CHECKING:  # what functions set on their node may be anything

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

    @property
    def next_functions(self) -> tuple[tuple[Node | Tensor, int] | None, ...]:
        """The sources of the inputs, one an argument: a node or a leaf, and its output index."""
        return self.edges

    # -- called by forward ------------------------------------------------------------------

    def save_for_backward(self, *values: Tensor | np.ndarray | None) -> None:
        """Keep tensors or arrays for backward, among them this operation's own outputs."""
        self._saved = values

    def mark_non_differentiable(self, *outputs: Tensor | np.ndarray) -> None:
        """Name the outputs (of a floating-point dtype) that have no gradient."""
        self._non_differentiable = tuple(
            output.data if isinstance(output, Tensor) else output for output in outputs
        )

    # -- called by Function.apply -----------------------------------------------------------

    def record(self, args: Sequence[Any], outputs: Sequence[Tensor]) -> None:
        """Become part of the graph, between ``args`` and ``outputs``."""
        self.sequence = next(_sequence)
        edges: list[tuple[Node | Tensor, int] | None] = []
        meta: list[tuple[tuple[int, ...], np.dtype[Any]] | None] = []
        for arg, needed in zip(args, self.needs_input_grad):
            if needed:
                if arg._view is not None:
                    check_view(arg)
                edges.append((arg, 0) if arg._node is None else (arg._node, arg._index))
                meta.append((arg.data.shape, arg.data.dtype))
            else:
                edges.append(None)
                meta.append(None)
        self.edges = tuple(edges)
        self.input_meta = tuple(meta)
        self.output_meta = tuple((output.data.shape, output.data.dtype) for output in outputs)
        for index, output in enumerate(outputs):
            if output.data.dtype.kind == "f" and not any(
                output.data is other for other in self._non_differentiable
            ):
                output._node, output._index = self, index
        self._non_differentiable = ()
        saved: list[tuple[Any, int]] = []
        for value in self._saved:
            if isinstance(value, Tensor):
                if any(value is arg for arg in args):
                    saved.append((value, value._version.count))
                    continue
                array = value.data
            else:
                array = value
            for output in outputs:
                if array is output.data:
                    saved.append((_Output(output), output._version.count))
                    break
            else:
                saved.append((value, value._version.count if isinstance(value, Tensor) else 0))
        self._saved = tuple(saved)

    def keep_old_value(self, tensor: Tensor) -> None:
        """Before ``tensor`` takes this node's result in place: copy its old value if saved."""
        old: Tensor | None = None
        saved = []
        for value, version in self._saved:
            if value is tensor:
                if old is None:
                    old = wrap(tensor.data.copy(order="K"))
                    old._node, old._index = tensor._node, tensor._index
                saved.append((old, 0))
            else:
                saved.append((value, version))
        self._saved = tuple(saved)

    # -- called by backward -----------------------------------------------------------------

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What forward saved, as tensors (None stays None).

        Raises:
            RuntimeError: if the graph was freed, or a saved value was changed in place since.
        """
        self._check_alive()
        values: list[Tensor | None] = []
        for value, version in self._saved:
            if value is None:
                values.append(None)
                continue
            if isinstance(value, np.ndarray):
                values.append(wrap(value))
                continue
            now = value._version.count
            if now != version:
                what = "output" if isinstance(value, _Output) else "input"
                raise RuntimeError(
                    f"the gradient of {self.name} needs its {what} of shape {value.data.shape}, "
                    f"but that was changed in place since ({now - version} times); change a "
                    "clone() instead"
                )
            if isinstance(value, _Output):
                tensor = wrap(value.data)
                tensor._node, tensor._index = self, value._index
                tensor._version = value._version
                tensor._seen = now
                values.append(tensor)
            else:
                values.append(value)
        return tuple(values)

    def _check_alive(self) -> None:
        if self._freed:
            raise RuntimeError(
                f"the graph at {self.name} was freed by an earlier backward; "
                "pass retain_graph=True to that one to go through it again"
            )

    def free(self) -> None:
        """Drop everything that was kept for backward."""
        self._saved = ()
        self._freed = True
        self.__dict__.clear()

    def add_hook(self, index: int, hook: Hook) -> list[Hook]:
        """Have ``hook`` called with the gradient of output ``index``; return its hooks."""
        if self._hooks is None:
            self._hooks = {}
        hooks = self._hooks.setdefault(index, [])
        hooks.append(hook)
        return hooks

    def call_backward(self, gradients: list[Tensor | None]) -> list[Tensor | None]:
        """Return one gradient per argument, checked, given one per output."""
        self._check_alive()
        for index, gradient in enumerate(gradients):
            if gradient is None:
                shape, dtype = self.output_meta[index]
                gradients[index] = wrap(np.zeros(shape, dtype))
        results = self.function.backward(self, *gradients)
        if not isinstance(results, tuple):
            results = (results,)
        if len(results) > len(self.edges) and any(
            r is not None for r in results[len(self.edges) :]
        ):
            raise RuntimeError(
                f"{self.name}.backward: expected at most {len(self.edges)} gradients, one for each "
                f"argument of forward, got {len(results)}"
            )
        checked: list[Tensor | None] = []
        recording = is_grad_enabled()
        for index, meta in enumerate(self.input_meta):
            result = results[index] if index < len(results) else None
            if meta is None or not self.needs_input_grad[index]:
                checked.append(None)
                continue
            if result is None:
                if index >= len(results):
                    raise RuntimeError(
                        f"{self.name}.backward: no gradient for argument {index}, which requires "
                        f"grad: expected {len(self.edges)} values, got {len(results)}"
                    )
                checked.append(None)
                continue
            if not isinstance(result, Tensor):
                if not isinstance(result, np.ndarray):
                    raise TypeError(
                        f"{self.name}.backward: expected a tensor as gradient of argument {index}, "
                        f"got {type(result).__name__}"
                    )
                result = wrap(result)
            elif not recording:
                # A tensor of the engine's own: who else holds the array then shows in the
                # array's reference count, which _sole_owner relies on.
                result = wrap(result.data)
            shape, dtype = meta
            if result.data.shape != shape:
                raise RuntimeError(
                    f"{self.name}.backward: the gradient of argument {index} must have shape "
                    f"{shape}, got {result.data.shape}"
                )
            if result.data.dtype != dtype:
                result = _converted(result, dtype)
            checked.append(result)
        return checked


def _converted(gradient: Tensor, dtype: np.dtype[Any]) -> Tensor:
    from lucid.autograd._function import Cast

    return Cast.apply(gradient, dtype)


def _sum(a: Tensor, b: Tensor, create_graph: bool) -> Tensor:
    """Return the sum of two gradients of one tensor, differentiable if that is wanted."""
    from lucid.autograd._function import Accumulate

    return Accumulate.apply(a, b) if create_graph else wrap(a.data + b.data)


def _source(tensor: Tensor) -> tuple[Node | Tensor, int]:
    return (tensor, 0) if tensor._node is None else (tensor._node, tensor._index)


def _reachable(roots: Sequence[Tensor]) -> list[Node]:
    """Return the nodes behind ``roots``, newest first: an order in which all consumers of a
    node come before it. A loop, not a recursion: chains can be very long.
    """
    stack = [root._node for root in roots if root._node is not None]
    seen = {id(node): node for node in stack}
    while stack:
        for edge in stack.pop().edges:
            if edge is not None and isinstance(edge[0], Node) and id(edge[0]) not in seen:
                seen[id(edge[0])] = edge[0]
                stack.append(edge[0])
    return sorted(seen.values(), key=lambda node: node.sequence, reverse=True)


def _initial_gradient(root: Tensor, gradient: Any) -> Tensor:
    if not root.requires_grad:
        raise RuntimeError("backward: this tensor does not require grad and has no graph behind it")
    if gradient is None:
        if root.data.size != 1:
            raise RuntimeError(
                f"backward: a gradient can be left out only for a single element; this tensor has "
                f"shape {root.shape}, so pass gradient= of that shape (or reduce with sum())"
            )
        return wrap(np.ones(root.shape, root.dtype))
    if not isinstance(gradient, Tensor):
        gradient = wrap(as_array(gradient, root.dtype, who="backward: gradient"))
    if gradient.shape != root.shape:
        raise ValueError(
            f"backward: expected a gradient of shape {root.shape}, got {gradient.shape}"
        )
    if gradient.dtype != root.dtype:
        return _converted(gradient, root.dtype)
    return gradient if gradient.requires_grad else wrap(gradient.data)


class _Pending:
    """Gradients on their way, by (source, output index), summed as they arrive."""

    def __init__(self, create_graph: bool) -> None:
        self.create_graph = create_graph
        self.sums: dict[tuple[int, int], Tensor] = {}
        self.own: set[tuple[int, int]] = set()  # sums in buffers made here: safe to add into

    def add(self, key: tuple[int, int], gradient: Tensor) -> None:
        total = self.sums.get(key)
        if total is None:
            self.sums[key] = gradient
        elif key in self.own:
            np.add(total.data, gradient.data, out=total.data)
        else:
            self.sums[key] = _sum(total, gradient, self.create_graph)
            if not self.create_graph:
                self.own.add(key)

    def pop(self, key: tuple[int, int]) -> Tensor | None:
        self.own.discard(key)
        return self.sums.pop(key, None)


def _call_hooks(hooks: list[Hook] | None, gradient: Tensor) -> Tensor:
    for hook in tuple(hooks or ()):
        replaced = hook(gradient if is_grad_enabled() else wrap(gradient.data))
        if replaced is not None:
            if not isinstance(replaced, Tensor) or replaced.shape != gradient.shape:
                got = getattr(replaced, "shape", type(replaced).__name__)
                raise ValueError(
                    f"hook: expected a gradient of shape {gradient.shape} or None, got {got}"
                )
            gradient = replaced
    return gradient


def _references(tensor: Tensor) -> int:
    base = tensor.data.base
    if base is None or is_lease(base):
        del base
        return sys.getrefcount(tensor.data)
    del base
    return sys.getrefcount(tensor.data.base)


# What _references counts for an array that only its tensor holds; it differs between Pythons.
_SOLE_REFERENCES = _references(wrap(np.zeros(1)))


def _sole_owner(tensor: Tensor) -> bool:
    """Whether nothing but ``tensor`` refers to its memory, so that it may become a leaf's grad.

    Weight gradients are as large as the model, and copying each of them in every step shows.
    """
    array = tensor.data
    if array.base is None:
        whole = array.flags.owndata
    else:
        base = array.base
        whole = is_lease(base) or (
            type(base) is np.ndarray
            and (base.base is None or is_lease(base.base))
            and base.nbytes == array.nbytes
        )
        del base
    del array
    return whole and _references(tensor) <= _SOLE_REFERENCES


def _accumulate(leaf: Tensor, gradient: Tensor, create_graph: bool) -> None:
    if leaf.grad is None:
        if create_graph:
            leaf.grad = gradient
        elif _sole_owner(gradient):
            leaf.grad = wrap(gradient.data)
        else:
            leaf.grad = wrap(gradient.data.copy(order="K"))
    elif create_graph:
        leaf.grad = _sum(leaf.grad, gradient, True)
    else:
        np.add(leaf.grad.data, gradient.data, out=leaf.grad.data)


_watching: Callable[[str, float], None] | None = None


def watch(tell: Callable[[str, float], None] | None) -> None:
    """Have backward tell what it has done, and when that began; None ends it.

    It names each operation that it has gone through, and itself when it is at its end.
    """
    global _watching
    _watching = tell


def run_backward(
    roots: Sequence[Tensor],
    gradients: Sequence[Any],
    *,
    inputs: Sequence[Tensor] | None = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> list[Tensor | None]:
    """Walk from ``roots`` back to the leaves.

    Without ``inputs`` the gradients are added to ``grad`` of the leaves. With ``inputs`` they
    are returned, one an input (None where there is no path), and only the part of the graph
    that leads to them runs.
    """
    start = time.perf_counter() if _watching is not None else 0.0
    pending = _Pending(create_graph)
    for root, gradient in zip(roots, gradients):
        source, index = _source(root)
        pending.add((id(source), index), _initial_gradient(root, gradient))
    nodes = _reachable(roots)
    # Each leaf beside the node that uses it last: the oldest one, as that runs last.
    ready: list[tuple[Node, Tensor]] = []
    leaves = set()
    captured: dict[tuple[int, int], Tensor | None] = {}
    if inputs is not None:
        for tensor in inputs:
            source, index = _source(tensor)
            captured[(id(source), index)] = None

    # Oldest first: a gradient is needed if its source leads to what was asked for.
    leading = {key[0] for key in captured}
    needs: dict[int, tuple[bool, ...]] = {}
    for node in reversed(nodes):
        for edge in reversed(node.edges):  # as those are taken from the list's end
            if edge is not None and isinstance(edge[0], Tensor) and id(edge[0]) not in leaves:
                leaves.add(id(edge[0]))
                ready.append((node, edge[0]))
                if inputs is None:
                    leading.add(id(edge[0]))
        needs[id(node)] = tuple(
            [edge is not None and id(edge[0]) in leading for edge in node.edges]
        )
        if any(needs[id(node)]):
            leading.add(id(node))

    def deliver(leaf: Tensor) -> None:
        key = (id(leaf), 0)
        gradient = pending.pop(key)
        if gradient is None:
            return
        if leaf._hooks is not None:
            gradient = _call_hooks(leaf._hooks, gradient)
        if inputs is None:
            _accumulate(leaf, gradient, create_graph)
            if leaf._hooks is not None:
                for hook in tuple(getattr(leaf, "_post_hooks", ())):
                    hook(leaf)
        elif key in captured:
            captured[key] = gradient

    silent = grad_mode.silent
    try:
        with set_grad_enabled(create_graph), np.errstate(all="ignore"):
            grad_mode.silent = True
            for root in roots:
                if root._node is None and id(root) not in leaves:
                    deliver(root)
            for position, node in enumerate(nodes):
                incoming: list[Tensor | None] = []
                for index in range(len(node.output_meta)):
                    key = (id(node), index)
                    gradient = pending.pop(key)
                    if gradient is not None:
                        if node._hooks is not None:
                            gradient = _call_hooks(node._hooks.get(index), gradient)
                        if key in captured:
                            captured[key] = gradient
                    incoming.append(gradient)
                if any(needs[id(node)]) and any(gradient is not None for gradient in incoming):
                    # Set only now: a backward may itself walk over a part of this graph.
                    node.needs_input_grad = needs[id(node)]
                    node.retained = retain_graph
                    if _watching is None:
                        outgoing = node.call_backward(incoming)
                    else:
                        began = time.perf_counter()
                        outgoing = node.call_backward(incoming)
                        _watching(node.name, began)
                    incoming.clear()
                    gradient = None
                    for edge, result in zip(node.edges, outgoing):
                        if edge is not None and result is not None:
                            pending.add((id(edge[0]), edge[1]), result)
                    outgoing.clear()
                    result = None
                    if not retain_graph:
                        node.free()
                while ready and ready[-1][0] is node:
                    deliver(ready.pop()[1])
                nodes[position] = None  # type: ignore[call-overload]  # done: let it go
    finally:
        grad_mode.silent = silent
    if _watching is not None:
        _watching("backward", start)
    if inputs is None:
        return []
    return [captured[(id(source), index)] for source, index in map(_source, inputs)]
