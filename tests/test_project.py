"""README.md says what is true, and the project's files agree with each other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lucid
from lucid import _extras, models, nn
from lucid.kernels import _dispatch

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "README.md").is_file(), reason="not run from a source checkout"
)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", read("README.md"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.splitlines()[0])
def test_readme_code_runs(block, tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert list(tmp_path.iterdir()), "it is said to save a model"


def test_readme_has_code():
    assert len(blocks("python")) == 1
    assert len(blocks("bash")) == 2


@pytest.mark.parametrize("name", models.list_models())
def test_readme_table_is_what_the_code_counts(name):
    model = nn.utils.skip_init(models.create_model, name)  # weights are counted, not used
    counts = lucid.summary(model, (1, 3, 224, 224))
    row = f"| `{name}` | {counts.total_params:,} | {counts.total_macs:,} |"
    assert row in read("README.md")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/design.md"])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", read(page)):
        if not target.startswith("https://"):
            assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_extras_that_are_mentioned_exist(page):
    settings = read("pyproject.toml")
    extras = settings.split("[project.optional-dependencies]")[1].split("\n[")[0]
    for group in re.findall(r"\.\[([\w,]+)\]", read(page)):
        for extra in group.split(","):
            assert re.search(rf"^{extra} = ", extras, re.MULTILINE), extra


def test_version_is_said_once():
    (version,) = re.findall(r'^version = "(.+)"$', read("pyproject.toml"), re.MULTILINE)
    assert version == lucid.__version__


def test_ci_script_is_a_script():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    if bash := shutil.which("bash"):
        subprocess.run([bash, "-n", str(script)], check=True)


def test_hints_name_this_distribution():
    assert f'\nname = "{_extras.DISTRIBUTION}"\n' in read("pyproject.toml")


def test_the_oldest_llvmlite_is_the_one_that_the_extra_asks_for():
    oldest = ".".join(map(str, _dispatch._LLVMLITE))
    assert f'\nfast = ["llvmlite>={oldest}"]\n' in read("pyproject.toml")


def test_a_folder_of_the_same_name_does_not_hide_the_package(tmp_path):
    """Such as a clone called "lucid", for whoever works beside it."""
    (tmp_path / "lucid").mkdir()
    code = "import lucid; print(lucid.tensor([2.0]).item())"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("2.0\n", "")
