"""What optimisers promise besides their formulas."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lucid import from_numpy, kernels
from lucid.autograd import Tensor
from lucid.nn.utils import clip_grad_norm_
from lucid.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
)

KINDS = [SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adamax, NAdam, RAdam, Lion]

ALL: list[tuple[type[Optimizer], dict[str, Any]]] = [
    (SGD, {"lr": 0.02}),
    (SGD, {"lr": 0.02, "momentum": 0.8, "nesterov": True}),
    (Adam, {"lr": 0.1}),
    (Adam, {"lr": 0.1, "amsgrad": True}),
    (AdamW, {"lr": 0.1, "weight_decay": 1e-4}),
    (RMSprop, {"lr": 0.02}),
    (RMSprop, {"lr": 0.01, "momentum": 0.5, "centered": True}),
    (Adagrad, {"lr": 1.0}),
    (Adadelta, {"lr": 0.5, "rho": 0.8}),
    (Adamax, {"lr": 0.1}),
    (NAdam, {"lr": 0.1}),
    (RAdam, {"lr": 0.05}),
    (Lion, {"lr": 0.02}),
]


def parameter(*values: float) -> Tensor:
    return Tensor(np.array(values), dtype=np.float64, requires_grad=True)


@pytest.mark.parametrize("backend", kernels.available_backends())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1e30, 3e38])
def test_numbers_beyond_float32_raise_no_warning(
    kind: type[Optimizer], size: float, backend: str, request: pytest.FixtureRequest
) -> None:
    if backend == "numba":
        pytest.importorskip("llvmlite")
    before = kernels.get_backend()
    request.addfinalizer(lambda: kernels.set_backend(before))
    kernels.set_backend(backend)
    x = Tensor(np.full(3, size), dtype=np.float32, requires_grad=True)
    optimizer = kind([x], lr=1e38)  # type: ignore[call-arg]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            x.grad = Tensor(np.full(3, size), dtype=np.float32)
            clip_grad_norm_(x, 1e20)
            optimizer.step()
    assert caught == []


@pytest.mark.parametrize(("kind", "options"), ALL, ids=str)
@pytest.mark.parametrize("maximize", [False, True])
def test_finds_the_bottom_of_a_bowl(
    kind: type[Optimizer], options: dict[str, Any], maximize: bool
) -> None:
    target, curvature = np.array([1.0, -2.0, 0.5]), np.array([1.0, 4.0, 0.3])
    x = parameter(0, 0, 0)
    optimizer = kind([x], **options, maximize=maximize)  # type: ignore[call-arg]
    sign = -1 if maximize else 1
    for step in range(1500):
        x.grad = Tensor(sign * curvature * (x.data - target), dtype=np.float64)
        optimizer.step()
        optimizer.param_groups[0]["lr"] = options["lr"] * (1 - step / 1500)
    np.testing.assert_allclose(x.data, target, atol=2e-2)


@pytest.mark.parametrize(("kind", "options"), ALL, ids=str)
def test_follows_a_bent_valley(kind: type[Optimizer], options: dict[str, Any]) -> None:
    """Rosenbrock's function, with a milder slope of its walls; its minimum is 0 at (1, 1)."""
    x = parameter(-1.0, 1.5)
    optimizer = kind([x], **options)
    for _ in range(3000):
        a, b = x.data
        gradient = [-2 * (1 - a) - 20 * a * (b - a * a), 10 * (b - a * a)]
        x.grad = Tensor(np.array(gradient), dtype=np.float64)
        optimizer.step()
    a, b = x.data
    assert (1 - a) ** 2 + 5 * (b - a * a) ** 2 < 2e-2


@pytest.mark.parametrize(("kind", "options"), ALL, ids=str)
def test_goes_on_exactly_from_a_state(kind: type[Optimizer], options: dict[str, Any]) -> None:
    gradients = np.random.default_rng(0).standard_normal((10, 2, 4))

    def make() -> tuple[list[Tensor], Optimizer]:
        params = [parameter(1, 2, 3, 4), parameter(4, 3, 2, 1)]
        return params, kind([{"params": params[0]}, {"params": params[1], "lr": 0.03}], **options)

    def train(params: list[Tensor], optimizer: Optimizer, first: int, last: int) -> None:
        for pair in gradients[first:last]:
            for param, gradient in zip(params, pair):
                param.grad = Tensor(gradient, dtype=np.float64)
            optimizer.step()

    params, optimizer = make()
    train(params, optimizer, 0, 4)
    saved = copy.deepcopy(optimizer.state_dict())
    values = [p.data.copy() for p in params]
    train(params, optimizer, 4, 10)

    others, resumed = make()
    resumed.param_groups[1]["lr"] = 123.0
    for other, value in zip(others, values):
        other.data[...] = value
    resumed.load_state_dict(saved)
    train(others, resumed, 4, 10)
    for param, other in zip(params, others):
        np.testing.assert_array_equal(param.data, other.data)
    for group in resumed.param_groups:
        assert group["lr"] != 123.0


