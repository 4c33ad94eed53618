"""Gradients of a function from the tape, and the comparison with finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lucid.autograd._grad_mode import enable_grad, no_grad
from lucid.autograd._graph import run_backward
from lucid.autograd._tensor import Tensor


def _sequence(value: Any, who: str) -> tuple[Tensor, ...]:
    values = (value,) if isinstance(value, Tensor) else tuple(value)
    for item in values:
        if not isinstance(item, Tensor):
            raise TypeError(
                f"{who}: expected a tensor or a sequence of them, got {type(item).__name__}"
            )
    return values


def _gradients(given: Any, count: int, expected: str) -> tuple[Any, ...]:
    """Return one gradient for each of ``count`` tensors, None where none is given."""
    if given is None:
        return (None,) * count
    gradients = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if len(gradients) != count:
        raise ValueError(f"{expected.format(count)}, got {len(gradients)}")
    return gradients


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    *,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of ``outputs`` with respect to ``inputs``, leaving ``grad`` alone.

    Args:
        outputs: what to differentiate: a tensor or several, whose gradients are summed.
        inputs: with respect to what: leaves or intermediate results.
        grad_outputs: one gradient per output, of its shape; None means 1 for one element.
        retain_graph: keep the buffers for another pass; by default the same as ``create_graph``.
        create_graph: record this pass, so that its results can be differentiated again.
        allow_unused: return None for an input that the outputs do not depend on, instead of
            raising.

    Returns:
        One tensor per input, of the input's shape.

    Raises:
        RuntimeError: if an input does not require grad, or is unused and that is not allowed.
        ValueError: if the number or the shapes of ``grad_outputs`` do not fit.
    """
    roots = _sequence(outputs, "grad: outputs")
    wanted = _sequence(inputs, "grad: inputs")
    gradients = _gradients(
        grad_outputs, len(roots), "grad: expected {} grad_outputs, one an output"
    )
    for index, tensor in enumerate(wanted):
        if not tensor.requires_grad:
            raise RuntimeError(f"grad: input {index} does not require grad")
    results = run_backward(
        roots,
        gradients,
        inputs=wanted,
        retain_graph=create_graph if retain_graph is None else retain_graph,
        create_graph=create_graph,
    )
    for index, result in enumerate(results):
        if result is None and not allow_unused:
            raise RuntimeError(
                f"grad: the outputs do not depend on input {index} (shape {wanted[index].shape}); "
                "pass allow_unused=True to get None for it"
            )
    return tuple(results)


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> None:
    """Add the gradients of ``tensors`` to ``grad`` of the leaves: ``Tensor.backward`` for several.

    Args:
        tensors: what to differentiate.
        grad_tensors: one gradient per tensor; None means 1 for one element.
        retain_graph: keep the buffers for another pass.
        create_graph: record the pass, for second derivatives.
    """
    roots = _sequence(tensors, "backward: tensors")
    gradients = _gradients(grad_tensors, len(roots), "backward: expected {} grad_tensors")
    run_backward(
        roots, gradients, retain_graph=retain_graph or create_graph, create_graph=create_graph
    )


def _outputs(fn: Callable[..., Any], inputs: Sequence[Any]) -> tuple[Tensor, ...]:
    outputs = fn(*inputs)
    outputs = outputs if isinstance(outputs, (list, tuple)) else (outputs,)
    return tuple(o for o in outputs if isinstance(o, Tensor) and o.dtype.kind == "f")


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    r"""Compare the gradients of ``func`` with central differences, element by element.

    Every element of the Jacobian is compared:

    .. math::

        \frac{\partial f_i}{\partial x_j} \approx
        \frac{f_i(x + \epsilon e_j) - f_i(x - \epsilon e_j)}{2 \epsilon}

    Args:
        func: a function from the inputs to a tensor, or to a tuple of tensors.
        inputs: a tensor or a tuple of arguments; those that require grad are checked and must
            be float64. They come back unchanged.
        eps: the step of the differences.
        atol: the analytical value ``a`` may differ from the numerical ``n`` by at most
            ``atol + rtol * |n|``.
        rtol: see ``atol``.
        raise_exception: raise on a mismatch; otherwise return False.

    Raises:
        ValueError: if no input requires grad, or one that does is not float64.
        AssertionError: on a mismatch, naming the output, the input and the worst element.

    Example:
        >>> x = lucid.tensor([0.5, -1.0], dtype=lucid.float64, requires_grad=True)
        >>> lucid.autograd.gradcheck(lambda x: x.sin() * x.exp(), x)
        True
        >>> lucid.autograd.gradcheck(lambda x: x.detach() * x, x, raise_exception=False)
        False
    """
    arguments = tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)
    checked = [
        (index, argument)
        for index, argument in enumerate(arguments)
        if isinstance(argument, Tensor) and argument.requires_grad
    ]
    if not checked:
        raise ValueError("gradcheck: at least one input must require grad")
    for index, argument in checked:
        if argument.dtype != np.float64:
            raise ValueError(
                f"gradcheck: input {index} must be float64, got {argument.dtype}: differences are "
                "too coarse in a smaller type"
            )
    with enable_grad():
        outputs = _outputs(func, arguments)
    if not outputs:
        raise ValueError("gradcheck: the function returned no floating-point tensor")
    numerical = {
        index: _numerical_jacobians(func, arguments, argument, outputs, eps)
        for index, argument in checked
    }
    for position, output in enumerate(outputs):
        analytical = _analytical_jacobian(output, [argument for _, argument in checked])
        for (index, argument), got in zip(checked, analytical):
            expected = numerical[index][position]
            error = np.abs(got - expected)
            bad = ~(error <= atol + rtol * np.abs(expected))
            if bad.any():
                if not raise_exception:
                    return False
                row, column = divmod(
                    int(np.argmax(np.where(np.isnan(error), np.inf, error))), output.data.size
                )
                raise AssertionError(
                    f"gradcheck: output {position}, input {index}: {int(bad.sum())} of {bad.size} "
                    f"elements differ; at input element {_position(row, argument)}, output element "
                    f"{_position(column, output)} the tape gives {got[row, column]:.8g}, "
                    f"differences give {expected[row, column]:.8g}"
                )
    return True


