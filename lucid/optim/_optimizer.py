"""What all optimisers share: parameter groups, their settings, and the state per parameter."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from lucid import kernels
from lucid.autograd import Tensor, enable_grad
from lucid.autograd._tensor import mark_changed, wrap
from lucid.nn.modules._hooks import RemovableHandle, register
from lucid.optim import _settings

Array = np.ndarray
Group = dict[str, Any]
StepHook = Callable[["Optimizer", tuple[Any, ...], dict[str, Any]], None]
Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


class Optimizer:
    """The base of all optimisers.

    A subclass names the kernels' update (``kind``) and what it keeps per parameter
    (``state_names``), and says of which settings it needs numbers (``numbers``).

    Args:
        params: tensors, or ``(name, tensor)`` pairs as from ``model.named_parameters()``, or
            dictionaries with a key ``"params"`` and settings of their own, one for each group.
        defaults: the settings of groups that do not bring their own.

    Attributes:
        param_groups: one dictionary per group: ``"params"`` and the settings. Changing a setting
            takes effect at the next step.
        state: what the optimiser remembers, per parameter: NumPy arrays and counts by name (in
            PyTorch tensors).
        defaults: the settings of groups that do not bring their own.

    Raises:
        TypeError: if ``params`` does not hold floating-point tensors.
        ValueError: if it is empty, holds a tensor twice or the result of an operation, or if a
            setting is out of range.
    """

    kind: ClassVar[str] = ""
    numbers: ClassVar[tuple[str, ...]] = ()  # settings that are at least 0
    state_names: ClassVar[tuple[str, ...]] = ()
    number_names: ClassVar[tuple[str, ...]] = ()  # of these, beside "step", the single numbers
    # Of these, those that some settings do without: whether a group's need them.
    optional_names: ClassVar[Mapping[str, Callable[[Group], bool]]] = {}

    param_groups: list[Group]
    state: dict[Tensor, dict[str, Any]]

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        who = type(self).__name__
        if isinstance(params, (Tensor, Mapping, str)) or not isinstance(params, Iterable):
            raise TypeError(
                f"{who}: params must be an iterable of tensors or of dictionaries, "
                f"got {type(params).__name__}; put a single tensor into a list"
            )
        self.defaults = defaults
        self.state = {}
        self.param_groups = []
        self._step_called = False  # a scheduler warns when it is stepped first
        self._step_pre_hooks: dict[int, StepHook] = {}
        self._step_post_hooks: dict[int, StepHook] = {}

        entries: list[Any] = list(params)
        if not entries:
            raise ValueError(
                f"{who}: got an empty parameter list; a generator such as model.parameters() "
                "can be used only once"
            )
        groups = entries if isinstance(entries[0], Mapping) else [{"params": entries}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add a group of parameters, for example layers that are to be trained from now on.

        Args:
            param_group: ``"params"`` (a tensor or several) and the settings that differ from
                ``defaults``. A tensor of one element is taken as the number that it holds now.

        Raises:
            TypeError: if it is no mapping, or does not hold floating-point tensors.
            ValueError: if a parameter is no leaf or is there already, if there is none, if only
                some groups have names, or if a setting is out of range. The optimiser is then
                unchanged.
        """
        who = type(self).__name__
        if not isinstance(param_group, Mapping):
            raise TypeError(
                f"{who}: a parameter group must be a dictionary with the key 'params', "
                f"got {type(param_group).__name__}"
            )
        if "params" not in param_group:
            raise ValueError(
                f"{who}: a parameter group needs the key 'params', got {sorted(param_group)}"
            )
        group = {**self.defaults, **param_group}
        for name, value in group.items():
            if isinstance(value, Tensor) and name != "params":
                if value.data.size != 1:
                    raise ValueError(
                        f"{who}: {name} must be a number or a tensor of one element, got shape "
                        f"{value.shape}"
                    )
                group[name] = value.item()
        entries = group["params"]
        if isinstance(entries, (set, frozenset)):
            raise TypeError(f"{who}: parameters need an order, which a set does not have")
        if isinstance(entries, Tensor):
            entries = [entries]
        params, names = _split_names(list(entries), who)
        if not params:
            raise ValueError(f"{who}: got an empty parameter list in a group")
        if self.param_groups and bool(names) != ("param_names" in self.param_groups[0]):
            raise ValueError(
                f"{who}: expected (name, tensor) pairs in all groups or in none, got "
                f"{'pairs' if names else 'tensors'} after a group of the other kind"
            )

        known = {id(p) for other in self.param_groups for p in other["params"]}
        for index, param in enumerate(params):
            if not isinstance(param, Tensor):
                raise TypeError(
                    f"{who}: parameter {index} must be a tensor, got {type(param).__name__}"
                )
            if param.data.dtype.kind != "f":
                raise TypeError(
                    f"{who}: parameter {index} must have a floating-point dtype, got {param.dtype}"
                )
            if not param.is_leaf:
                raise ValueError(
                    f"{who}: parameter {index} of shape {param.shape} is the result of an "
                    "operation; only leaves can be optimised (use detach())"
                )
            if not param.data.flags.writeable:
                raise ValueError(f"{who}: parameter {index} of shape {param.shape} is read-only")
            if id(param) in known:
                raise ValueError(
                    f"{who}: parameter {index} of shape {param.shape} appears more than once"
                )
            known.add(id(param))
        self._check_settings(group)

        group["params"] = params
        if names:
            group["param_names"] = names
        self.param_groups.append(group)

    def _check_settings(self, group: Group) -> None:
        """Raise if a setting of this group is out of range."""
        for name in self.numbers:
            _settings.not_negative(type(self).__name__, name, group[name])
        if "betas" in group:
            _settings.pair(type(self).__name__, "betas", group["betas"])

    def _update(self, group: Group, params: list[Tensor]) -> None:
        """Change the parameters, which all have gradients, by one step."""
        if not self.kind:
            raise NotImplementedError(f"{type(self).__name__} does not say what a step is")
        counts = self._count(params)
        names = [
            name
            for name in self.state_names
            if name != "step"
            and (name not in self.optional_names or self.optional_names[name](group))
        ]
        kernels.active().optimizer_step(
            self.kind,
            [p.data for p in params],
            [p.grad.data for p in params],  # type: ignore[union-attr]
            {name: self._arrays(params, name, self._first_value(group)) for name in names},
            counts,
            group,
        )

    def _first_value(self, group: Group) -> float:
        """Return what arrays of state are filled with at first."""
        return 0.0

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or with ``set_to_none=False`` make them zero."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                param.grad = None if set_to_none else wrap(np.zeros_like(param.grad.data))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change the parameters once, along their gradients; those without one are left alone.

        Nothing is recorded on the tape. A graph that still needs the old value of a parameter
        raises when it runs backward.

        Args:
            closure: computes the loss and calls ``backward`` on it; called first.

        Returns:
            What the closure returned, or None.

        Raises:
            TypeError: if a gradient is no tensor.
            ValueError: if a gradient has another shape than its parameter.
        """
        for hook in tuple(self._step_pre_hooks.values()):
            hook(self, (closure,), {})
        loss = self._step(closure)
        self._step_called = True
        for hook in tuple(self._step_post_hooks.values()):
            hook(self, (closure,), {})
        return loss

    def register_step_pre_hook(self, hook: StepHook) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step, with the step's arguments.

        What it returns is ignored.
        """
        return register(self._step_pre_hooks, hook, prepend=False)

    def register_step_post_hook(self, hook: StepHook) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return register(self._step_post_hooks, hook, prepend=False)

    def _step(self, closure: Callable[[], Any] | None) -> Any:
        """Take the step between the hooks, and return the closure's loss."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        ready = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        for params in ready:
            for param in params:
                self._check_grad(param)
        for group, params in zip(self.param_groups, ready):
            if params:
                with np.errstate(all="ignore"):  # infinities and NaN arise silently, as in PyTorch
                    self._update(group, params)
                for param in params:
                    mark_changed(param)
        return loss

    def _check_grad(self, param: Tensor) -> None:
        grad: Any = param.grad
        if not isinstance(grad, Tensor):
            raise TypeError(
                f"{type(self).__name__}: a gradient must be a tensor, got {type(grad).__name__}"
            )
        if grad.data.shape != param.data.shape:
            raise ValueError(
                f"{type(self).__name__}: the gradient of a parameter of shape {param.shape} "
                f"has shape {grad.shape}"
            )

    def _arrays(self, params: list[Tensor], name: str, fill: float) -> list[Array]:
        """Return the state array ``name`` of each parameter, made on first use."""
        arrays = []
        for param in params:
            state = self.state.setdefault(param, {})
            if name not in state:
                state[name] = np.full_like(param.data, fill)
            arrays.append(state[name])
        return arrays

    def _count(self, params: list[Tensor]) -> list[int]:
        """Count one more step for each parameter and return the counts."""
        steps = []
        for param in params:
            state = self.state.setdefault(param, {})
            state["step"] = state.get("step", 0) + 1
            steps.append(state["step"])
        return steps

    # -- saving -----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain dictionaries, with parameters replaced by their number.

        The form is PyTorch's: ``{"state": {0: {...}}, "param_groups": [{"lr": ..., "params":
        [0]}]}``. The arrays are the optimiser's own, not copies. ``lucid.save`` takes it, alone
        or inside a larger mapping.
        """
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for param in group["params"]:
                numbers[id(param)] = len(numbers)
            settings = {key: value for key, value in group.items() if key != "params"}
            groups.append({**settings, "params": [numbers[id(p)] for p in group["params"]]})
        state = {numbers[id(param)]: dict(values) for param, values in self.state.items()}
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state, so that training goes on exactly as it would have.

        Args:
            state_dict: from ``state_dict()`` of an optimiser of the same kind, over parameters of
                the same shapes in the same order. Its arrays are copied, and take the dtype of
                their parameter; the settings of the groups are taken over too.

        Raises:
            TypeError: if it is no mapping, or a value in it is of a wrong kind.
            ValueError: if it does not fit. The optimiser is then unchanged.
        """
        who = f"{type(self).__name__}.load_state_dict"
        saved_groups, saved_state = _parts(state_dict, who)
        if len(saved_groups) != len(self.param_groups):
            raise ValueError(
                f"{who}: expected {len(self.param_groups)} parameter groups, "
                f"got {len(saved_groups)}"
            )
        by_number: dict[Any, Tensor] = {}
        new_groups = []
        for index, (group, saved) in enumerate(zip(self.param_groups, saved_groups)):
            if len(saved["params"]) != len(group["params"]):
                raise ValueError(
                    f"{who}: group {index} has {len(group['params'])} parameters, the saved one "
                    f"{len(saved['params'])}"
                )
            missing = sorted(set(self.defaults) - set(saved))
            if missing:
                raise ValueError(
                    f"{who}: group {index} lacks the settings {missing}; was it saved from "
                    "another optimiser?"
                )
            by_number.update(zip(saved["params"], group["params"]))
            settings = copy.deepcopy({key: saved[key] for key in saved if key != "params"})
            for name, default in self.defaults.items():
                if isinstance(default, tuple) and isinstance(settings[name], list):  # from JSON
                    settings[name] = tuple(settings[name])
            self._check_kinds(settings, who, index)
            # Nobody may begin with a rate below zero, but a schedule may have taken it there.
            begun = {"lr": settings["initial_lr"]} if "initial_lr" in settings else {}
            self._check_settings({**settings, **begun})
            new_groups.append({**settings, "params": group["params"]})
        new_state = {}
        for number, values in saved_state.items():
            if number not in by_number:
                raise ValueError(f"{who}: there is state for parameter {number!r}, but none such")
            if not isinstance(values, Mapping):
                raise TypeError(
                    f"{who}: the state of parameter {number} must be a dictionary, got {values!r}"
                )
            new_state[by_number[number]] = self._take_state(number, by_number[number], values, who)
        self.param_groups = new_groups
        self.state = new_state

    def _take_state(
        self, number: Any, param: Tensor, values: Mapping[str, Any], who: str
    ) -> dict[str, Any]:
        taken: dict[str, Any] = {}
        for name, value in values.items():
            if name not in self.state_names:
                raise ValueError(
                    f"{who}: parameter {number} has the state {name!r}, expected "
                    f"{list(self.state_names)}; was it saved from another optimiser?"
                )
            if value is None:
                continue
            what = f"{name!r} of parameter {number}"
            try:
                array = np.asarray(value.data if isinstance(value, Tensor) else value)
            except ValueError as error:
                raise TypeError(f"{who}: {what} must be an array: {error}") from None
            if array.dtype.kind not in "fiu":
                raise TypeError(f"{who}: {what} must hold numbers, got dtype {array.dtype}")
            if name == "step":
                if array.size != 1 or not 0 <= array.item() < 2**63 or array.item() % 1:
                    raise ValueError(f"{who}: {what} must be a count of steps, got {value!r}")
                taken[name] = int(array.item())
                continue
            if name in self.number_names:
                _settings.finite(who, what, array.item() if array.size == 1 else array)
                taken[name] = float(array.item())
                continue
            if array.shape != param.shape:
                raise ValueError(
                    f"{who}: {what} has shape {array.shape}, its parameter {param.shape}"
                )
            # The parameter's layout in memory, whatever the saved one was.
            taken[name] = np.empty_like(param.data)
            np.copyto(taken[name], array, casting="same_kind")
        lacking = set(self.state_names) - set(self.optional_names) - set(taken)
        if taken and lacking:
            raise ValueError(
                f"{who}: parameter {number} has the state {sorted(taken)}, but lacks "
                f"{sorted(lacking)}"
            )
        return taken

    def _check_kinds(self, settings: Group, who: str, index: int) -> None:
        """Raise unless the settings of a saved group are of the kinds that the defaults are of."""
        for name, default in self.defaults.items():
            what = f"{name!r} of group {index}"
            if isinstance(default, bool):
                _settings.flag(who, what, settings[name])
            elif isinstance(default, (int, float)):
                _settings.finite(who, what, settings[name])
        if "initial_lr" in settings:
            _settings.finite(who, f"'initial_lr' of group {index}", settings["initial_lr"])

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [
                f"    {key}: {group[key]}"
                for key in sorted(group)
                if key not in ("params", "param_names")
            ]
        return "\n".join([*lines, ")"])


def _split_names(entries: list[Any], who: str) -> tuple[list[Any], list[str]]:
    """Split ``(name, tensor)`` pairs; plain tensors have no names."""
    if not any(isinstance(entry, tuple) for entry in entries):
        return entries, []
    for entry in entries:
        if not (isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)):
            raise TypeError(
                f"{who}: expected (name, tensor) pairs throughout, got {type(entry).__name__}"
            )
    return [tensor for _, tensor in entries], [name for name, _ in entries]


def _parts(
    state_dict: Any, who: str
) -> tuple[Sequence[Mapping[str, Any]], Mapping[Any, Mapping[str, Any]]]:
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"{who}: expected a mapping, got {type(state_dict).__name__}")
    for key in ("state", "param_groups"):
        if key not in state_dict:
            raise ValueError(
                f"{who}: the key {key!r} is missing; expected what state_dict() returns, "
                f"got the keys {sorted(map(str, state_dict))[:8]}"
            )
    groups, state = state_dict["param_groups"], state_dict["state"]
    if not isinstance(groups, (list, tuple)) or not isinstance(state, Mapping):
        raise ValueError(f"{who}: 'param_groups' must be a list and 'state' a dictionary")
    for index, group in enumerate(groups):
        if not isinstance(group, Mapping) or "params" not in group:
            raise ValueError(f"{who}: group {index} must be a dictionary with the key 'params'")
        numbers = group["params"]
        if not isinstance(numbers, (list, tuple)) or not all(isinstance(n, int) for n in numbers):
            raise TypeError(
                f"{who}: 'params' of group {index} must be a list of integers, got {numbers!r}"
            )
    return groups, state