def test_the_state_taken_over_is_a_copy() -> None:
    x, y = parameter(1), parameter(1)
    first, second = SGD([x], 0.1, momentum=0.9), SGD([y], 0.1, momentum=0.9)
    x.grad = parameter(1)
    first.step()
    second.load_state_dict(first.state_dict())
    first.step()
    assert second.state[y]["momentum_buffer"].tolist() == [1.0]


@pytest.mark.parametrize(("kind", "options"), ALL, ids=str)
@pytest.mark.parametrize("layout", ["transposed", "strided", "reversed", "gradient", "both"])
def test_any_layout_in_memory_gives_the_same(
    kind: type[Optimizer], options: dict[str, Any], layout: str
) -> None:
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal((6, 8)), rng.standard_normal((3, 6, 8))

    def place(array: np.ndarray) -> np.ndarray:
        if layout in ("transposed", "both"):
            return np.asfortranarray(array)
        if layout == "strided":
            memory = np.zeros((12, 24))
            memory[::2, ::3] = array
            return memory[::2, ::3]
        memory = array[::-1, ::-1].copy()
        return memory[::-1, ::-1]

    plain = Tensor(start, dtype=np.float64)
    odd = from_numpy(start.copy() if layout == "gradient" else place(start))
    assert layout == "gradient" or not odd.data.flags.c_contiguous
    memory = odd.data
    one, two = kind([plain], **options), kind([odd], **options)
    for gradient in gradients:
        plain.grad = Tensor(gradient, dtype=np.float64)
        odd.grad = from_numpy(
            np.asfortranarray(gradient) if layout in ("gradient", "both") else gradient
        )
        one.step()
        two.step()
    np.testing.assert_array_equal(odd.data, plain.data)
    assert odd.data is memory


@pytest.mark.parametrize(("kind", "options"), ALL, ids=str)
def test_gradients_are_read_only_and_data_are_changed_in_place(
    kind: type[Optimizer], options: dict[str, Any]
) -> None:
    x = Tensor(np.ones(40000, np.float32), requires_grad=True)
    memory, gradient = x.data, np.full(40000, 0.5, np.float32)
    gradient.flags.writeable = False
    x.grad = from_numpy(gradient)
    optimizer = kind([x], **{**options, "weight_decay": 0.1})
    optimizer.step()
    optimizer.step()
    assert x.data is memory
    assert len(np.unique(memory)) == 1  # every block alike
    assert memory[0] != 1
    assert (gradient == 0.5).all()


def test_a_step_is_not_recorded_and_raises_the_version() -> None:
    x = parameter(1, 2)
    y = x * x
    optimizer = SGD([x], lr=0.1)
    x.grad = parameter(1, 1)
    optimizer.step()
    assert x.is_leaf
    with pytest.raises(RuntimeError, match=r"changed in place|modified"):
        y.backward(parameter(1, 1))


def test_closure_is_called_with_gradients_on_and_its_loss_returned() -> None:
    from lucid.autograd import is_grad_enabled, no_grad

    x = parameter(3)
    optimizer = SGD([x], lr=0.1)

    def closure() -> float:
        assert is_grad_enabled()
        x.grad = parameter(1)
        return 7.5

    with no_grad():
        assert optimizer.step(closure) == 7.5
    assert x.data.tolist() == [2.9]
    assert optimizer.step() is None


def test_zero_grad() -> None:
    x, unused = parameter(1, 2), parameter(1)
    optimizer = SGD([x, unused])
    x.grad = parameter(3, 4)
    optimizer.zero_grad(set_to_none=False)
    assert x.grad.tolist() == [0, 0]
    assert unused.grad is None
    optimizer.zero_grad()
    assert x.grad is None