def _position(element: int, tensor: Tensor) -> tuple[int, ...]:
    return tuple([int(i) for i in np.unravel_index(element, tensor.shape)])


def _numerical_jacobians(
    func: Callable[..., Any],
    arguments: tuple[Any, ...],
    argument: Tensor,
    outputs: tuple[Tensor, ...],
    eps: float,
) -> list[np.ndarray]:
    """Return, per output, the matrix (elements of ``argument``, elements of the output)."""
    original = argument.data
    jacobians = [np.zeros((original.size, output.data.size)) for output in outputs]
    with no_grad():
        try:
            for row, element in enumerate(np.ndindex(*original.shape)):
                sides = []
                for step in (eps, -eps):
                    argument.data = original.copy(order="K")
                    argument.data[element] += step
                    # Copies: an output may share the memory of the argument.
                    sides.append([o.data.flatten() for o in _outputs(func, arguments)])
                for jacobian, above, below in zip(jacobians, *sides):
                    jacobian[row] = (above - below) / (2 * eps)
        finally:
            argument.data = original
    return jacobians


def _analytical_jacobian(output: Tensor, arguments: list[Tensor]) -> list[np.ndarray]:
    jacobians = [np.zeros((argument.data.size, output.data.size)) for argument in arguments]
    if not output.requires_grad:
        return jacobians
    for column, element in enumerate(np.ndindex(*output.shape)):
        seed = np.zeros(output.shape, output.dtype)
        seed[element] = 1
        rows = grad(output, arguments, seed, retain_graph=True, allow_unused=True)
        for jacobian, row in zip(jacobians, rows):
            if row is not None:
                jacobian[:, column] = row.data.ravel()
    return jacobians


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Compare the second derivatives of ``func`` with differences of its first ones.

    The gradient of ``func`` for fixed random output gradients is itself checked by
    :func:`gradcheck`, with respect to the inputs and to the output gradients. The arguments
    are those of :func:`gradcheck`.

    Args:
        func: a function of tensors, in tensor operations.
        inputs: its arguments: a tensor or a tuple, those to check float64 and with
            ``requires_grad``.
        eps: the step of the differences.
        atol: the absolute tolerance.
        rtol: the relative tolerance.
        raise_exception: raise if they differ, in place of returning False.
    """
    arguments = tuple(inputs) if isinstance(inputs, (list, tuple)) else (inputs,)
    wanted = [i for i, a in enumerate(arguments) if isinstance(a, Tensor) and a.requires_grad]
    rng = np.random.default_rng(0)
    with no_grad():
        seeds = [
            Tensor(rng.standard_normal(output.shape), np.float64, requires_grad=True)
            for output in _outputs(func, arguments)
        ]

    def first_derivative(*values: Any) -> tuple[Tensor, ...]:
        given, gradients = values[: len(arguments)], values[len(arguments) :]
        with enable_grad():
            outputs = _outputs(func, given)
            results = grad(
                outputs, [given[i] for i in wanted], gradients, create_graph=True, allow_unused=True
            )
        return tuple(result for result in results if result is not None)

    return gradcheck(
        first_derivative,
        (*arguments, *seeds),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
    )
