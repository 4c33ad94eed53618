"""L-BFGS: the path of PyTorch's, and what it promises beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import lucid  # noqa: E402

PROBLEMS: dict[str, Callable[[Any, Any], Any]] = {
    "bowl": lambda x, y: ((x - 1) ** 2).sum() + 3 * ((y + x[:1]) ** 2).sum(),
    "valley": lambda x, y: (1 - x[0]) ** 2 + 20 * (x[1] - x[0] ** 2) ** 2 + (y**4).sum(),
    "waves": lambda x, y: (x.sin() * 2 + x**2 / 5).sum() + (y * x[:1]).cos().sum() + (y**2).sum(),
}
OPTIONS: list[dict[str, Any]] = [
    {"line_search_fn": "strong_wolfe"},
    {"line_search_fn": "strong_wolfe", "history_size": 2, "max_iter": 7, "lr": 0.3},
    {"lr": 0.05},
    {"lr": 0.05, "max_eval": 4, "history_size": 3},
    {"lr": 0.02, "tolerance_change": 1e-3},
]


def path(lib: Any, problem: str, options: dict[str, Any]) -> tuple[list[float], list[int]]:
    """Return the loss after each of some steps, and how often the closure was called."""
    x = lib.tensor([-1.2, 1.7], dtype=lib.float64, requires_grad=True)
    y = lib.tensor([[0.5], [2.0]], dtype=lib.float64, requires_grad=True)
    unused = lib.zeros(3, dtype=lib.float64, requires_grad=True)
    optimizer = lib.optim.LBFGS([x, unused, y], **options)
    calls = [0]

    def closure() -> Any:
        optimizer.zero_grad()
        calls[-1] += 1
        loss = PROBLEMS[problem](x, y)
        loss.backward()
        return loss

    losses = []
    for _ in range(4):
        losses.append(optimizer.step(closure).item())
        losses += [*x.detach().tolist(), *y.detach().reshape(-1).tolist()]
        calls.append(0)
    return losses, calls


@pytest.mark.parametrize("number", range(len(OPTIONS)))
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_path_is_pytorchs(problem: str, number: int) -> None:
    (ours, calls), (theirs, expected) = (
        path(lib, problem, OPTIONS[number]) for lib in (lucid, torch)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    assert calls == expected


def test_wrong_use() -> None:
    x = lucid.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match=r"LBFGS\.step: expected a closure"):
        lucid.optim.LBFGS([x]).step()
    with pytest.raises(ValueError, match="LBFGS: expected one group"):
        lucid.optim.LBFGS([{"params": [x]}, {"params": [lucid.ones(1, requires_grad=True)]}])
    with pytest.raises(ValueError, match="line_search_fn must be None or 'strong_wolfe'"):
        lucid.optim.LBFGS([x], line_search_fn="golden")
