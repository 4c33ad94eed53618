"""What a missing package's error tells the user to type."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from lucid import _extras


def test_a_clone_is_installed_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(_extras, "_ROOT", tmp_path)
    assert _extras.install("plot") == f'pip install -e "{tmp_path}[plot]"'


def test_another_copy_comes_from_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_extras, "_ROOT", tmp_path)
    assert _extras.install("hub") == 'pip install "lucid-numpy[hub]"'


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = f"drawing needs matplotlib, which is not installed: {_extras.install('plot')}"
    with pytest.raises(ImportError, match=f"^{re.escape(message)}$"):
        _extras.extra("matplotlib.figure", "plot", "drawing needs matplotlib")