def test_groups_have_their_own_settings() -> None:
    x, y, z = parameter(1), parameter(1), parameter(1)
    optimizer = SGD([{"params": [x], "lr": 1.0}, {"params": y}], lr=0.1)
    optimizer.add_param_group({"params": [z], "lr": 0.5, "weight_decay": 1.0})
    for param in (x, y, z):
        param.grad = parameter(1)
    optimizer.step()
    assert [x.item(), y.item(), z.item()] == [0.0, 0.9, 0.0]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0, 0, 1.0]


def test_named_parameters_are_taken_and_their_names_kept() -> None:
    x, y = parameter(1), parameter(2)
    optimizer = SGD(iter([("weight", x), ("bias", y)]), lr=0.1)
    assert optimizer.param_groups[0]["params"] == [x, y]
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


def test_centered_rmsprop_survives_a_constant_gradient() -> None:
    """The variance is then 0 up to rounding; PyTorch can take the root of a negative number."""
    x = Tensor(np.linspace(1, 2, 50, dtype=np.float32), requires_grad=True)
    optimizer = RMSprop([x], lr=1e-3, alpha=0.5, centered=True, eps=1.0)
    x.grad = Tensor(np.linspace(0.1, 7, 50, dtype=np.float32))
    for _ in range(200):
        optimizer.step()
    assert np.isfinite(x.data).all()


def test_repr_lists_the_groups() -> None:
    lines = repr(SGD([parameter(1)], lr=0.25, momentum=0.9)).splitlines()
    assert lines[:2] == ["SGD (", "Parameter Group 0"]
    assert lines[-1] == ")"
    assert "    lr: 0.25" in lines
    assert "    momentum: 0.9" in lines


# -- refusals ---------------------------------------------------------------------------------


def test_bad_parameters() -> None:
    x = parameter(1)
    with pytest.raises(ValueError, match=r"SGD: got an empty parameter list.*only once"):
        SGD([])
    with pytest.raises(TypeError, match="put a single tensor into a list"):
        SGD(x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="parameter 1 must be a tensor, got float"):
        SGD([x, 3.0])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="floating-point dtype, got int64"):
        SGD([Tensor([1, 2])])
    with pytest.raises(ValueError, match="result of an operation; only leaves"):
        SGD([x * 2])
    with pytest.raises(ValueError, match=r"parameter 1 of shape \(1,\) appears more than once"):
        SGD([x, x])
    with pytest.raises(ValueError, match="appears more than once"):
        SGD([{"params": [x]}, {"params": [x]}])
    with pytest.raises(TypeError, match="a set does not have"):
        SGD([{"params": {x}}])
    with pytest.raises(ValueError, match=r"needs the key 'params', got \['param'\]"):
        SGD([{"param": [x]}])
    with pytest.raises(TypeError, match=r"must be a dictionary .*, got Tensor"):
        SGD([{"params": [x]}, x])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"expected \(name, tensor\) pairs"):
        SGD([("a", x), parameter(2)])  # type: ignore[list-item]
    for groups in ([[x], [("b", parameter(2))]], [[("b", parameter(2))], [x]]):
        with pytest.raises(ValueError, match="pairs in all groups or in none"):
            SGD([{"params": group} for group in groups])
    frozen = np.ones(2, np.float32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=r"parameter 0 .* is read-only"):
        SGD([from_numpy(frozen)])


