"""Layers and losses: outputs, buffers and gradients, on PyTorch's samples for them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.testing._internal.common_modules import FunctionInput, ModuleInput, module_db

import lucid
from lucid import nn
from tests.peer.compare import Outcome, Problem, call, compare, gradients, parts
from tests.peer.convert import (
    AbsentError,
    Converter,
    bind,
    copied,
    doubled,
    dtype_of,
    leaves_of,
    some_layouts,
)
from tests.peer.tally import Case, Tally

DTYPES = (torch.float32, torch.float64, torch.float16)


def own_inputs(name: str, dtype: torch.dtype, derive: bool) -> Iterator[ModuleInput]:
    """Yield samples for the layers of which PyTorch's table holds none."""

    def tensor(*shape: int) -> torch.Tensor:
        return (torch.rand(shape, dtype=torch.float64) * 9 - 4.5).to(dtype).requires_grad_(derive)

    shapes = [(4, 3, 5, 2), (1, 3, 4, 4), (0, 3, 2, 2)]
    calls: dict[str, list[tuple[Any, ...]]] = {
        "Flatten": [(), (0,), (2, 3), (-2, -1)],
        "Identity": [(), (1, 2)],
        "Unflatten": [(1, (3, 1)), (-3, [1, 3]), (1, (-1, 3))],
        "Hardsigmoid": [()],
        "Dropout": [(0.0,), (1.0,)],
        "Dropout2d": [(0.0,), (1.0,)],
    }
    for arguments in calls[name]:
        for shape in shapes:
            yield ModuleInput(FunctionInput(*arguments), FunctionInput(tensor(*shape)))


OWN = ("Flatten", "Identity", "Unflatten", "Hardsigmoid", "Dropout", "Dropout2d")


def by_name(constructor: Any, sample: FunctionInput) -> dict[str, Any]:
    """Return the arguments of PyTorch's layer by name: lucid may have them in another order."""
    return dict(inspect.signature(constructor).bind(*sample.args, **sample.kwargs).arguments)


def has_names(constructor: Any) -> bool:
    """Return whether PyTorch's layer tells the names of its arguments."""
    return "args" not in inspect.signature(constructor).parameters


def check(
    tally: Tally,
    theirs_class: Any,
    sample: ModuleInput,
    case: Case,
    dtype: torch.dtype,
    training: bool,
    layouts: tuple[str, ...],
) -> None:
    """Compare one layer: what it gives, what it keeps, and its gradients."""
    name = theirs_class.__name__
    forward = sample.forward_input or FunctionInput()

    def build() -> Any:
        module = theirs_class(*sample.constructor_input.args, **sample.constructor_input.kwargs)
        return module.to(dtype).train(training)

    built = call(build)
    reference: Outcome = built
    state = {}
    if built.error is None:
        state = {key: value.clone() for key, value in built.value.state_dict().items()}
        reference = call(lambda: built.value(*copied(forward.args), **copied(forward.kwargs)))
    for layout in layouts:
        for backend in tally.backends:
            lucid.set_backend(backend)
            convert = Converter(layout)
            try:
                problem = compare_module(
                    name, theirs_class, sample, built, reference, state, convert, training, dtype
                )
            except AbsentError as absent:
                problem = None if reference.error else Problem("absent", str(absent))
            tally.add(backend, replace(case, layout=layout), problem)


def compare_module(
    name: str,
    theirs_class: Any,
    sample: ModuleInput,
    built: Outcome,
    reference: Outcome,
    state: dict[str, torch.Tensor],
    convert: Converter,
    training: bool,
    dtype: torch.dtype,
) -> Problem | None:
    """Return how lucid's layer differs from PyTorch's."""
    ours_class = getattr(nn, name)
    forward = sample.forward_input or FunctionInput()
    arguments = sample.constructor_input
    args, kwargs = convert(arguments.args), convert(arguments.kwargs)
    if has_names(theirs_class):
        args, kwargs = (), convert(by_name(theirs_class, arguments))
    if name != "Identity":
        args, kwargs = bind(f"nn.{name}", ours_class, args, kwargs)

    def build() -> Any:
        return ours_class(*args, **kwargs).to(dtype_of(dtype)).train(training)

    made = call(build)
    if made.error is not None or built.error is not None:
        return compare(reference, made, exact=False)
    module = made.value
    loaded = call(lambda: module.load_state_dict({key: v.numpy() for key, v in state.items()}))
    if loaded.error is not None:
        return Problem("structure", str(loaded.error))
    convert.leaves.clear()
    inputs, named = convert(forward.args), convert(forward.kwargs)
    ours = call(lambda: module(*inputs, **named))

    def truth() -> Any:
        exact = copy.deepcopy(built.value)
        exact.load_state_dict(state)
        return exact.double()(*doubled(forward.args), **doubled(forward.kwargs))

    problem = compare(reference, ours, exact=False, truth=truth)
    if problem is not None or reference.error is not None:
        return problem
    for key, value in built.value.state_dict().items():
        kept = compare(Outcome(value), Outcome(module.state_dict()[key]), exact=False)
        if kept is not None:
            return Problem(kept.kind, f"{key}: {kept.text}")
    if dtype is not torch.float64:
        return None
    theirs_leaves = leaves_of(forward.args) + leaves_of(forward.kwargs)
    our_leaves = list(convert.leaves)
    parameters = dict(module.named_parameters())
    for key, parameter in built.value.named_parameters():
        theirs_leaves.append(parameter)
        our_leaves.append(parameters[key])
    if not theirs_leaves:
        return None
    return gradients(
        parts(reference.value), parts(ours.value), theirs_leaves, our_leaves, second=True
    )


def run(tally: Tally, whole: bool, only: str = "") -> None:
    """Compare every layer and loss."""
    infos = {info.module_cls.__name__: info for info in module_db}
    for name in sorted({*infos, *OWN}):
        if not hasattr(nn, name) or only not in f"nn.{name}":
            continue
        info = infos.get(name)
        theirs_class = getattr(torch.nn, name)
        for dtype in DTYPES:
            derive = dtype is torch.float64
            for training in (True, False):
                torch.manual_seed(0)
                label = str(dtype).removeprefix("torch.")
                found = (
                    own_inputs(name, dtype, derive)
                    if info is None
                    else info.module_inputs_func(
                        info, device="cpu", dtype=dtype, requires_grad=derive, training=training
                    )
                )
                for number, sample in enumerate(found):
                    layouts = some_layouts(number, whole)
                    case = described(name, sample, label)
                    check(tally, theirs_class, sample, case, dtype, training, layouts)
        if info is None or info.module_error_inputs_func is None:
            continue
        torch.manual_seed(0)
        for error in info.module_error_inputs_func(
            info, device="cpu", dtype=torch.float32, requires_grad=False, training=True
        ):
            sample = error.module_error_input
            case = described(name, sample, "errors")
            check(tally, theirs_class, sample, case, torch.float32, True, ("contiguous",))


def described(name: str, sample: ModuleInput, dtype: str) -> Case:
    """Return the case of a sample: the layer's arguments, then those of its call."""
    forward = sample.forward_input or FunctionInput()
    arguments = {**sample.constructor_input.kwargs, **forward.kwargs}
    return Case(
        f"nn.{name}",
        sample.desc,
        dtype,
        "",
        (*sample.constructor_input.args, *forward.args),
        arguments,
    )
