"""Arguments bear PyTorch's names and stand at its places: functions, methods, layers and more."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import lucid  # noqa: E402
from lucid import nn, optim  # noqa: E402

HOMES = {
    "lucid": (lucid, torch),
    "Tensor": (lucid.Tensor, torch.Tensor),
    "autograd": (lucid.autograd, torch.autograd),
    "nn": (nn, torch.nn),
    "nn.functional": (nn.functional, torch.nn.functional),
    "nn.init": (nn.init, torch.nn.init),
    "nn.utils": (nn.utils, torch.nn.utils),
    "nn.utils.rnn": (nn.utils.rnn, torch.nn.utils.rnn),
    "optim": (optim, torch.optim),
    "optim.lr_scheduler": (optim.lr_scheduler, torch.optim.lr_scheduler),
    "optim.swa_utils": (optim.swa_utils, torch.optim.swa_utils),
}
# Of these the names that PyTorch's schemas know begin with the home: linalg_norm.
NAMESPACES = [name for name in ("fft", "linalg", "special") if hasattr(lucid, name)]
HOMES |= {name: (getattr(lucid, name), getattr(torch, name)) for name in NAMESPACES}

# Names of which an argument is lucid's own, and why.
REASONS = {
    "lucid.compile": "a plan is made for a shape",
    "lucid.load": "`path` is promised",
    "lucid.save": "`state` and `path` are promised, and a file can be described",
    "lucid.relu": "the function of lucid.nn.functional",
    "lucid.nonzero": "as the documentation has it",
    "Tensor.nonzero": "as the documentation has it",
    "Tensor.relu": "the function of lucid.nn.functional",
    "Tensor.relu_": "the function of lucid.nn.functional",
    "Tensor.uniform_": "`from` is a word of Python's",
    "Tensor.split": "the function's name, which says that it takes sizes too",
    "nn.functional.avg_pool1d": "one function for images of all axes",
    "nn.AvgPool1d": "one layer for images of all axes",
    "nn.functional.one_hot": "as the documentation has it",
    "optim.swa_utils.get_ema_multi_avg_fn": "timm's warm-up",
    **{
        f"nn.functional.{name}{axes}d": "return_indices chooses among two functions of PyTorch's"
        for name in ("max_pool", "adaptive_max_pool")
        for axes in (1, 2, 3)
    },
}
SPLITS = ("tensor_split", "hsplit", "vsplit", "dsplit")
REASONS |= {f"{home}.{n}": "as the documentation has it" for home in HOMES for n in SPLITS}


Ways = list[dict[str, bool]]  # for each way to call: the arguments, and which go by name alone


def ways_of(name: str, theirs: Any) -> Ways:
    """Return the ways to call PyTorch's function; none if it does not tell them."""
    try:
        parameters = list(inspect.signature(theirs).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    if any(p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        public = (p for p in parameters if not p.name.startswith("_"))
        return [{p.name: p.kind is p.KEYWORD_ONLY for p in public}]
    ways = []
    for schema in torch._C._jit_get_schemas_for_operator(f"aten::{name}"):
        way = {"input" if a.name == "self" else a.name: a.kwarg_only for a in schema.arguments}
        if "layout" in way:  # what makes a tensor can also make a leaf
            way["requires_grad"] = True
        ways.append(way)
    return ways


def shared() -> Iterator[Any]:
    """Yield what both have: its home, its name, ours and theirs."""
    for home, (ours, theirs) in HOMES.items():
        for name in dir(ours):
            mine, other = getattr(ours, name), getattr(theirs, name, None)
            if name.startswith("_") or not callable(mine) or not callable(other):
                continue
            if inspect.isfunction(mine) or (inspect.isclass(mine) and "." not in name):
                yield pytest.param(home, name, mine, other, id=f"{home}.{name}")


@pytest.mark.parametrize(("home", "name", "ours", "theirs"), list(shared()))
def test_arguments_have_pytorchs_names(home: str, name: str, ours: Any, theirs: Any) -> None:
    ways = ways_of(f"{home}_{name}" if home in NAMESPACES else name, theirs)
    if not ways:
        pytest.skip("PyTorch does not tell its arguments")
    skipped = int(home == "Tensor")  # the tensor itself, which PyTorch may have elsewhere
    if skipped:
        ways = [
            dict(sorted(way.items(), key=lambda a: a[0] not in ("self", "input"))) for way in ways
        ]
    wrong = []
    for place, parameter in enumerate(inspect.signature(ours).parameters.values()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            break
        if place >= skipped:
            names = {n for way in ways for at, n in enumerate(way) if at == place or way[n]}
            if parameter.kind is parameter.KEYWORD_ONLY:
                names |= {n for way in ways for n in way}
            if parameter.name not in names:
                wrong.append(parameter.name)
    reason = REASONS.get(f"{home}.{name}")
    assert bool(wrong) == bool(reason), f"{name}: {wrong}; PyTorch: {ways}; {reason}"
