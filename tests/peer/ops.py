"""Operations: as functions, as methods and in place, on PyTorch's samples for them."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import BinaryUfuncInfo, UnaryUfuncInfo

import lucid
from lucid.nn import functional
from tests.peer.compare import ElsewhereError, Outcome, Problem, call, compare, gradients, parts
from tests.peer.convert import (
    AbsentError,
    Converter,
    bind,
    copied,
    doubled,
    leaves_of,
    some_layouts,
)
from tests.peer.tally import Case, Tally

DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)

# Operations on single elements, which PyTorch's table does not call so.
# fmt: off
ACTIVATIONS = (
    "celu", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
    "logsigmoid", "mish", "prelu", "relu", "relu6", "selu", "silu", "softplus", "softsign",
    "binary_cross_entropy_with_logits",
)
# fmt: on
ELEMENTWISE = {"where", "clamp", "masked_fill", "pow", *(f"nn.functional.{n}" for n in ACTIVATIONS)}

# Of these only the shape and the dtype can be compared.
RANDOM = {"rand", "rand_like", "randn", "randn_like", "randint", "empty", "empty_like", "new_empty"}
RANDOM |= {"bernoulli", "exponential", "multinomial", "normal", "uniform"}
RANDOM |= {"randint_like"}
RANDOM |= {
    f"nn.functional.{name}"
    for name in ["dropout", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]
}


def bound(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call lucid's function with the arguments of PyTorch's."""
    args, kwargs = bind(name, function, args, kwargs)
    return function(*args, **kwargs)


# Among equals PyTorch promises no order; the place of the axis among the arguments.
ORDER = {"sort": 1, "argsort": 1, "topk": 2, "kthvalue": 2, "mode": 1}

# Factors with a choice of signs: compared by what PyTorch's sample makes of them.
GAUGED = {"linalg.eigh", "linalg.svd"}

# How many samples of an operation and a dtype are tried at least, unless it is all of them.
FEW = 12

# Samples of a million elements take most of the time, and hold what the others hold.
LARGEST = 100_000

# lucid's call for samples that are not in the order of the function's arguments.
CALLS: dict[str, Callable[..., Any]] = {
    "einsum": lambda tensors, equation: lucid.einsum(equation, *tensors),
    "where": lambda x, condition, other: lucid.where(condition, x, other),
    "nn.functional.embedding": lambda weight, x, **kwargs: bound(
        "nn.functional.embedding", functional.embedding, x, weight, **kwargs
    ),
    "to": lambda x, *args, **kwargs: x.to(*args, **kwargs),
    "linalg.pinv.singular": lambda a, b: lucid.linalg.pinv(a @ b.mT),
    "linalg.lstsq.grad_oriented": lambda a, b, driver: lucid.linalg.lstsq(a, b, driver=driver)[:2],
    "H": lambda x: x.H,
    "polygamma": lambda x, n: lucid.polygamma(n, x),
    "special.polygamma": lambda x, n: lucid.special.polygamma(n, x),
    "normal": lambda *args, **kwargs: lucid.normal(*args, **kwargs),
    "normal.in_place": lambda x, *args, **kwargs: x.clone().normal_(*args, **kwargs),
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
}


# What PyTorch's table calls otherwise, or does not say.
RENAMED = {"__rdiv__": "__rtruediv__"}
SYMBOLS = {
    "div.no_rounding_mode": (operator.truediv, operator.itruediv),
    "floor_divide": (operator.floordiv, operator.ifloordiv),
}

# Modules of torch and lucid that PyTorch's names of operations begin with.
NAMESPACES = ("fft", "linalg", "special")


@dataclass(frozen=True)
class Form:
    """One way to call an operation."""

    name: str
    theirs: Callable[..., Any]
    ours: Callable[..., Any]
    bound: bool = True  # our arguments have names and places to be found
    inplace: bool = False


