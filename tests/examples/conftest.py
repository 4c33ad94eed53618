"""The examples as modules."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def example(request):
    """The module in ``examples/`` that a file of tests is about, by its name."""
    if not EXAMPLES.is_dir():
        pytest.skip("not run from a checkout")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        yield importlib.import_module(request.module.__name__.rpartition(".test_")[2])
