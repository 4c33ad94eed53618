"""Optimisers: parameters and state after each step, with the settings that PyTorch tries."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.testing._internal.common_optimizers import optim_db

import lucid
from lucid import optim
from tests.peer.compare import Outcome, Problem, call, compare, differing
from tests.peer.convert import AbsentError, Converter, bind
from tests.peer.tally import Case, Tally

DTYPES = (torch.float32, torch.float64)
SHAPES = ((3, 4), (5,), (), (2, 0))
STEPS = 12


def grouped(form: str, params: list[Any]) -> Any:
    """Return parameters as an optimiser takes them: a list, with names, or in groups."""
    if form == "names":
        return [(f"p{index}", param) for index, param in enumerate(params)]
    if form == "groups":
        return [{"params": params[:1], "lr": 0.03}, {"params": params[1:], "weight_decay": 0.2}]
    return params


def run_one(info: Any, kwargs: dict[str, Any], form: str, dtype: torch.dtype) -> Problem | None:
    """Return how a run of lucid's optimiser differs from PyTorch's."""
    name = info.optim_cls.__name__
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in SHAPES]
    theirs = [torch.tensor(array, dtype=dtype, requires_grad=True) for array in arrays]
    convert = Converter("strided")
    ours = [convert(param) for param in theirs]
    one = call(lambda: info.optim_cls(grouped(form, theirs), **kwargs))
    args, named = bind(name, getattr(optim, name), (grouped(form, ours),), convert(kwargs))
    two = call(lambda: getattr(optim, name)(*args, **named))
    if one.error is not None or two.error is not None:
        return compare(one, Outcome() if two.error is None else two, exact=False)
    for step in range(STEPS):
        for index, (param, own) in enumerate(zip(theirs, ours)):
            grad = rng.standard_normal(own.shape) * (step != 3)
            absent = index == 1 and step in (0, 5)
            param.grad = None if absent else torch.tensor(grad, dtype=dtype)
            own.grad = None if absent else lucid.tensor(grad, dtype=own.dtype)
        results = call(one.value.step), call(two.value.step)
        problem = compare(*results, exact=False)
        if problem is not None:
            return problem
        for param, own in zip(theirs, ours):
            problem = differing(param, own, exact=False)
            kept = two.value.state.get(own)
            if problem is None and kept:  # PyTorch's may exist before the first gradient
                problem = states(one.value.state[param], kept)
            if problem is not None:
                return Problem(problem.kind, f"step {step}: {problem.text}")
    return None


def states(theirs: dict[str, Any], ours: dict[str, Any]) -> Problem | None:
    """Return how the state of a parameter differs."""
    for key, value in theirs.items():
        if value is None:
            continue
        if key not in ours:
            return Problem("structure", f"the state has no {key}")
        own = ours[key]
        if isinstance(own, np.ndarray):
            own = lucid.from_numpy(own)
        if isinstance(own, float):
            own = lucid.tensor(own)
        if isinstance(value, torch.Tensor) and not isinstance(own, lucid.Tensor):
            value = value.item()
        problem = differing(value, own, exact=False)
        if problem is not None:
            return Problem(problem.kind, f"{key}: {problem.text}")
    return None


def run(tally: Tally, whole: bool, only: str = "") -> None:
    """Compare every optimiser."""
    for info in optim_db:
        name = info.optim_cls.__name__
        if not hasattr(optim, name) or only not in f"optim.{name}":
            continue
        for backend in tally.backends:
            lucid.set_backend(backend)
            for dtype in DTYPES:
                for sample in info.optim_inputs_func(device="cpu", dtype=dtype):
                    for form in ("list", "names", "groups") if whole else ("groups",):
                        case = Case(
                            f"optim.{name}",
                            f"{sample.desc}, {form}",
                            str(dtype).removeprefix("torch."),
                            kwargs=sample.kwargs,
                        )
                        try:
                            problem = run_one(info, sample.kwargs, form, dtype)
                        except AbsentError as absent:
                            problem = Problem("absent", str(absent))
                        tally.add(backend, case, problem)
            for error in info.optim_error_inputs_func(device="cpu", dtype=torch.float32):
                sample = error.optimizer_error_input
                tally.add(
                    backend,
                    Case(f"optim.{name}", sample.desc, "errors", kwargs=sample.kwargs),
                    refuse(info, sample),
                )


def refuse(info: Any, sample: Any) -> Problem | None:
    """Return how lucid differs where PyTorch refuses to make an optimiser."""
    name = info.optim_cls.__name__
    params = sample.params
    if params is None:
        params = [torch.nn.Parameter(torch.randn(2, 3)), torch.nn.Parameter(torch.randn(3))]
    seen: dict[int, Any] = {}

    class Once(Converter):
        """A converter that makes one tensor of one tensor: some samples name it twice."""

        def tensor(self, value: torch.Tensor) -> lucid.Tensor:
            if id(value) not in seen:
                seen[id(value)] = super().tensor(value)
            return seen[id(value)]

    convert = Once()
    own = convert(params)  # before PyTorch changes the groups
    theirs = call(lambda: info.optim_cls(params, **sample.kwargs))
    try:
        args, kwargs = bind(name, getattr(optim, name), (own,), convert(sample.kwargs))
    except AbsentError as absent:
        return None if theirs.error is not None else Problem("absent", str(absent))
    ours = call(lambda: getattr(optim, name)(*args, **kwargs))
    if theirs.error is None and ours.error is None:
        return None
    return compare(theirs, ours if ours.error is not None else Outcome(), exact=False)
