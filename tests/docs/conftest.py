"""The built site for the tests, where what builds it is installed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tests.docs import site as building

NEEDED = ("sphinx", "furo", "myst_parser", "sphinxcontrib.mermaid", "sphinx_copybutton")


def missing(names: tuple[str, ...]) -> list[str]:
    absent = []
    for name in names:
        try:
            found = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            absent.append(name)
    return absent


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The folder of the built site; LUCID_SITE names one that is built already."""
    if not (building.ROOT / "docs" / "conf.py").is_file():
        pytest.skip("not run from a source checkout")
    if given := os.environ.get("LUCID_SITE"):
        return Path(given).resolve()
    if absent := missing(NEEDED):
        pytest.skip(f"{absent[0]} is not installed: the extra docs")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return building.build_once(shared / "site")
