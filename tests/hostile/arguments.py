"""Every public function, layer and optimiser with arguments of any kind."""

from __future__ import annotations

import inspect
import random
from pathlib import Path
from typing import Any

import numpy as np

import lucid
from lucid import nn, optim
from lucid.nn import functional, init
from tests.hostile.values import NUMBERS, OTHERS, hostile
from tests.hostile.verdict import attempt


def _public(module: Any, kind: Any) -> list[Any]:
    return [
        value
        for name, value in sorted(vars(module).items())
        if not name.startswith("_") and kind(value) and value.__module__.startswith("lucid")
    ]


METHODS = [getattr(lucid.Tensor, name) for name in sorted(vars(lucid.Tensor)) if name[0] != "_"]
CALLS = [
    *[
        call
        for call in _public(lucid, inspect.isfunction)
        if call.__module__.startswith("lucid.ops")
    ],
    *_public(functional, inspect.isfunction),
    *_public(init, inspect.isfunction),
    *_public(nn, inspect.isclass),
    *_public(optim, inspect.isclass),
    *filter(callable, METHODS),
]
SHAPES = [(), (0,), (3,), (2, 3), (3, 3), (2, 3, 4), (1, 2, 5, 5), (2, 0, 3)]


def trial(rng: random.Random, folder: Path, backend: str) -> None:
    """Call something, and what it returns, and go back through it."""
    lucid.set_backend(backend)
    call = rng.choice(CALLS)
    args, kwargs = _arguments(call, rng)
    try:
        result, _ = attempt(lambda: call(*args, **kwargs))
        if isinstance(result, nn.Module):
            inputs = [_tensor(rng) for p in _parameters(result.forward) if p.default is p.empty]
            result, _ = attempt(lambda made=result: made(*inputs))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, lucid.Tensor) and tensor.requires_grad:
                attempt(lambda out=tensor: out.sum().backward())
    except Exception as error:
        if isinstance(error.__cause__, MemoryError):
            return  # Python's own word for "more than there is", as good as one of ours
        given = ", ".join([*map(_short, args), *(f"{k}={_short(v)}" for k, v in kwargs.items())])
        raise type(error)(f"{call.__qualname__}({given}): {error}") from error


def _short(value: Any) -> str:
    text = repr(value).replace("\n", " ")
    return text if len(text) < 60 else text[:57] + "..."


def _arguments(call: Any, rng: random.Random) -> tuple[list[Any], dict[str, Any]]:
    """Return what looks like a call's arguments, one or more of them hostile."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for p in _parameters(call):
        if p.kind is p.VAR_POSITIONAL:
            args += [_likely(rng) for _ in range(rng.randrange(3))]
        elif p.default is p.empty:
            args.append(_tensor(rng) if call in METHODS and not args else _likely(rng))
        elif rng.random() < 0.25:
            kwargs[p.name] = _likely(rng)
    return args, kwargs


def _parameters(call: Any) -> list[inspect.Parameter]:
    parameters = inspect.signature(call).parameters.values()
    return [p for p in parameters if p.kind is not p.VAR_KEYWORD]


def _likely(rng: random.Random) -> Any:
    kind = rng.random()
    if kind < 0.45:
        return _tensor(rng)
    if kind < 0.6:
        return rng.choice([0, 1, -1, 2, (1, 2), [0], 0.5, True, None, "mean"])
    if kind < 0.75:
        return rng.choice(NUMBERS)
    return rng.choice([rng.choice(OTHERS), hostile(rng)])


def _tensor(rng: random.Random) -> lucid.Tensor:
    kinds: list[Any] = [
        np.float32,
        np.float32,
        np.float64,
        np.float16,
        np.int64,
        np.uint8,
        np.bool_,
    ]
    dtype = np.dtype(rng.choice(kinds))
    values = np.random.default_rng(rng.randrange(2**32)).normal(size=rng.choice(SHAPES)) * 3
    if dtype.kind != "f":
        return lucid.tensor(np.abs(values).astype(dtype), dtype=dtype)
    if rng.random() < 0.1:
        values = values * np.nan
    return lucid.tensor(values, dtype=dtype, requires_grad=rng.random() < 0.5)
