"""The page for people who come from PyTorch says of no name what is not so."""

from __future__ import annotations

import pkgutil
import types

import pytest

from tests.docs.site import ROOT, extension

pytest.importorskip("sphinx")
names = extension("torch_names")
ported = extension("ported")
MODULES = list(names.HOMES)


@pytest.mark.parametrize("module", MODULES)
def test_every_name_is_there_or_missing(module):
    result = names.compare(module)
    assert sorted([*result.has, *result.missing]) == sorted(names.load()[module])
    homes = [names.HOMES[module], names.ELSEWHERE.get(module, names.HOMES[module])]
    for name, ours in result.has.items():
        assert ours in [f"{home}.{name}" for home in homes]
        assert not isinstance(pkgutil.resolve_name(ours), types.ModuleType)
    missing = {name for named in names.left_out(module).values() for name in named}
    assert missing == set(result.missing)


@pytest.mark.parametrize(
    ("module", "name", "ours"),
    [
        ("torch", "cat", "lucid.cat"),
        ("torch", "float32", "lucid.float32"),
        ("torch", "prelu", "lucid.nn.functional.prelu"),
        ("torch.nn", "Conv2d", "lucid.nn.Conv2d"),
    ],
)
def test_what_is_there_is_found(module, name, ours):
    assert names.compare(module).has[name] == ours


@pytest.mark.parametrize(
    ("module", "name", "title"),
    [
        ("torch", "sparse_coo_tensor", "Sparse arrays"),
        ("torch", "view_as_real", "Complex numbers"),
        ("torch", "autocast", "Lower precision and mixed precision"),
        ("torch", "cos_", "Functions that change their argument"),
        ("torch.Tensor", "cuda", "Other devices"),
        ("torch.Tensor", "set_", "Storage, strides and memory"),
        ("torch.nn", "LazyLinear", "Layers that learn their sizes when first used"),
        ("torch.nn.init", "xavier_uniform", "What PyTorch has deprecated"),
        ("torch.optim", "SparseAdam", "Sparse arrays"),
        # lucid has these, or could: no pattern is so wide that it takes them in.
        ("torch", "index_copy", "Not there yet"),
        ("torch", "bitwise_and", "Not there yet"),
        ("torch.linalg", "cond", "What networks for images hardly meet"),
        ("torch.linalg", "inv", "Not there yet"),
        ("torch.nn", "Conv2d", "Not there yet"),
    ],
)
def test_a_name_is_left_out_for_a_reason(module, name, title):
    assert names.group_of(module, name).title == title


def test_every_group_leaves_something_out():
    left = {group for module in MODULES for group in names.left_out(module)}
    assert [group.title for group in names.GROUPS if group not in left] == []


def test_notes_are_of_names_that_exist():
    for name in names.NOTES:
        module, _, last = name.rpartition(".")
        assert last in names.compare(module).has, name


def ours(input, dim=0, *, keep=False):
    """A function to compare with what PyTorch would have in its place."""


@pytest.mark.parametrize(
    ("theirs", "phrases"),
    [
        ("input, dim=0, *, keep=False", []),
        ("x, dim=0, *, keep=False, out=None", []),
        ("input, dim=0, *, keep=False, alpha=1", ["without `alpha`"]),
        ("input, axis, *, keep=False", ["`axis` is `dim`"]),
        ("input, dim=-1, *, keep=False", ["`dim=0`, not `-1`"]),
        ("input, dim=0, keep=False", ["`keep` by name only"]),
    ],
)
def test_differences_are_told(monkeypatch, theirs, phrases):
    monkeypatch.setattr(names, "load", lambda: {"torch": {"ours": theirs}})
    assert names.differences("torch", "ours", f"{__name__}.ours") == phrases


@pytest.mark.parametrize("name", ["torch.nn.Conv2d", "torch.optim.AdamW", "torch.sum"])
def test_the_same_arguments_need_no_word(name):
    module, _, last = name.rpartition(".")
    assert names.differences(module, last, names.compare(module).has[last]) == []


def test_the_page_has_every_module():
    text = (ROOT / "docs" / "names.md").read_text("utf-8")
    for module in MODULES:
        assert f".. torch-names:: {module}\n" in text


def test_every_program_says_what_had_to_change():
    programs = ported.programs()
    assert len(programs) >= 6
    for program in programs:
        assert program.summary.endswith(".")
        assert program.changes.startswith("- the imports"), program.path
        assert "\n\n" not in program.changes, program.path
