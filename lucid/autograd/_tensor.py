"""The tensor: an array, its gradient, and the node of the graph that made it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from lucid.autograd._dtype import DEFAULT_DTYPE, RANKS, as_dtype, convert_numbers, native
from lucid.autograd._grad_mode import is_grad_enabled

if TYPE_CHECKING:
    from lucid.autograd._declared import Methods
    from lucid.autograd._graph import Node
else:
    Methods = object

# The axis or axes along which an operation works; None for all.
Dim = int | tuple[int, ...] | list[int] | None


class Version:
    """How often a piece of memory was changed in place; shared by all its views."""

    count = 0  # of the class until the first change: every new tensor makes a Version
    seen = 0  # another number each time that a watched array was asked for, see nn/_untouched.py

    def __getstate__(self) -> dict[str, int] | None:
        return {"count": self.count} if self.count else None


def as_array(data: Any, dtype: DTypeLike | None = None, *, who: str = "tensor") -> np.ndarray:
    """Return ``data`` as a numeric array: floats become float32 unless ``dtype`` says else.

    Integers and booleans keep their kind, because labels, indices and masks are made of them.
    An array is converted as it is, modulo the range of an integer dtype; numbers that come from
    Python must be within it.

    Raises:
        TypeError: if the data are not numbers, or not rectangular.
        ValueError: if a Python number is out of the dtype's range.
    """
    if isinstance(data, Tensor):
        data = data.data
    elif not isinstance(data, np.ndarray) and hasattr(data, "__dlpack__"):
        data = import_array(data, who)
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise TypeError(f"{who}: expected numbers in a rectangular shape: {error}") from None
    if array.dtype.kind not in "fiub":
        if array.dtype == object and isinstance(data, (list, tuple)) and _holds_tensors(data):
            array = np.array(_to_lists(data))
            return as_array(array, dtype, who=who)
        raise TypeError(
            f"{who}: expected real numbers, integers or booleans, got {type(data).__name__} "
            f"of dtype {array.dtype}"
        )
    if not array.dtype.isnative:
        array = array.astype(native(array.dtype))
    plain = not isinstance(data, np.ndarray) and not hasattr(data, "__array__")
    if dtype is not None:
        wanted = as_dtype(dtype, who)
        if plain:
            return convert_numbers(array, wanted, who)
        with np.errstate(all="ignore"):
            return array.astype(wanted, copy=False)
    if plain and array.dtype == np.uint64:  # NumPy's way with integers beyond int64
        return convert_numbers(array, np.dtype(np.int64), who)
    if array.dtype.kind == "f" and array.dtype != DEFAULT_DTYPE:
        with np.errstate(over="ignore"):
            return array.astype(DEFAULT_DTYPE)
    return array


# DLPack's numbers of devices whose memory the CPU reads: its own, and what others pinned or manage.
_READ_BY_CPU = {1, 3, 11, 13}


def import_array(data: Any, who: str) -> np.ndarray:
    """Return an array that shares the memory of an object with ``__dlpack__``.

    Raises:
        ValueError: if that memory is another device's.
        TypeError: if it is of a dtype that NumPy does not have.
    """
    device, number = data.__dlpack_device__()
    if device not in _READ_BY_CPU:
        raise ValueError(
            f"{who}: expected memory of the CPU, got {type(data).__name__} on device {number} of "
            f"DLPack's kind {int(device)}; copy it to the CPU first, such as by .cpu()"
        )
    try:
        return np.from_dlpack(data)
    except RuntimeError as error:
        if "Unsupported dtype" not in str(error):
            raise
        raise TypeError(
            f"{who}: NumPy has no dtype for {type(data).__name__} of "
            f"{getattr(data, 'dtype', 'such numbers')}; convert it first, such as to float32"
        ) from None


def _holds_tensors(data: Any) -> bool:
    return isinstance(data, Tensor) or (
        isinstance(data, (list, tuple)) and any(_holds_tensors(item) for item in data)
    )


def _to_lists(data: Any) -> Any:
    if isinstance(data, Tensor):
        return data.data.tolist()
    if isinstance(data, (list, tuple)):
        return [_to_lists(item) for item in data]
    return data


class Tensor(Methods):
    """An n-dimensional array that remembers how it was made.

    Args:
        data: Python numbers, (nested) lists, a NumPy array, another tensor, or any object with
            ``__array__`` or ``__dlpack__``. The values are copied.
        dtype: the NumPy dtype. Without it floating-point data become float32 (float64 arrays
            too, unlike PyTorch); integers and booleans keep their kind.
        requires_grad: record operations on this tensor, so that ``backward`` fills ``grad``.
            Integers are then taken as float32.

    Attributes:
        data: the NumPy array itself (in PyTorch, ``data`` is a tensor).
        grad: the accumulated gradient, a tensor of the same shape, or None.

    Its methods are the functions of :mod:`lucid.ops`.

    Example:
        >>> x = lucid.tensor([1.0, 2.0, 3.0], requires_grad=True)
        >>> y = (x * x).sum()
        >>> y.backward()
        >>> x.grad  # 2x
        tensor([2., 4., 6.])
        >>> x.detach().reshape(3, 1) + lucid.tensor([10.0, 20.0])  # shapes broadcast
        tensor([[11., 21.],
                [12., 22.],
                [13., 23.]])
    """

    __slots__ = (
        "__weakref__",
        "_hooks",
        "_index",  # which of that operation's outputs it is
        "_node",  # the operation that made it; None for a leaf
        "_post_hooks",  # of a leaf; set with the first of them only, as every result is a tensor
        "_requires_grad",
        "_retains_grad",  # of the result of an operation; set only where it does
        "_seen",  # the version at which `_node` described the value
        "_version",
        "_view",  # (base, function from base to this view), or None
        "data",
        "grad",
    )

    data: np.ndarray
    grad: Tensor | None
    _node: Node | None
    _view: tuple[Tensor, Callable[[Tensor], Tensor] | None] | None
    _hooks: list[Callable[[Tensor], Tensor | None]] | None
    _post_hooks: list[Callable[[Tensor], None]]
    _retains_grad: bool

    def __init__(
        self, data: Any, dtype: DTypeLike | None = None, requires_grad: bool = False
    ) -> None:
        array = as_array(data, dtype)
        if requires_grad and dtype is None and array.dtype.kind in "iu":
            array = array.astype(DEFAULT_DTYPE)
        source = data.data if isinstance(data, Tensor) else data
        if array is source or array.base is not None or not array.flags.writeable:
            array = array.copy(order="K")
        self._init(array)
        self.requires_grad = requires_grad

    def _init(self, array: np.ndarray) -> None:
        self.data = array
        self.grad = None
        self._requires_grad = False
        self._node = None
        self._index = 0
        self._version = Version()
        self._view = None
        self._seen = 0
        self._hooks = None

    def _share(self, other: Tensor) -> None:
        """Be another tensor's memory: a change through either is seen by both."""
        self._init(other.data)
        self._version = other._version
        self._seen = other._version.count

    # -- what it is -------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of the elements."""
        return self.data.dtype

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded. Settable on leaves."""
        return self._requires_grad or self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self._node is not None:
            if value:
                return
            raise RuntimeError(
                "requires_grad can be switched off only on a leaf; "
                "use detach() to leave the graph of an operation's result"
            )
        if value and self.data.dtype.kind != "f":
            raise TypeError(
                f"only floating-point tensors can require grad, got {self.data.dtype}; "
                "convert with astype(lucid.float32)"
            )
        self._requires_grad = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad`` in place and return the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """True for a tensor that no recorded operation made."""
        return self._node is None

    @property
    def grad_fn(self) -> Node | None:
        """The graph node of the operation that made this tensor, or None for a leaf."""
        return self._node

    # -- out of the library -----------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """Return the underlying array; it shares memory with the tensor.

        Raises:
            RuntimeError: if the tensor requires grad, since changes to the array would go
                unseen: call ``detach()`` first.
        """
        if self.requires_grad:
            raise RuntimeError(
                "numpy() on a tensor that requires grad: call .detach().numpy() instead"
            )
        return self.data

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != np.dtype(dtype):
            if copy is False:
                raise ValueError(f"a conversion from {array.dtype} to {dtype} needs a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        if self.requires_grad:
            raise BufferError(
                "a tensor that requires grad cannot be handed on by DLPack: call .detach() first"
            )
        if min(self.data.strides, default=0) < 0:  # PyTorch would end the process
            raise BufferError(
                "memory that is read backwards cannot be handed on by DLPack: call .clone() first"
            )
        asked = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
        # NumPy before 2.1 knows `stream` alone.
        given = {name: value for name, value in asked.items() if value is not None}
        return self.data.__dlpack__(**given)

    def __dlpack_device__(self) -> tuple[int, int]:
        device, number = self.data.__dlpack_device__()
        return int(device), number

    def item(self) -> Any:
        """Return the value of a one-element tensor as a Python number.

        Raises:
            ValueError: if the tensor does not have exactly one element.
        """
        if self.data.size != 1:
            raise ValueError(f"item(): expected a tensor of one element, got shape {self.shape}")
        return self.data.item()

    def tolist(self) -> Any:
        """Return the values as (nested) Python lists, or a number for zero axes."""
        return self.data.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.data.dtype.kind not in "iu":
            raise TypeError(f"only an integer tensor can be an index, got {self.data.dtype}")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.data.size != 1:
            raise ValueError(
                f"the truth of a tensor of shape {self.shape} is ambiguous; use any() or all()"
            )
        return bool(self.data)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.ndim == 0 else format(str(self), spec)

    def __len__(self) -> int:
        if self.data.ndim == 0:
            raise TypeError("len() of a tensor with zero axes")
        return len(self.data)

    def __repr__(self) -> str:
        body = np.array2string(self.data, separator=", ", prefix="tensor(")
        extra = "" if self.data.dtype == DEFAULT_DTYPE else f", dtype={self.data.dtype}"
        if self._node is not None:
            extra += f", grad_fn=<{self._node.name}>"
        elif self._requires_grad:
            extra += ", requires_grad=True"
        return f"tensor({body}{extra})"

    __hash__ = object.__hash__

    def _own_class(self) -> type[Tensor]:
        """Return its class, also if another thread watches it now: see nn/_untouched.py."""
        kind = type(self)
        return getattr(kind, "_watches", kind)

    def __reduce__(self) -> Any:
        return _rebuild, (self._own_class(), self.data, self._version, self.requires_grad)

    def __copy__(self) -> Tensor:
        copy = self._own_class().__new__(self._own_class())
        copy._share(self)
        copy._requires_grad = self.requires_grad
        return copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self._node is not None:
            raise RuntimeError(
                "deepcopy works on leaves only: this tensor is the result of "
                f"{self._node.name}; use detach() or clone()"
            )
        copy = self._own_class().__new__(self._own_class())
        # By the memo, so that tensors of the same memory have the same in the copy too.
        copy._init(deepcopy(self.data, memo))
        copy._version = deepcopy(self._version, memo)
        copy._seen = copy._version.count
        memo[id(self)] = copy
        copy._requires_grad = self._requires_grad
        if self.grad is not None:
            copy.grad = deepcopy(self.grad, memo)
        return copy

    # -- gradients --------------------------------------------------------------------------

    def backward(
        self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False
    ) -> None:
        """Add the gradient of this tensor to ``grad`` of every leaf it depends on.

        Args:
            gradient: the gradient of the final objective with respect to this tensor, of the
                same shape; may be left out for a single element, where it is 1.
            retain_graph: keep the buffers, so that backward can run again.
            create_graph: record the backward pass too, for second derivatives; it keeps the
                buffers as well.

        Raises:
            RuntimeError: if the tensor does not require grad, if ``gradient`` is missing for
                more than one element, if the graph was freed by an earlier backward, or if a
                value that the gradient needs was changed in place.
            ValueError: if ``gradient`` has another shape.
        """
        from lucid.autograd._graph import run_backward

        run_backward(
            [self], [gradient], retain_graph=retain_graph or create_graph, create_graph=create_graph
        )

    def detach(self) -> Tensor:
        """Return a tensor that shares this one's memory and is outside the graph."""
        tensor = Tensor.__new__(Tensor)
        tensor._share(self)
        return tensor

    def detach_(self) -> Tensor:
        """Leave the graph in place: be a leaf that needs no gradient, and return the tensor.

        Raises:
            RuntimeError: if the tensor is a view, whose history is its base's.
        """
        if self._view is not None:
            raise RuntimeError("detach_() on a view, whose history is its base's; use detach()")
        self._node, self._requires_grad = None, False
        return self

    @property
    def retains_grad(self) -> bool:
        """Whether :meth:`retain_grad` was called on this result of an operation."""
        return hasattr(self, "_retains_grad")

    def retain_grad(self) -> None:
        """Fill ``grad`` on backward although this tensor is not a leaf.

        Raises:
            RuntimeError: if the tensor does not require grad.
        """
        if not self.requires_grad:
            raise RuntimeError("retain_grad() on a tensor that does not require grad")
        if self._node is None or self.retains_grad:
            return
        self._retains_grad = True
        reference = weakref.ref(self)  # the node must not keep its output alive: a cycle

        def store(gradient: Tensor) -> None:
            tensor = reference()
            if tensor is not None:
                if tensor.grad is not None:
                    gradient = wrap(tensor.grad.data + gradient.data)
                tensor.grad = gradient

        self._node.add_hook(self._index, store)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call ``hook(grad)`` when the gradient is known; a tensor it returns replaces it.

        Returns:
            A function that removes the hook (PyTorch returns a handle with ``remove()``; the
            function has that attribute too).

        Raises:
            RuntimeError: if the tensor does not require grad.
        """
        if not self.requires_grad:
            raise RuntimeError("register_hook() on a tensor that does not require grad")
        if self._node is not None:
            hooks = self._node.add_hook(self._index, hook)
        else:
            if self._hooks is None:
                self._hooks = []
            self._hooks.append(hook)
            hooks = self._hooks
        return _remover(hooks, hook)

    def register_post_accumulate_grad_hook(
        self, hook: Callable[[Tensor], None]
    ) -> Callable[[], None]:
        """Call ``hook(tensor)`` each time that backward has added to this leaf's ``grad``.

        That is as soon as the last operation that uses the tensor has run, while backward goes on
        with earlier ones. What the hook returns is ignored.

        Args:
            hook: is given the tensor; its ``grad`` is the accumulated one.

        Returns:
            A function that removes the hook, as :meth:`register_hook` does.

        Raises:
            RuntimeError: if the tensor does not require grad, or is no leaf.

        Example:
            >>> x = lucid.tensor([1.0, 2.0], requires_grad=True)
            >>> handle = x.register_post_accumulate_grad_hook(lambda x: print(x.grad))
            >>> (x * x).sum().backward()
            tensor([2., 4.])
        """
        if not self.requires_grad:
            raise RuntimeError(
                "register_post_accumulate_grad_hook() on a tensor that does not require grad"
            )
        if self._node is not None:
            raise RuntimeError(
                "register_post_accumulate_grad_hook() on the result of an operation: "
                "only leaves accumulate gradients; use register_hook()"
            )
        if not hasattr(self, "_post_hooks"):
            self._post_hooks = []
            self._hooks = self._hooks or []  # backward looks for others where there are some
        self._post_hooks.append(hook)
        return _remover(self._post_hooks, hook)

    # -- operations -------------------------------------------------------------------------


def _remover(hooks: list[Any], hook: Any) -> Callable[[], None]:
    """Return a function that takes ``hook`` off the list; its ``remove`` is itself."""

    def remove() -> None:
        if hook in hooks:
            hooks.remove(hook)

    remove.remove = remove  # type: ignore[attr-defined]
    return remove


def _rebuild(
    kind: type[Tensor], array: np.ndarray, version: Version, requires_grad: bool
) -> Tensor:
    """Return a tensor as it was pickled."""
    tensor = kind.__new__(kind)
    # Read-only is what joblib gives to several processes.
    tensor._init(np.asarray(array) if array.flags.writeable else np.array(array))
    tensor._version, tensor._seen = version, version.count
    tensor._requires_grad = requires_grad
    return tensor


def wrap(array: Any) -> Tensor:
    """Return a tensor around ``array`` itself: no copy, no conversion."""
    tensor = Tensor.__new__(Tensor)
    tensor._init(array if type(array) is np.ndarray else np.asarray(array))
    return tensor


# Where every tensor has its array, also one of a class whose ``data`` is watched.
array_slot: Any = Tensor.__dict__["data"]


def array_of(tensor: Tensor) -> np.ndarray:
    """Return a tensor's array, unnoticed by who watches it: to be read now and not kept."""
    array: np.ndarray = array_slot.__get__(tensor)
    return array


