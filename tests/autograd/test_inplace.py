"""Changes in place: the right gradient, or an error; never a silently wrong one."""

from __future__ import annotations

import numpy as np
import pytest

import lucid
from lucid.autograd import gradcheck


def leaf(*values: float) -> lucid.Tensor:
    return lucid.tensor(list(values), lucid.float64, requires_grad=True)


# -- right gradients ------------------------------------------------------------------------------

CHANGES = {
    "add": lambda y, x: y.add_(x),
    "iadd": lambda y, x: y.__iadd__(2 * x),
    "isub": lambda y, x: y.__isub__(x * x),
    "imul": lambda y, x: y.__imul__(x),
    "mul_itself": lambda y, x: y.mul_(y),
    "itruediv": lambda y, x: y.__itruediv__(x),
    "ipow": lambda y, x: y.__ipow__(3),
    "pow_tensor": lambda y, x: y.pow_(x),
    "sub": lambda y, x: y.sub_(1.5),
    "div": lambda y, x: y.div_(2),
    "clamp": lambda y, x: y.clamp_(1.0, 3.0),
    "copy": lambda y, x: y.copy_(x[:1]),
    "fill": lambda y, x: y.fill_(x[0]),
    "zero": lambda y, x: y.zero_(),
    "setitem": lambda y, x: y.__setitem__(slice(0, 2), x[1:]),
    "setitem_number": lambda y, x: y.__setitem__(1, 7.0),
    "setitem_array": lambda y, x: y.__setitem__([2, 0], x[:2] * 3),
    "setitem_mask": lambda y, x: y.__setitem__(y > 2.5, x[0]),
    "setitem_broadcast": lambda y, x: y.__setitem__(slice(None), x[2]),
    "setitem_front_axis": lambda y, x: y.__setitem__(slice(None), x.reshape(1, 3)),
    "view": lambda y, x: y[1:].mul_(x[0]),
    "view_of_view": lambda y, x: y.reshape(1, 3)[:, 1].add_(x[:1]),
    "transposed_view": lambda y, x: y.reshape(3, 1).T[0, :2].mul_(5),
    "split_view": lambda y, x: y.split(2)[1].mul_(3),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_gradient_after_a_change(change) -> None:
    def fn(x: lucid.Tensor) -> lucid.Tensor:
        y = x * 1.5
        change(y, x)
        return y * y.sum()

    assert gradcheck(fn, leaf(0.7, 1.9, 3.1))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_change_keeps_memory_and_identity(change) -> None:
    x = lucid.tensor([0.7, 1.9, 3.1])
    y = x * 1.5
    array = y.data
    change(y, x)
    assert y.data is array


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_same_values_with_and_without_grad(change) -> None:
    results = []
    for requires_grad in (False, True):
        x = lucid.tensor([0.7, 1.9, 3.1], requires_grad=requires_grad)
        y = x * 1.5
        change(y, x)
        results.append(y.data)
    np.testing.assert_array_equal(*results)


def test_in_place_operators_return_the_same_object() -> None:
    y = x = lucid.ones(2)
    x += 1
    x *= 3
    x -= 2
    x /= 4
    x **= 2
    assert x is y
    assert x.tolist() == [1, 1]
    n = m = lucid.tensor([7, 8])
    n //= 2
    n %= 3
    assert n is m
    assert n.tolist() == [0, 1]


def test_changes_of_a_base_seen_through_the_view() -> None:
    x = lucid.zeros(2, 3)
    view = x[0]
    x += 1
    assert view.tolist() == [1, 1, 1]
    view *= 5
    assert x.tolist() == [[5, 5, 5], [1, 1, 1]]


# -- stale use ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "what"),
    [(lambda y: y * y, "input"), (lambda y: y.log(), "input"), (lambda y: y**2, "input")],
)
def test_stale_input(build, what) -> None:
    y = leaf(1.0, 2.0) * 2
    z = build(y).sum()
    y += 1
    with pytest.raises(RuntimeError, match=f"needs its {what} of shape .2,.*changed in place"):
        z.backward()


def test_stale_output() -> None:
    y = leaf(1.0, 2.0).exp()
    y += 1
    with pytest.raises(RuntimeError, match=r"gradient of Exp needs its output.*changed in place"):
        y.sum().backward()


