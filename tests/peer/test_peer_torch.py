"""The comparison itself: it tells differences, and its table holds only what is one."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest

import lucid

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PyTorch's
    from tests.peer import compare, differences, tally
    from tests.peer.compare import Outcome, Problem


def kind(theirs: Any, ours: Any) -> str | None:
    problem = compare.compare(Outcome(theirs), Outcome(ours), exact=True)
    return problem.kind if problem else None


def test_differences_are_told() -> None:
    ones = torch.ones(2)
    assert kind(ones, lucid.ones(2)) is None
    assert kind(ones, lucid.ones(2, 1)) == "shape"
    assert kind(ones, lucid.ones(2, dtype=np.float64)) == "dtype"
    assert kind(ones, lucid.tensor([1.0, 1.001])) == "value"
    assert kind(torch.tensor([1.0, 1e-9]), lucid.tensor([1.0, 0.0])) == "value"
    assert kind(torch.tensor(float("nan")), lucid.tensor(0.0)) == "value"
    assert kind(torch.tensor(float("nan")), lucid.tensor(float("nan"))) is None
    assert kind((ones, ones), (lucid.ones(2),)) == "structure"


def test_errors_of_its_own_are_known() -> None:
    refused = compare.call(lambda: lucid.ones(2) + lucid.ones(3))
    assert compare.compare(Outcome(error=RuntimeError()), refused, exact=True) is None
    assert compare.compare(Outcome(1), refused, exact=True).kind == "refused"  # type: ignore[union-attr]
    raw = compare.call(lambda: np.ones(2) + np.ones(3))
    assert compare.compare(Outcome(error=RuntimeError()), raw, exact=True).kind == "raw"  # type: ignore[union-attr]
    accepted = compare.compare(Outcome(error=RuntimeError("no")), Outcome(1), exact=True)
    assert accepted == Problem("accepted", "PyTorch: no")


def test_wrong_gradients_are_told() -> None:
    x, y = torch.ones(2, dtype=torch.float64, requires_grad=True), lucid.ones(2, dtype=np.float64)
    y.requires_grad_()
    assert compare.gradients([x * x], [y * y], [x], [y], second=True) is None
    first = compare.gradients([x * x], [y * 1.0], [x], [y], second=True)
    assert first is not None
    assert first.kind == "gradient"
    second = compare.gradients([x * x], [y * 2.0], [x], [y], second=True)
    assert second is not None
    assert second.kind == "second gradient"


def test_an_entry_that_tells_no_difference_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = differences.Difference("add", "dtype", "a reason")
    monkeypatch.setattr(tally, "DIFFERENCES", [entry])
    counts = tally.Tally(("numpy",))
    assert counts.stale(whole=False) == []
    assert counts.stale(whole=True) == [entry]
    counts.add("numpy", tally.Case("lucid.add", "add"), None)
    assert counts.stale(whole=False) == [entry]
    counts.add("numpy", tally.Case("Tensor.add_", "add"), Problem("value", "1 for 2"))
    assert "add: value: 1 (Tensor.add_ 1; )" in counts.report()
    counts.add("numpy", tally.Case("Tensor.add", "add"), Problem("dtype", "int32 for int64"))
    assert counts.stale(whole=True) == []
    assert "numpy: 3 comparisons, 1 equal, 1 documented differences, 1 failures" in counts.totals()


def test_the_table_is_short() -> None:
    source = inspect.getsource(differences)
    assert len(source[source.index("DIFFERENCES:") :].splitlines()) < 60
    assert all(difference.reason for difference in differences.DIFFERENCES)
