"""Module: the base class of layers and models."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from lucid.autograd import Tensor, is_grad_enabled
from lucid.autograd._tensor import as_array, mark_changed, wrap
from lucid.nn._parameter import Parameter, overwrite
from lucid.nn.modules._backward_hooks import BackwardHook, BackwardHooks
from lucid.nn.modules._changes import note_change
from lucid.nn.modules._hooks import Hook, RemovableHandle, register
from lucid.ops._convert import dtype_argument

__all__ = ["Module"]

Self = TypeVar("Self", bound="Module")

# The kinds of member a module keeps a register of.
PARAMETER, BUFFER, MODULE = "parameter", "buffer", "module"
_CLASSES: dict[str, type] = {PARAMETER: Parameter, BUFFER: Tensor}  # Module is added below


def is_counter(path: str) -> bool:
    """Return whether a path in a state is a batch norm's count of batches."""
    return path.rpartition(".")[2] == "num_batches_tracked"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


class IncompatibleKeys(NamedTuple):
    """What :meth:`Module.load_state_dict` found, apart from what it loaded."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of layers and models.

    Assigning a :class:`~lucid.nn.Parameter` or another module to an attribute registers it;
    buffers (state that is not learned) are registered with :meth:`register_buffer`.

    Unlike PyTorch's, values live in the ordinary instance dictionary; a register only notes
    which names are parameters, buffers and modules, in the order of their assignment.

    Attributes:
        training: True in training mode, False in evaluation mode; see :meth:`train`.

    Example:
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.fc = nn.Linear(4, 2)
        ...
        ...     def forward(self, x):
        ...         return self.fc(x).relu()
        >>> net = Net()
        >>> net(lucid.ones(3, 4)).shape
        (3, 2)
        >>> [(name, p.shape) for name, p in net.named_parameters()]
        [('fc.weight', (2, 4)), ('fc.bias', (2,))]
        >>> net.eval().fc.training
        False
    """

    training: bool
    _members: dict[str, str]  # name -> kind
    _non_persistent: set[str]  # buffers that the state dictionary leaves out
    _forward_hooks: dict[int, Hook]
    _forward_pre_hooks: dict[int, Hook]
    _backward_hooks: dict[int, BackwardHook]

    def __init__(self) -> None:
        self.training = True
        self._members = {}
        self._non_persistent = set()
        self._forward_hooks = {}
        self._forward_pre_hooks = {}
        self._backward_hooks = {}

    # -- calling ----------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; every subclass writes its own."""
        raise NotImplementedError(f"{type(self).__name__} needs a method forward(self, ...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run :meth:`forward`, with the hooks around it."""
        if not self._forward_pre_hooks and not self._forward_hooks and not self._backward_hooks:
            return self.forward(*args, **kwargs)
        pending = [*self._forward_hooks.values()]
        try:
            for before in tuple(self._forward_pre_hooks.values()):
                args, kwargs = before.before(self, args, kwargs)
            watch = None
            if self._backward_hooks and is_grad_enabled():
                watch = BackwardHooks(self, [*self._backward_hooks.values()])
                args = watch.inputs(args)
            output = self.forward(*args, **kwargs)
            while pending:
                output = pending.pop(0).after(self, args, kwargs, output)
            return output if watch is None else watch.outputs(output)
        except Exception:
            for hook in pending:
                if hook.always_call:
                    with contextlib.suppress(Exception):  # the first error is the one to tell
                        hook.after(self, args, kwargs, None)
            raise

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before :meth:`forward`; what it returns replaces ``args``.

        Args:
            hook: returns None, one value, or a tuple of arguments.
            prepend: call it before the hooks there are.
            with_kwargs: call ``hook(module, args, kwargs)``, which returns None or both.

        Returns:
            A handle whose ``remove()`` takes the hook off.
        """
        return register(self._forward_pre_hooks, Hook(hook, with_kwargs), prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after :meth:`forward`; its result replaces it.

        Args:
            hook: returns None or another output.
            prepend: call it before the hooks there are.
            with_kwargs: call ``hook(module, args, kwargs, output)``.
            always_call: call it also when something before it raises, with None for the output.

        Returns:
            A handle whose ``remove()`` takes the hook off.
        """
        return register(self._forward_hooks, Hook(hook, with_kwargs, always_call), prepend)

    def register_full_backward_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when backward has gone through a call.

        Both are tuples: the gradients of the arguments by place, None for those that have none,
        and those of the outputs. What the hook returns replaces ``grad_input``. Outputs that are
        no tensor or tuple of tensors are passed over.

        Args:
            hook: returns None or other gradients of the arguments.
            prepend: call it before the hooks there are.

        Returns:
            A handle whose ``remove()`` takes the hook off.

        Example:
            >>> layer = nn.ReLU()
            >>> hook = lambda module, grad_input, grad_output: print(grad_input, grad_output)
            >>> handle = layer.register_full_backward_hook(hook)
            >>> layer(lucid.tensor([-1.0, 2.0], requires_grad=True)).sum().backward()
            (tensor([0., 1.]),) (tensor([1., 1.]),)
        """
        return register(self._backward_hooks, (hook, False), prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` before backward goes through a call of the module.

        Args:
            hook: returns None or other gradients of the outputs.
            prepend: call it before the hooks there are.

        Returns:
            A handle whose ``remove()`` takes the hook off.
        """
        return register(self._backward_hooks, (hook, True), prepend)

    # -- attributes -------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        note_change()  # before as well: what comes from outside, such as Ctrl-C, may come between
        members = self.__dict__.get("_members")
        if isinstance(value, (Parameter, Module)):
            if members is None:
                raise AttributeError(
                    f"{type(self).__name__}: call super().__init__() before assigning {name!r}: "
                    "parameters and modules are registered there"
                )
            self._put(name, value, PARAMETER if isinstance(value, Parameter) else MODULE)
        elif members is not None and name in members:
            expected = _CLASSES[members[name]]
            if value is not None and not isinstance(value, expected):
                raise TypeError(
                    f"{type(self).__name__}.{name} is a {members[name]}: expected a "
                    f"{expected.__name__} or None, got {type(value).__name__}; "
                    f"delete the attribute first to make it something else"
                )
            self._put(name, value, members[name])
        else:
            object.__setattr__(self, name, value)
        note_change()

    def __delattr__(self, name: str) -> None:
        note_change()
        object.__delattr__(self, name)
        self._forget(name)
        note_change()

    def _put(self, name: str, value: Any, kind: str) -> None:
        """Set a member, new or not."""
        if self._members.get(name) != kind:
            self._forget(name)
            self._members[name] = kind
        object.__setattr__(self, name, value)

    def _forget(self, name: str) -> None:
        self._members.pop(name, None)
        self._non_persistent.discard(name)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Reached only for what is not there.
            if "_members" not in self.__dict__ and name in Module.__annotations__:
                raise AttributeError(
                    f"{type(self).__name__}: super().__init__() was not called in its __init__"
                )
            return object.__getattribute__(self, name)  # raises, with Python's own message

    def _register(self, name: str, value: Any, kind: str) -> None:
        who = f"{type(self).__name__}: cannot register a {kind}"
        if "_members" not in self.__dict__:
            raise AttributeError(f"{who} before super().__init__() was called")
        if not isinstance(name, str):
            raise TypeError(f"{who}: its name must be a string, got {type(name).__name__}")
        if not name or "." in name:
            raise KeyError(f"{who}: its name must be non-empty and without a dot, got {name!r}")
        if hasattr(self, name) and name not in self._members:
            raise KeyError(f"{who} as {name!r}: there is an attribute of that name")
        if value is not None and not isinstance(value, _CLASSES[kind]):
            raise TypeError(
                f"{who} as {name!r}: expected a {_CLASSES[kind].__name__} or None, "
                f"got {type(value).__name__}"
            )
        note_change()
        self._put(name, value, kind)
        note_change()

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Register a parameter under a name; None keeps the name without a value.

        Raises:
            KeyError: if the name is empty, has a dot or is taken by something else.
            TypeError: if ``param`` is neither a Parameter nor None.
        """
        self._register(name, param, PARAMETER)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register state that is not learned, such as a running mean.

        Args:
            name: the attribute's name.
            tensor: its value; None keeps the name without a value.
            persistent: whether :meth:`state_dict` includes it.

        Raises:
            KeyError: if the name is empty, has a dot or is taken by something else.
            TypeError: if ``tensor`` is neither a Tensor nor None.
        """
        self._register(name, tensor, BUFFER)
        if persistent:
            self._non_persistent.discard(name)
        else:
            self._non_persistent.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Register a child under a name.

        Raises:
            KeyError: if the name is empty, has a dot or is taken by something else.
            TypeError: if ``module`` is neither a Module nor None.
        """
        self._register(name, module, MODULE)

    register_module = add_module

    # -- what is inside ---------------------------------------------------------------------

    def _own(self, *kinds: str) -> Iterator[tuple[str, Any]]:
        """Yield what is registered here, of one kind after the other; None for no value."""
        for kind in kinds:
            for name, its_kind in self._members.items():
                if its_kind == kind:
                    yield name, self.__dict__[name]

    def _named(
        self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        """Yield the values that are registered here and below, each with its path."""
        seen: set[int] = set()
        modules = (
            self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        )
        for path, module in modules:
            for name, value in module._own(kind):
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield _join(path, name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield ``(path, parameter)``, this module's own first, shared ones once."""
        return self._named(PARAMETER, prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield the parameters of this module and of those below it."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield ``(path, buffer)``, this module's own first, shared ones once."""
        return self._named(BUFFER, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Yield the buffers of this module and of those below it."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield ``(name, module)`` for the modules directly below, shared ones once."""
        return self._named(MODULE, "", recurse=False, remove_duplicate=True)

    def children(self) -> Iterator[Module]:
        """Yield the modules directly below."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Yield ``(path, module)`` for this module (path ``""``) and all below, depth first.

        Args:
            memo: modules to leave out; those visited are added.
            prefix: put before every path.
            remove_duplicate: yield a module that is used twice only once.
        """
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._own(MODULE):
            if module is not None:
                yield from module.named_modules(memo, _join(prefix, name), remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """Yield this module and all below it."""
        return (module for _, module in self.named_modules())

    def get_submodule(self, target: str) -> Module:
        """Return the module at a path such as ``"layers.2.conv"``; ``""`` is this module.

        Raises:
            AttributeError: if there is no such module.
        """
        module: Module = self
        for position, name in enumerate(target.split(".") if target else ()):
            child = module.__dict__.get(name) if module._members.get(name) == MODULE else None
            if child is None:
                where = ".".join(target.split(".")[:position]) or "the top"
                known = ", ".join(repr(n) for n, _ in module.named_children()) or "none"
                raise AttributeError(
                    f"{type(self).__name__}: no module {target!r}: at {where} there is no "
                    f"{name!r} (there are: {known})"
                )
            module = child
        return module

    def set_submodule(self, target: str, module: Module) -> None:
        """Put a module at a path such as ``"layers.2.conv"``, where there is one.

        Raises:
            AttributeError: if there is no such module.
        """
        self.get_submodule(target)
        path, _, name = target.rpartition(".")
        setattr(self.get_submodule(path), name, module)

    def _get_member(self, target: str, kind: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if module._members.get(name) != kind:
            known = ", ".join(repr(n) for n, _ in module._own(kind)) or "none"
            raise AttributeError(
                f"{type(self).__name__}: no {kind} {target!r} "
                f"({type(module).__name__} has: {known})"
            )
        return module.__dict__[name]

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter at a path such as ``"layers.2.conv.weight"``.

        Raises:
            AttributeError: if there is no such parameter.
        """
        return self._get_member(target, PARAMETER)

    def get_buffer(self, target: str) -> Tensor:
        """Return the buffer at a path such as ``"layers.2.bn.running_mean"``.

        Raises:
            AttributeError: if there is no such buffer.
        """
        return self._get_member(target, BUFFER)

    # -- state ------------------------------------------------------------------------------

    def _named_state(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors of the state dictionary themselves, shared ones under each name."""
        for path, module in self.named_modules(remove_duplicate=False):
            for name, tensor in module._own(PARAMETER, BUFFER):
                if tensor is not None and name not in module._non_persistent:
                    yield _join(path, name), tensor

    def state_dict(
        self,
        *,
        destination: dict[str, Tensor] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Tensor]:
        """Return the parameters and persistent buffers by path, in PyTorch's order.

        Args:
            destination: a dictionary to add them to, and to return.
            prefix: put before every path.
            keep_vars: return the tensors themselves, not detached.

        Returns:
            Tensors that share the module's memory: a later step changes them. Copy them
            (``copy.deepcopy``) to keep today's values.
        """
        state = {} if destination is None else destination
        for path, tensor in self._named_state():
            state[prefix + path] = tensor if keep_vars else tensor.detach()
        return state

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy values by path into parameters and buffers.

        Everything is checked before anything changes. Values are converted to the dtype of the
        tensor they go into, unless ``assign`` is given.

        Args:
            state_dict: tensors or arrays by path, as :meth:`state_dict` returns them.
            strict: raise also if a path is missing or unexpected. A batch norm's count of batches
                may be missing, as it is in files of other tools: it stays as it is.
            assign: give the tensors the dtype and the memory of their new values, so that a change
                of one is a change of both. Only views, and what two paths have, are copied.

        Returns:
            A named tuple ``(missing_keys, unexpected_keys)``.

        Raises:
            RuntimeError: lists what is missing, what is unexpected, and with both shapes what
                does not fit; the module is then as it was.
            TypeError: if ``state_dict`` is no mapping.
        """
        who = type(self).__name__
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{who}.load_state_dict: expected a mapping from names to arrays, "
                f"got {type(state_dict).__name__}"
            )
        own = dict(self._named_state())
        missing = [path for path in own if path not in state_dict and not is_counter(path)]
        unexpected = [path for path in state_dict if path not in own]
        arrays: dict[str, np.ndarray] = {}
        unfit: list[str] = []
        for path, tensor in own.items():
            if path not in state_dict:
                continue
            try:
                value = state_dict[path]
                dtype = getattr(value, "dtype", tensor.dtype) if assign else tensor.dtype
                array = as_array(value, dtype, who=path)
            except TypeError as error:
                unfit.append(str(error))
                continue
            if array.shape != tensor.shape:
                unfit.append(f"{path}: expected shape {tensor.shape}, got {array.shape}")
            arrays[path] = array
        problems = []
        if strict and missing:
            problems.append("missing: " + ", ".join(missing))
        if strict and unexpected:
            problems.append("unexpected: " + ", ".join(map(str, unexpected)))
        if unfit:
            problems.append("does not fit: " + "; ".join(unfit))
        if problems:
            raise RuntimeError(
                f"{who}.load_state_dict: nothing was loaded\n  " + "\n  ".join(problems)
            )
        places = Counter(map(id, arrays.values()))
        for path, array in arrays.items():
            if assign:
                is_whole = array.base is None and array.flags.carray and places[id(array)] == 1
                own[path].data = array if is_whole else array.copy()
                mark_changed(own[path])
            else:
                overwrite(own[path], array)
        return IncompatibleKeys(missing, unexpected)

    # -- changing all of it -----------------------------------------------------------------

    def apply(self: Self, fn: Callable[[Module], Any]) -> Self:
        """Call ``fn`` on every module below and then on this one; return this one."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def train(self: Self, mode: bool = True) -> Self:
        """Switch this module and all below to training mode (or, with False, to evaluation).

        Dropout and batch norm behave differently in the two. What layers keep for inference, see
        :class:`Sequential`, is dropped in training mode. A module below may override this method.
        """
        if not isinstance(mode, bool):
            raise TypeError(f"{type(self).__name__}.train: expected True or False, got {mode!r}")
        self.training = mode
        if mode:
            self._drop_kept()
        for child in self.children():
            child.train(mode)
        return self

    def _drop_kept(self) -> None:
        """Drop what is kept for inference alone."""

    def eval(self: Self) -> Self:
        """Switch to evaluation mode: ``train(False)``."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Have all parameters learned, or none."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all parameters' gradients, or with ``set_to_none=False`` fill them with 0."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = wrap(np.zeros_like(parameter.grad.data))

    def to(
        self: Self,
        *args: Any,
        device: Any = None,
        dtype: DTypeLike | None = None,
        non_blocking: bool = False,
        memory_format: Any = None,
    ) -> Self:
        """Convert the floating-point parameters and buffers, and their gradients, in place.

        Args:
            *args: a floating-point dtype, a tensor that has it, the CPU, or the CPU and a dtype.
            device: the CPU.
            dtype: a floating-point dtype.
            non_blocking: without effect.
            memory_format: without effect.

        Raises:
            TypeError: if the dtype is no floating-point dtype.
            ValueError: if a device is not the CPU.
        """
        given = dtype_argument(args, device, dtype)
        if given is None:
            return self
        try:
            wanted = np.dtype(given)
        except TypeError:
            wanted = None
        if wanted is None or wanted.kind != "f":
            raise TypeError(
                f"{type(self).__name__}.to: expected a floating-point dtype, got {given!r}"
            )
        for tensor in itertools.chain(self.parameters(), self.buffers()):
            for one in (tensor, tensor.grad):
                if one is not None and one.dtype.kind == "f" and one.dtype != wanted:
                    one.data = one.data.astype(wanted)
                    mark_changed(one)
        return self

    def cpu(self: Self) -> Self:
        """Return the module, which is on the CPU."""
        return self

    def float(self: Self) -> Self:
        """Convert to float32: ``to(numpy.float32)``."""
        return self.to(np.float32)

    def double(self: Self) -> Self:
        """Convert to float64: ``to(numpy.float64)``."""
        return self.to(np.float64)

    def half(self: Self) -> Self:
        """Convert to float16: ``to(numpy.float16)``. NumPy computes slowly in it."""
        return self.to(np.float16)

    # -- printing ---------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return what ``repr`` prints between the brackets: the settings."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [f"({name}): {child!r}" for name, child in self._own(MODULE)]
        return format_tree(type(self).__name__, extra, children)


def format_tree(name: str, extra: str, children: list[str]) -> str:
    """Return ``name(extra)``, with one indented entry a line if there are children."""
    if not children and "\n" not in extra:
        return f"{name}({extra})"
    lines = "\n".join(([extra] if extra else []) + children)
    return f"{name}(\n  " + lines.replace("\n", "\n  ") + "\n)"


_CLASSES[MODULE] = Module