def test_stale_through_a_view_and_through_detach() -> None:
    y = leaf(1.0, 2.0) * 2
    z = (y * y).sum()
    y[0] += 1
    with pytest.raises(RuntimeError, match="changed in place"):
        z.backward()
    y = leaf(1.0, 2.0) * 2
    z = (y * y).sum()
    y.detach().zero_()
    with pytest.raises(RuntimeError, match="changed in place"):
        z.backward()


def test_stale_under_no_grad() -> None:
    w = leaf(1.0, 2.0)
    z = (w * w).sum()
    with lucid.no_grad():
        w -= 0.1
    with pytest.raises(RuntimeError, match="changed in place"):
        z.backward()


def test_change_that_no_gradient_needs_is_fine() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    z = (y + 1).sum()
    y += 1
    z.backward()
    assert x.grad.tolist() == [2, 2]


def test_stale_view() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    view = y[:2]
    y *= 3
    with pytest.raises(RuntimeError, match=r"view.*used after the tensor it views was changed"):
        view * 2


# -- refused --------------------------------------------------------------------------------------


def test_leaf_that_requires_grad() -> None:
    x = leaf(1.0, 2.0)
    for change in (
        lambda: x.add_(1),
        lambda: x.__setitem__(0, 1.0),
        lambda: x[:1].add_(1),
        lambda: x[:1].__setitem__(0, 1.0),
        lambda: x.reshape(2, 1).zero_(),
    ):
        with pytest.raises(RuntimeError, match=r"leaf that requires grad.*no_grad\(\)"):
            change()
    assert x.tolist() == [1, 2]
    with lucid.no_grad():
        x += 1
        x[0] = 9
    assert x.tolist() == [9, 3]
    assert x.is_leaf


def test_expanded_tensor() -> None:
    for x in (lucid.ones(3).expand(2, 3), leaf(1.0).expand(2)):
        with pytest.raises(RuntimeError, match=r"read-only.*clone\(\) it first"):
            x += 1
        with pytest.raises(RuntimeError, match="read-only"):
            x[0] = 1
        with pytest.raises(RuntimeError, match="read-only"):
            x.zero_()
    clone = lucid.ones(3).expand(2, 3).clone()
    clone += 1
    assert clone.sum().item() == 12


def test_shape_and_dtype_must_fit() -> None:
    with pytest.raises(ValueError, match=r"result has shape \(2, 3\), which does not fit.*\(3,\)"):
        lucid.ones(3).add_(lucid.ones(2, 3))
    with pytest.raises(
        TypeError, match="float32, which cannot be stored in a tensor of dtype int64"
    ):
        lucid.tensor([1, 2]).add_(0.5)
    with pytest.raises(TypeError, match="float32"):
        lucid.tensor([1, 2]).div_(2)
    with pytest.raises(ValueError, match=r"copy_: a source of shape \(2,\) does not fit"):
        lucid.ones(3).copy_(lucid.ones(2))
    with pytest.raises(ValueError, match="fill_: expected one number"):
        lucid.ones(3).fill_(lucid.ones(2))


def test_constant_taken_into_the_graph() -> None:
    x = leaf(1.0, 2.0)
    buffer = lucid.zeros(3, 2, dtype=lucid.float64)
    for row in range(3):
        buffer[row] = x * row
    assert buffer.requires_grad
    buffer.sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_copy_converts_the_dtype() -> None:
    n = lucid.zeros(2, dtype=lucid.int64)
    n.copy_(lucid.tensor([1.7, -2.7]))
    assert n.tolist() == [1, -2]
    x = lucid.tensor([1.0, 2], requires_grad=True)
    y = lucid.zeros(2, dtype=lucid.float64)
    y.copy_(x)
    y.sum().backward()
    assert x.grad.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("add_", (lucid.ones(4),)),
        ("gt_", (lucid.ones(4),)),  # made by a table, so that no function is called so
        ("lerp_", (lucid.ones(4), 0.5)),  # made of other operations
        ("addcmul_", (lucid.ones(4), lucid.ones(4))),
    ],
)
def test_an_error_names_the_operation_that_was_called_and_no_other(name, arguments) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: shapes \(\d,\) and \(\d,\) do not broadcast"):
        getattr(lucid.ones(3), name)(*arguments)