def forms(op: Any) -> Iterator[Form]:
    """Yield every way in which lucid has an operation."""
    names = [op.name, *(alias.name for alias in op.aliases)]
    ours = CALLS.get(title(op), CALLS.get(op.name))
    if ours is not None:
        home, _, last = op.name.rpartition(".")
        if home not in NAMESPACES:
            home = "F" if home else "Tensor" if hasattr(lucid.Tensor, last) else "lucid"
        yield Form(f"{home}.{last}", op.op, ours, bound=False)
        names = []
    for name in names:
        home, _, last = RENAMED.get(name, name).rpartition(".")
        if home in NAMESPACES:
            function = getattr(getattr(lucid, home, None), last, None)
            if inspect.isfunction(function):
                yield Form(name, op.op, function)
        if home not in ("", "nn.functional"):
            continue
        for label, place in (("F", functional), ("lucid", lucid))[not home :]:
            function = getattr(place, last, None)
            if inspect.isfunction(function):
                yield Form(f"{label}.{last}", op.op, function)
                if "inplace" in inspect.signature(function).parameters and label == "F":
                    pair = [
                        lambda *a, _f=f, **k: _f(*a, **k, inplace=True)
                        for f in (getattr(torch.nn.functional, last), function)
                    ]
                    yield Form(f"{label}.{last}(inplace=True)", *pair, bound=False, inplace=True)
        method = getattr(lucid.Tensor, last, None)
        if inspect.isfunction(method):
            reserved = last.startswith("__")
            theirs = op.op if reserved else getattr(torch.Tensor, last, op.op)
            yield Form(f"Tensor.{last}", theirs, method, bound=not reserved)
        inplace = getattr(lucid.Tensor, last + "_", None)
        if inspect.isfunction(inplace) and not last.startswith("__"):
            yield Form(f"Tensor.{last}_", getattr(torch.Tensor, last + "_"), inplace, inplace=True)
    operators = SYMBOLS.get(title(op), (op.operator_variant, op.inplace_operator_variant))
    for variant, inplace in zip(operators, (False, True)):
        name = f"__{getattr(variant, '__name__', '').strip('_')}__"
        if variant is not None and hasattr(lucid.Tensor, name):
            yield Form(f"Tensor.{name}", variant, variant, bound=False, inplace=inplace)


