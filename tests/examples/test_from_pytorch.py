"""Programs of PyTorch's tutorials learn, with other imports and nothing else that differs."""

from __future__ import annotations

import ast
import importlib

import numpy as np
import pytest

from tests.examples.conftest import EXAMPLES

FOLDER = EXAMPLES / "from_pytorch"
NAMES = (
    "character_model", "classifier", "dcgan", "sequence_tagger", "spatial_transformer",
    "transfer_learning", "variational_autoencoder",
)  # fmt: skip

# What makes PyTorch's program of lucid's: all of it.
IMPORTS = (
    ("import lucid as torch", "import torch"),
    ("import lucid.", "import torch."),
    ("from lucid", "from torch"),
)


@pytest.fixture
def run(monkeypatch, request):
    """A function that runs an example at its small size."""
    if not FOLDER.is_dir():
        pytest.skip("not run from a checkout")
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(FOLDER)
    return lambda name: importlib.import_module(name).main("small")


def test_all_examples_are_known():
    if not FOLDER.is_dir():
        pytest.skip("not run from a checkout")
    assert tuple(sorted(path.stem for path in FOLDER.glob("*.py"))) == NAMES


def check_classifier(worst):
    assert worst > 0.4  # of chance 0.1: each digit is learned


def check_transfer_learning(accuracies):
    assert accuracies["fine-tuned"] > 0.45  # of chance 0.2
    assert accuracies["fine-tuned"] > accuracies["from nothing"] + 0.1
    assert accuracies["last layer"] > 0.3


def check_spatial_transformer(accuracies):
    looking, middle = accuracies
    assert looking > 0.6  # what is looked at can be told only if it is found
    assert middle < 0.45


def check_dcgan(pictures):
    real, drawn = pictures
    assert drawn.shape[1:] == (8, 8)
    # Ink is where digits have it, as often, and differs from picture to picture.
    assert np.corrcoef(real.mean(0).ravel(), drawn.mean(0).ravel())[0, 1] > 0.7
    assert drawn.std(0).mean() > 0.4 * real.std(0).mean()
    # They are nearer to a real picture than the mean of the real ones is.
    apart = np.sqrt(((drawn[:, None] - real) ** 2).sum((2, 3))).min(1)
    assert apart.mean() < np.sqrt(((real.mean(0) - real) ** 2).sum((1, 2))).mean()


def check_sequence_tagger(rates):
    by_network, by_table = rates
    assert by_network > 0.945  # from the left alone it is 0.935
    assert by_table < 0.85


def check_character_model(result):
    loss, written = result
    # A table of how often each letter follows another has a loss of 1.78 on this text.
    assert loss < 1.5
    assert len(written) == 200
    assert 0.05 < written.count(" ") / 200 < 0.35


def check_variational_autoencoder(losses):
    loss, of_the_mean = losses
    assert loss < of_the_mean - 1.0


LONG = ("spatial_transformer", "transfer_learning")  # six seconds each


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in NAMES]
)
def test_the_example_learns(name, run):
    globals()[f"check_{name}"](run(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_same_program_runs_in_pytorch(name, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    text = (FOLDER / f"{name}.py").read_text("utf-8")
    for ours, theirs in IMPORTS:
        text = text.replace(ours, theirs)
    program = ast.parse(text)
    imported = {node.module for node in ast.walk(program) if isinstance(node, ast.ImportFrom)}
    assert "lucid" not in {str(module).partition(".")[0] for module in imported}
    names = {"__name__": name}
    exec(compile(program, name, "exec"), names)
    globals()[f"check_{name}"](names["main"]("small"))
