"""The page's names of PyTorch, torchvision and timm are those of the installed ones."""

from __future__ import annotations

import json

import pytest

from tests.docs import read_torch

if not read_torch.FILE.is_file():
    pytest.skip("not run from a source checkout", allow_module_level=True)
STORED = json.loads(read_torch.FILE.read_text("utf-8"))


@pytest.mark.parametrize("module", read_torch.MODULES)
def test_the_names_are_those_of_the_installed_library(module):
    package = module.split(".")[0]
    if not read_torch.installed(module):
        pytest.skip(f"{package} is not installed")
    found = read_torch.read(module)
    if read_torch.version(package) != STORED["versions"][package]:
        pytest.skip(f"the names are those of {package} {STORED['versions'][package]}")
    assert found == STORED[module], "python -m tests.docs.read_torch"
