"""Every option of every optimiser against PyTorch, over whole runs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lucid import from_numpy, optim
from lucid.autograd import Tensor

torch = pytest.importorskip("torch")

STEPS = 25


def grid(**options: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(options, values)) for values in itertools.product(*options.values())]


NAMES = ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam"]
CASES = [
    *(
        ("SGD", o)
        for o in grid(
            lr=[0.05],
            momentum=[0, 0.9],
            dampening=[0, 0.3],
            weight_decay=[0, 0.02],
            nesterov=[False, True],
            maximize=[False, True],
        )
        if not (o["nesterov"] and (o["momentum"] == 0 or o["dampening"] != 0))
    ),
    *(
        (name, o)
        for name in ("Adam", "AdamW")
        for o in grid(
            lr=[0.03],
            betas=[(0.9, 0.999), (0.5, 0.7)],
            eps=[1e-8, 1e-3],
            weight_decay=[0, 0.1],
            amsgrad=[False, True],
            maximize=[False, True],
        )
    ),
    *(
        ("RMSprop", o)
        for o in grid(
            lr=[0.01],
            alpha=[0.99, 0.6],
            weight_decay=[0, 0.1],
            momentum=[0, 0.9],
            centered=[False, True],
            maximize=[False, True],
        )
    ),
    *(
        ("Adagrad", o)
        for o in grid(
            lr=[0.1],
            lr_decay=[0, 0.1],
            weight_decay=[0, 0.1],
            initial_accumulator_value=[0, 0.5],
            maximize=[False, True],
        )
    ),
    *((name, {}) for name in NAMES),
]

SHAPES = [(3, 4), (), (0, 2), (5,), (31, 33)]
# Longer than a block. In float64 only: of so many elements one always has a gradient that cancels
# with its weight decay, so that in float32 its direction is a matter of rounding.
LONG = (300, 131)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_equals_torch_over_a_run(name: str, options: dict[str, Any], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    shapes = [*SHAPES, LONG] if dtype == np.float64 else SHAPES
    starts = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    ours = [Tensor(start, dtype=dtype, requires_grad=True) for start in starts]
    theirs = [torch.tensor(start, requires_grad=True) for start in starts]
    optimizer = getattr(optim, name)(ours, **options)
    reference = getattr(torch.optim, name)(theirs, foreach=False, **options)
    for step in range(STEPS):
        for index, (a, b) in enumerate(zip(ours, theirs)):
            if index == 3 and step in (0, 1, 7):  # a parameter that is sometimes unused
                a.grad, b.grad = None, None
                continue
            gradient = rng.standard_normal(a.shape).astype(dtype)
            a.grad = from_numpy(np.asarray(gradient))
            b.grad = torch.tensor(gradient)
        optimizer.step()
        reference.step()
    # float32 sums of opposite signs lose digits: compare on the scale of the whole array.
    tolerance = 1e-5 if dtype == np.float32 else 1e-11
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=tolerance, atol=tolerance)
        assert a.dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_defaults_and_argument_order_are_torchs(name: str) -> None:
    import inspect

    ours = inspect.signature(getattr(optim, name)).parameters
    theirs = inspect.signature(getattr(torch.optim, name)).parameters
    shared = [key for key in theirs if key in ours]
    positional = [key for key in ours if ours[key].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert positional == shared[: len(positional)]
    assert {key: ours[key].default for key in shared} == {k: theirs[k].default for k in shared}


def test_state_dict_has_torchs_form() -> None:
    start = np.ones(3, np.float32)
    p, q = Tensor(start, requires_grad=True), torch.tensor(start, requires_grad=True)
    p.grad, q.grad = Tensor(start), torch.tensor(start)
    ours, theirs = optim.Adam([p], amsgrad=True), torch.optim.Adam([q], amsgrad=True)
    ours.step()
    theirs.step()
    state, reference = ours.state_dict(), theirs.state_dict()
    assert state.keys() == reference.keys()
    assert state["param_groups"][0]["params"] == reference["param_groups"][0]["params"] == [0]
    assert state["state"].keys() == reference["state"].keys()
    assert state["state"][0].keys() == reference["state"][0].keys()
    for key, value in reference["state"][0].items():
        np.testing.assert_allclose(state["state"][0][key], value.numpy(), rtol=1e-6)


def test_takes_torchs_state_and_goes_on_alike() -> None:
    rng = np.random.default_rng(1)
    start = rng.standard_normal(6).astype(np.float32)
    q = torch.tensor(start, requires_grad=True)
    theirs = torch.optim.AdamW([q], lr=0.1)
    for _ in range(3):
        q.grad = torch.tensor(rng.standard_normal(6).astype(np.float32))
        theirs.step()
    saved = theirs.state_dict()
    saved["state"] = {
        number: {name: value.numpy().copy() for name, value in values.items()}
        for number, values in saved["state"].items()
    }
    p = Tensor(q.detach().numpy(), requires_grad=True)
    ours = optim.AdamW([p])
    ours.load_state_dict(saved)
    for _ in range(3):
        gradient = rng.standard_normal(6).astype(np.float32)
        p.grad, q.grad = Tensor(gradient), torch.tensor(gradient)
        ours.step()
        theirs.step()
    np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-5)