def test_a_refused_group_leaves_the_optimizer_as_it_was() -> None:
    optimizer = SGD([parameter(1)], lr=0.1)
    with pytest.raises(ValueError, match="lr must be at least 0"):
        optimizer.add_param_group({"params": [parameter(2)], "lr": -1})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        (SGD, {"lr": -0.1}, ValueError, "SGD: lr must be at least 0 and finite, got -0.1"),
        (SGD, {"lr": float("nan")}, ValueError, "lr must be"),
        (SGD, {"lr": float("inf")}, ValueError, "lr must be"),
        (SGD, {"lr": 10**400}, ValueError, "lr must be at least 0 and finite, got 1000"),
        (SGD, {"lr": 10**5000}, ValueError, "lr must be at least 0 and finite, got a huge int"),
        (SGD, {"lr": "0.1"}, TypeError, "lr must be a number, got str"),
        (SGD, {"momentum": -1}, ValueError, "momentum must be"),
        (SGD, {"weight_decay": -1}, ValueError, "weight_decay must be"),
        (SGD, {"nesterov": True}, ValueError, "nesterov needs a momentum above 0"),
        (
            SGD,
            {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
            ValueError,
            "dampening of 0, got momentum=0.9, dampening=0.1",
        ),
        (Adam, {"betas": (1.0, 0.9)}, ValueError, r"betas\[0\] must be .* below 1 .*got 1.0"),
        (Adam, {"betas": (0.9, -0.1)}, ValueError, r"betas\[1\] must be at least 0"),
        (Adam, {"betas": 0.9}, TypeError, "betas must be a pair"),
        (AdamW, {"eps": -1e-8}, ValueError, "AdamW: eps must be"),
        (RMSprop, {"alpha": -0.5}, ValueError, "RMSprop: alpha must be"),
        (Adagrad, {"lr_decay": -0.5}, ValueError, "Adagrad: lr_decay must be"),
    ],
)
def test_bad_settings(
    kind: type[Optimizer], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        kind([parameter(1)], **options)


def test_bad_gradients_change_nothing() -> None:
    x, y = parameter(1, 2), parameter(1, 2)
    optimizer = SGD([x, y], lr=0.1)
    x.grad = parameter(1, 1)
    y.grad = parameter(1, 2, 3)
    with pytest.raises(ValueError, match=r"parameter of shape \(2,\) has shape \(3,\)"):
        optimizer.step()
    y.grad = np.ones(2)  # type: ignore[assignment]
    with pytest.raises(TypeError, match="gradient must be a tensor, got ndarray"):
        optimizer.step()
    assert x.tolist() == [1, 2]


def test_states_that_do_not_fit() -> None:
    x = parameter(1, 2)
    optimizer = Adam([x], lr=0.5)
    x.grad = parameter(1, 1)
    optimizer.step()
    good = optimizer.state_dict()
    before = repr(good)

    def changed(**changes: Any) -> dict[str, Any]:
        return {**copy.deepcopy(good), **changes}

    with pytest.raises(TypeError, match=r"Adam.load_state_dict: expected a mapping, got list"):
        optimizer.load_state_dict([])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"key 'state' is missing.*\['weight'\]"):
        optimizer.load_state_dict({"weight": 1})
    with pytest.raises(ValueError, match="expected 1 parameter groups, got 2"):
        optimizer.load_state_dict(changed(param_groups=good["param_groups"] * 2))
    with pytest.raises(ValueError, match="group 0 has 1 parameters, the saved one 2"):
        Adam([x], lr=0.5).load_state_dict(Adam([x, parameter(1)]).state_dict())
    with pytest.raises(ValueError, match=r"lacks the settings \['amsgrad'.*another optimiser"):
        optimizer.load_state_dict(SGD([x]).state_dict())
    with pytest.raises(ValueError, match=r"'exp_avg' of parameter 0 has shape \(3,\)"):
        optimizer.load_state_dict(changed(state={0: {"exp_avg": np.ones(3)}}))
    with pytest.raises(ValueError, match="has the state 'square_avg', expected"):
        optimizer.load_state_dict(changed(state={0: {"square_avg": np.ones(2)}}))
    with pytest.raises(ValueError, match="state for parameter 5"):
        optimizer.load_state_dict(changed(state={5: {}}))
    bad = changed()
    bad["param_groups"][0]["lr"] = -1
    with pytest.raises(ValueError, match="lr must be"):
        optimizer.load_state_dict(bad)
    assert repr(optimizer.state_dict()) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_with_a_wrong_value_is_refused_by_its_key_and_changes_nothing(
    kind: type[Optimizer],
) -> None:
    x = parameter(1.0, 2.0)
    options: dict[str, Any] = {"momentum": 0.9} if kind in (SGD, RMSprop) else {}
    optimizer = kind([x], lr=0.5, **options)  # type: ignore[call-arg, arg-type]
    x.grad = Tensor([0.1, 0.2])
    optimizer.step()
    settings, arrays = dict(optimizer.param_groups[0]), copy.deepcopy(optimizer.state[x])

    def refuse(place: Callable[[dict[str, Any]], dict[str, Any]], values: list[Any]) -> None:
        for key in place(optimizer.state_dict()):
            for value in values:
                bad = copy.deepcopy(optimizer.state_dict())
                place(bad)[key] = value
                with pytest.raises((TypeError, ValueError), match=key):
                    optimizer.load_state_dict(bad)
                assert optimizer.param_groups[0] == settings
                assert optimizer.state[x].keys() == arrays.keys()
                for name in arrays:
                    np.testing.assert_array_equal(optimizer.state[x][name], arrays[name])

    refuse(lambda state: state["param_groups"][0], ["x", None, math.nan, -math.inf, {}])
    refuse(lambda state: state["state"][0], ["x", np.ones(5), np.array(["a", "b"]), [-1.5, 1j]])
    bad = copy.deepcopy(optimizer.state_dict())
    del bad["state"][0][next(iter(arrays))]
    if kind is not SGD:  # which needs no buffer
        with pytest.raises(ValueError, match=f"but lacks.*{next(iter(arrays))}"):
            optimizer.load_state_dict(bad)
    bad["state"][0] = [1]
    with pytest.raises(TypeError, match=r"state of parameter 0 must be a dictionary, got \[1\]"):
        optimizer.load_state_dict(bad)