# -- changes in place -----------------------------------------------------------------------------


def version(tensor: Tensor) -> int:
    """Return how often the tensor's memory was changed in place, through any of its views."""
    return tensor._version.count


def mark_changed(tensor: Tensor) -> None:
    """Note that the tensor's memory was changed in place, by other means than :func:`assign`."""
    tensor._version.count += 1
    tensor._seen = tensor._version.count


def base_of(tensor: Tensor) -> Tensor:
    """Return the tensor that this one is a view of, or itself."""
    return tensor if tensor._view is None else tensor._view[0]


def assign(tensor: Tensor, result: Tensor) -> Tensor:
    """Take over the value and the history of ``result``: how every in-place operation ends.

    The value is written into the tensor's memory, so views see it; nodes that saved the old value
    notice by its version when they run backward.
    """
    if result.shape != tensor.shape:
        raise ValueError(
            f"in-place operation: the result has shape {result.shape}, which does not fit "
            f"into the tensor of shape {tensor.shape}"
        )
    if RANKS[result.dtype.kind] > RANKS[tensor.dtype.kind]:
        raise TypeError(
            f"in-place operation: the result has dtype {result.dtype}, which cannot be "
            f"stored in a tensor of dtype {tensor.dtype}"
        )
    check_writeable(tensor)
    base = base_of(tensor)
    recording = is_grad_enabled()
    if recording:
        if any(one._node is None and one._requires_grad for one in (tensor, base)):
            raise RuntimeError(
                "a leaf that requires grad cannot be changed in place (directly or through "
                "a view) while operations are recorded; do it under no_grad()"
            )
        check_view(tensor)
        if result._node is not None:
            result._node.keep_old_value(tensor)
    np.copyto(tensor.data, result.data, casting="unsafe")
    mark_changed(tensor)
    if recording:
        tensor._node, tensor._index = result._node, result._index
        if tensor._view is not None and (tensor.requires_grad or base.requires_grad):
            take_view = tensor._view[1]
            if take_view is None:
                raise RuntimeError("this view cannot be changed in place; clone() it first")
            from lucid.autograd._function import rebase

            rebase(base, tensor, take_view)
    return tensor


def check_writeable(tensor: Tensor) -> None:
    """Raise RuntimeError if the tensor's memory is not to be changed."""
    if not tensor.data.flags.writeable:
        raise RuntimeError(
            f"this tensor of shape {tensor.shape} is read-only (expanded, or made from a "
            "read-only array) and cannot be changed in place; clone() it first"
        )


def check_view(tensor: Tensor) -> None:
    """Raise RuntimeError if a view's base was changed since: its history is then another's."""
    if tensor._view is None or tensor._seen == tensor._version.count:
        return
    if tensor._view[0].requires_grad or tensor._node is not None:
        raise RuntimeError(
            f"a view of shape {tensor.shape} is used after the tensor it views was changed "
            "in place; take the view again"
        )


class ValuesIndices(NamedTuple):
    """Elements and their positions along an axis, from ``max(dim)``, ``sort`` and ``topk``."""

    values: Tensor
    indices: Tensor
