"""Recipes: one table of entries, from which the file, the options and the reference are made."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from lucid.cli import main
from lucid.training import Recipe, list_recipes

FULL = Recipe(
    model="mobilenetv4_conv_medium",
    data='C:\\photos "of" ж\x7f\n\t😀',
    lr=1e-05,
    weight_decay=0,
    augment=False,
    limit=7,
    seed=10**30,
)


@pytest.mark.parametrize("recipe", [Recipe(), FULL])
def test_a_recipe_comes_back_from_its_file(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(recipe.toml().encode())
    assert Recipe.read(path) == recipe
    assert Recipe.read(tmp_path) == recipe  # the folder of a run


def test_every_entry_is_explained_wherever_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    options = " ".join(capsys.readouterr().out.split())
    for entry in fields(Recipe):
        words = entry.metadata["help"]
        assert f"    {entry.name}: {words}." in str(Recipe.__doc__)
        assert f"# {words}\n" in Recipe().toml()
        assert f"--{entry.name.replace('_', '-')}" in options
        assert re.sub(r"(?<=\w-)\s", "", " ".join(words.split())) in options.replace("- ", "-")
        kind = entry.metadata["kind"]
        assert kind.is_right(entry.default)


def test_what_a_file_does_not_name_has_its_default(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("epochs = 3 # few\n\nlr = 1\n")
    assert Recipe.read(tmp_path / "a.toml") == Recipe(epochs=3, lr=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", r"a\.toml: there is no entry 'epoch'; did you mean 'epochs'\?"),
        ("Qqqq = 3", r"there is no entry 'Qqqq'; one of model, data, epochs"),
        ("epochs = 0", r"a\.toml: 'epochs': expected an integer from 1 to 1,000,000, got 0"),
        ("epochs = 'x'", "'epochs': expected an integer from 1 to 1,000,000, got 'x'"),
        ("lr = nan", "'lr': expected a number over 0, got nan"),
        ("cache = 1", "'cache': expected true or false, got 1"),
        ("epochs = ", r"a\.toml: "),
        ("epochs = 1\nepochs = 2", r"a\.toml: "),
        ("[training]\nepochs = 1", "there is no entry 'training'"),
        ("\xff", r"a\.toml: "),
        pytest.param("epochs = " + "[" * 5000, r"a\.toml: ", id="deep"),
    ],
)
def test_a_wrong_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        Recipe.read(tmp_path / "a.toml")


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no recipe 'scratc', nor a file of that"):
        Recipe.read("scratc")
    with pytest.raises(FileNotFoundError):
        Recipe.read(tmp_path / "a.toml")
    for name in list_recipes():
        assert isinstance(Recipe.read(name), Recipe)


def quick(**more: Any) -> Recipe:
    return replace(Recipe(epochs=1, batch_size=20, lr=3e-3, size=32, limit=40), **more)


def test_options_override_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    Path("quick.toml").write_text(quick(epochs=2, augment="none").toml())
    assert main(["train", "--recipe", "quick.toml", "--epochs", "1", "--output", "a"]) == 0
    assert Recipe.read("a") == quick(augment="none")
    assert main(["train", "--recipe", "a", "--augment", "--output", "b"]) == 0
    assert Recipe.read("b") == quick()
    Path("wrong.toml").write_text("epoch = 3")
    capsys.readouterr()
    for name, message in (
        ("wrong.toml", "--recipe: wrong.toml: there is no entry 'epoch'; did you mean 'epochs'?"),
        ("none.toml", "--recipe: none.toml: No such file or directory"),
        ("none", "--recipe: there is no recipe 'none', nor a file of that name"),
    ):
        assert main(["train", "--recipe", name]) == 2
        assert capsys.readouterr().err == f"lucid train: {message}\n"
    assert main(["train", "--resume", "a", "--recipe", "quick.toml"]) == 2
    assert "leave out --recipe" in capsys.readouterr().err


def test_what_is_not_given_is_chosen() -> None:
    settled = Recipe().settled(images=1295)
    assert (settled.size, settled.batch_size, settled.lr) == (48, 64, 3e-3)
    sizes = [Recipe().settled(n).batch_size for n in (1, 319, 320, 640, 1279, 1280, 10**6)]
    assert sizes == [8, 8, 16, 32, 32, 64, 64]
    assert Recipe(batch_size=16).settled(10**4).lr == 1.5e-3  # by the root
    assert Recipe(batch_size=16, accumulate=4).settled(10**4).lr == 3e-3
    assert Recipe(batch_size=16, optimizer="sgd").settled(10**4).lr == 0.0125
    assert Recipe(weights="a.npz").settled(10**4).lr == 1e-3
    most = Recipe(batch_size=10**6, accumulate=10**6).settled(256).lr  # no step has so many
    assert most == Recipe(batch_size=64, accumulate=4).settled(256).lr == 6e-3
    given = Recipe(size=32, batch_size=7, lr=0.5)
    assert given.settled(100) == given
    assert Recipe().settled().batch_size is None


def test_recipes_that_come_with_lucid() -> None:
    names = list_recipes()
    assert {"finetune", "scratch-small"} < set(names)
    recipes = {name: Recipe.read(name) for name in names}
    assert recipes["finetune"].weights is True


# The authors' settings, from their released code and the paper's appendix (arXiv 2404.10518). Their
# batch norms' momentum is of what was; ours, as PyTorch's, of what comes.
_AUTHORS: dict[str, dict[str, Any]] = {
    "conv-small": {"epochs": 9600, "size": 224, "images": 4096, "lr": 0.002, "weight_decay": 0.01,
                   "beta1": 0.6, "opt_eps": 1e-6, "warmup": 5, "augment": ("m9", "p0.5"),
                   "dropout": 0.3, "ema": 0.9999, "momentum": 0.95, "bn_eps": 1e-6},
    "conv-medium": {"epochs": 500, "size": 256, "images": 4096, "lr": 0.004, "weight_decay": 0.1,
                    "warmup": 5, "augment": ("m15", "p0.7"), "drop_path": 0.075, "bn_eps": 1e-3},
    "hybrid-medium": {"epochs": 500, "size": 256, "images": 16384, "lr": 0.016,
                      "weight_decay": 0.1, "augment": ("n2", "m15", "p0.7"), "drop_path": 0.075},
    "conv-large": {"epochs": 500, "size": 384, "images": 16384, "lr": 0.004, "weight_decay": 0.2,
                   "augment": ("m15",), "mixup": 0.8, "cutmix": 1.0, "mix_probability": 0.2,
                   "drop_path": 0.2, "bn_eps": 1e-3},
    "hybrid-large": {"epochs": 500, "size": 384, "images": 16384, "lr": 0.01, "weight_decay": 0.2,
                     "augment": ("m15",), "mixup": 0.8, "cutmix": 1.0, "mix_probability": 0.3,
                     "drop_path": 0.35, "bn_eps": 1e-3},
}  # fmt: skip


@pytest.mark.parametrize("name", _AUTHORS)
def test_the_authors_settings(name: str) -> None:
    recipe = Recipe.read(f"mobilenetv4-{name}")
    told = {"dropout": 0.2, "warmup": 20, "momentum": 0.997, **_AUTHORS[name]}
    steps = recipe.augment.split("-")
    assert steps[0] == "rand"
    assert {*told.pop("augment")} <= {*steps}
    assert (recipe.batch_size or 0) * recipe.accumulate == told.pop("images")
    assert recipe.warmup * recipe.epochs == pytest.approx(told.pop("warmup"), rel=1e-3)
    assert recipe.bn_momentum == pytest.approx(1 - told.pop("momentum"))
    expected = replace(
        Recipe(model=f"mobilenetv4_{name.replace('-', '_')}", label_smoothing=0.1, **told),
        **{
            key: getattr(recipe, key)
            for key in ("augment", "batch_size", "accumulate", "warmup", "bn_momentum")
        },
    )
    assert recipe == expected  # and nothing else differs from what is usual