@pytest.mark.parametrize("step", [-1, 1.5, math.nan, math.inf, np.ones(2)])
def test_a_count_of_steps_is_a_count(step: Any) -> None:
    x = parameter(1.0)
    optimizer = Adam([x])
    x.grad = Tensor([0.1])
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0]["step"] = step
    with pytest.raises(ValueError, match="'step' of parameter 0 must be a count of steps"):
        optimizer.load_state_dict(state)


def test_a_parameter_that_gets_its_first_gradient_late_starts_its_buffer_late() -> None:
    x, y = parameter(1), parameter(1)
    optimizer = SGD([x, y], lr=1.0, momentum=0.5, dampening=0.5)
    x.grad = parameter(2)
    optimizer.step()
    y.grad = parameter(2)
    optimizer.step()
    assert optimizer.state[x]["momentum_buffer"].tolist() == [0.5 * 2 + 0.5 * 2]
    assert optimizer.state[y]["momentum_buffer"].tolist() == [2]
    assert (x.item(), y.item()) == (1 - 2 - 2, 1 - 2)


def test_the_base_does_not_say_what_a_step_is() -> None:
    x = parameter(1)
    optimizer = Optimizer([x], {"lr": 0.1})
    x.grad = parameter(1)
    with pytest.raises(NotImplementedError, match="Optimizer does not say"):
        optimizer.step()


def test_hooks_around_a_step() -> None:
    x = parameter(1.0)
    optimizer, seen = SGD([x], lr=0.5), []
    x.grad = parameter(1.0)
    before = optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(x.item()))
    with optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(x.item())):
        optimizer.step()
    optimizer.step()
    before.remove()
    optimizer.step()
    assert seen == [1.0, 0.5, 0.5]


def test_a_tensor_as_a_rate() -> None:
    x = parameter(1.0)
    optimizer = SGD([{"params": x, "momentum": Tensor([0.5])}], lr=Tensor(0.25))  # type: ignore[arg-type]
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert optimizer.param_groups[0]["momentum"] == 0.5
    with pytest.raises(ValueError, match=r"SGD: lr must be a number or a tensor of one element"):
        SGD([x], lr=Tensor([0.1, 0.2]))  # type: ignore[arg-type]


def test_arguments_that_change_nothing_here() -> None:
    x = parameter(1.0)
    assert AdamW([x], foreach=True, fused=None, capturable=False).defaults["lr"] == 1e-3  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="differentiable"):
        AdamW([x], differentiable=True)  # type: ignore[call-arg]


def test_lion_by_hand() -> None:
    x = parameter(1.0)
    optimizer = Lion([x], lr=0.1, betas=(0.5, 0.75), weight_decay=0.5)
    expected, mean = 1.0, 0.0
    for gradient in (1.0, -2.0, 0.25, 8.0):
        x.grad = parameter(gradient)
        optimizer.step()
        expected = expected * 0.95 - 0.1 * np.sign(0.5 * mean + 0.5 * gradient)
        mean = 0.75 * mean + 0.25 * gradient
        assert math.isclose(x.item(), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: Adadelta([x], rho=1.5), "Adadelta: rho must be between 0 and 1"),
        (lambda x: NAdam([x], betas=(0.9, 1.0)), r"NAdam: betas\[1\] must be"),
        (lambda x: Adamax([x], lr=-1), "Adamax: lr must be at least 0"),
    ],
)
def test_bad_settings_of_the_rarer_ones(call: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(parameter(1.0))