def samples(op: Any, dtype: torch.dtype, whole: bool, derive: int) -> Iterator[tuple[Any, int]]:
    """Yield samples: all of them with those for extreme values, or a few; and derivatives to take.

    At extreme values the first is enough: the second ones of PyTorch are infinities and NaN.
    """
    torch.manual_seed(0)
    plain = list(op.sample_inputs("cpu", dtype, requires_grad=derive > 0))
    for sample in plain[:: 1 if whole else max(len(plain) // FEW, 1)]:
        yield sample, derive
    if not whole or op.reference_inputs_func is None:
        return
    for sample in op.reference_inputs("cpu", dtype):
        if isinstance(sample.input, torch.Tensor):
            if sample.input.numel() > LARGEST:
                continue
            sample.input.requires_grad_(derive > 0 and sample.input.dtype.is_floating_point)
        yield sample, min(derive, 1)


def sorts(op: Any, case: Case) -> bool:
    """Return whether the places of equal elements are of choice."""
    return op.name in ORDER and not case.kwargs.get("stable")


def in_order(case: Case, value: Any, x: Any, gather: Callable[..., Any]) -> Any:
    """Return the result of sorting ``x`` with the values at the indices in place of them."""
    *values, index = parts(value)
    place = ORDER[case.sample]
    dim = case.kwargs.get("dim", case.args[place] if len(case.args) > place else -1)
    if index.ndim < x.ndim:  # the axis was not kept
        index = index.unsqueeze(dim)
    return [*values, gather(x, dim, index) if len(x.shape) else x]


def changing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that works in place on a copy, as an operation that returns the copy."""

    def changed(x: Any, *args: Any, **kwargs: Any) -> Any:
        x = x.clone() if x.requires_grad else x
        result = function(x, *args, **kwargs)
        if result is not x:
            raise ElsewhereError
        return result

    return changed


def check(
    tally: Tally, op: Any, form: Form, case: Case, layouts: tuple[str, ...], derive: int
) -> None:
    """Compare one call in some layouts of the arguments, with each backend."""
    first, *rest = case.args
    if not isinstance(first, torch.Tensor) and (form.inplace or form.name.startswith("Tensor.")):
        return
    if case.kwargs and "__" in form.name:  # operators have no arguments by name
        return
    if form.inplace:
        theirs = call(lambda: changing(form.theirs)(copied(first), *rest, **case.kwargs))
    else:
        theirs = call(lambda: form.theirs(*case.args, **case.kwargs))
    if op.name in GAUGED and theirs.error is None:
        theirs.value = case.finish(theirs.value)
    if sorts(op, case) and theirs.error is None:
        theirs.value = in_order(case, theirs.value, first, torch.gather)

    def truth() -> Any:
        with torch.no_grad():
            return form.theirs(*doubled(case.args), **doubled(case.kwargs))

    for layout in layouts:
        for backend in tally.backends:
            lucid.set_backend(backend)
            convert = Converter(layout)
            try:
                problem = trial(op, form, case, convert, theirs, truth, derive)
            except AbsentError as absent:
                problem = None if theirs.error is not None else Problem("absent", str(absent))
            tally.add(backend, replace(case, layout=layout), problem)


def trial(
    op: Any,
    form: Form,
    case: Case,
    convert: Converter,
    theirs: Outcome,
    truth: Callable[[], Any],
    derive: int,
) -> Problem | None:
    """Make lucid's call, and return how it differs from PyTorch's."""
    args, kwargs = convert(case.args), convert(case.kwargs)
    if form.bound:
        args, kwargs = bind(op.name, form.ours, args, kwargs)
    function = changing(form.ours) if form.inplace else form.ours
    ours = call(lambda: function(*args, **kwargs))
    if isinstance(ours.error, AbsentError):
        raise ours.error
    if op.name in GAUGED and ours.error is None:
        ours.value = case.finish(ours.value)
    if sorts(op, case) and ours.error is None:
        ours.value = in_order(case, ours.value, args[0], lucid.gather)
    exact = isinstance(op, (UnaryUfuncInfo, BinaryUfuncInfo)) or op.name in ELEMENTWISE
    values = op.name not in RANDOM and not case.kwargs.get("dropout_p")
    problem = compare(theirs, ours, exact, values, truth)
    if problem is None and derive and values and theirs.error is None:
        problem = gradients(
            parts(theirs.value),
            parts(ours.value),
            leaves_of(case.args) + leaves_of(case.kwargs),
            convert.leaves,
            second=derive > 1,
        )
    return problem


def title(op: Any) -> str:
    """Return PyTorch's name of an operation with its variant."""
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name


def run(tally: Tally, whole: bool, only: str = "") -> None:
    """Compare every operation."""
    for op in op_db:
        found = list({form.name: form for form in forms(op)}.values())
        if not found or only not in title(op):
            continue
        for dtype in DTYPES:
            if not op.supports_dtype(dtype, "cpu"):
                continue
            derive = int(op.supports_autograd) + int(op.supports_gradgrad)
            derive *= dtype is torch.float64
            for number, (sample, order) in enumerate(samples(op, dtype, whole, derive)):
                layouts = some_layouts(number, whole)
                for form in found:
                    arguments = (sample.input, *sample.args)
                    case = Case(
                        form.name,
                        title(op),
                        str(dtype).removeprefix("torch."),
                        "",
                        arguments,
                        sample.kwargs,
                        sample.output_process_fn_grad,
                    )
                    check(tally, op, form, case, layouts, order)
        if op.error_inputs_func is None:
            continue
        for error in op.error_inputs("cpu"):
            sample = error.sample_input
            for form in found:
                arguments = (sample.input, *sample.args)
                case = Case(form.name, title(op), "errors", "", arguments, sample.kwargs)
                check(tally, op, form, case, ("contiguous",), 0)
