"""The page for people who come from PyTorch says of no name what is not so."""

from __future__ import annotations

import pkgutil
import types

import pytest

from tests.docs.site import ROOT, extension

pytest.importorskip("sphinx")
names = extension("torch_names")
MODULES = list(names.HOMES)


def has(full_name: str) -> bool:
    """Whether lucid has something of that name that is no module."""
    home, _, last = full_name.rpartition(".")
    value = getattr(pkgutil.resolve_name(home), last, None)
    return value is not None and not isinstance(value, types.ModuleType)


@pytest.mark.parametrize("module", MODULES)
def test_every_name_is_there_or_missing(module):
    result = names.compare(module)
    assert result.has
    assert sorted([*result.has, *result.missing]) == sorted(names.load()[module])
    assert [name for name, ours in result.has.items() if not has(ours)] == []
    assert [name for name in result.missing if has(f"{names.HOMES[module]}.{name}")] == []


def test_other_names_and_notes_are_of_names_that_exist():
    stored = names.load()
    for name, ours in names.OTHER_NAMES.items():
        module, _, last = name.rpartition(".")
        assert last in stored[module], name
        assert has(ours), name
        assert not has(f"{names.HOMES[module]}.{last}"), f"{name} is lucid's name too"
    for name in names.NOTES:
        module, _, last = name.rpartition(".")
        assert last in names.compare(module).has, name


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("torch.add", "without `alpha`"),
        ("torch.save", "`f` is `path`"),
        ("torch.sort", "`stable=True`, not `False`"),
        ("torch.nn.MSELoss", "`reduction` by name only"),
        ("torch.nn.functional.embedding", "`sparse`"),
    ],
)
def test_differences_are_told(name, phrase):
    module, _, last = name.rpartition(".")
    ours = names.compare(module).has[last]
    assert any(phrase in told for told in names.differences(module, last, ours))


@pytest.mark.parametrize("name", ["torch.nn.Conv2d", "torch.optim.AdamW", "torch.sum"])
def test_the_same_arguments_need_no_word(name):
    module, _, last = name.rpartition(".")
    assert names.differences(module, last, names.compare(module).has[last]) == []


def test_the_page_has_every_module():
    text = (ROOT / "docs" / "from_pytorch.md").read_text("utf-8")
    for module in MODULES:
        assert f".. torch-names:: {module}\n" in text
