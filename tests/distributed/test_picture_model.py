"""A model over many pictures: their order, what is in memory, and what it computes of them."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import models, nn
from lucid.data import Item, imagenet_classes
from lucid.data.transforms import for_model
from lucid.distributed._picture_model import PictureModel, outcomes
from lucid.distributed._tables import Classes, Features

Image = pytest.importorskip("PIL.Image")

BATCH = 4


class Brightness(nn.Module):
    """The mean of each channel, beside a parameter that says of which weights it is."""

    def __init__(self, classes: int = 3, start: float = 0.0) -> None:
        super().__init__()
        self.start = nn.Parameter(lucid.tensor([start]))
        self.num_classes = classes
        self.pretrained_cfg = {"input_size": (3, 8, 8), "mean": (0.0,) * 3, "std": (1.0,) * 3}

    def forward(self, images: Any) -> Any:
        return images.mean(dim=(2, 3)) + self.start


def picture(value: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (9, 9), (value, 0, 255 - value)).save(content, "PNG")
    return content.getvalue()


def items(kinds: str) -> Iterator[tuple[int, Item]]:
    """Yield a picture for each letter: ``o`` a good one, ``x`` a broken one."""
    for number, kind in enumerate(kinds):
        yield 10 * number, Item(str(number), picture(number % 256) if kind == "o" else b"broken")


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("kinds", ["", "o", "x", "oooo", "xxoxooxoxxoooooox", "oooo" * 5 + "o"])
def test_the_order_is_that_of_the_pictures(kinds: str, workers: int, compiled: bool) -> None:
    model = PictureModel(Brightness(), Classes(), BATCH, compiled=compiled)
    found = list(outcomes(model, items(kinds), workers))
    assert [outcome.number for outcome in found] == [10 * n for n in range(len(kinds))]
    for number, (kind, outcome) in enumerate(zip(kinds, found)):
        if kind == "o":
            wanted = np.array([number, 0, 255 - number], np.float32) / 255
            np.testing.assert_allclose(outcome.row, wanted, atol=1e-6)
        else:
            assert str(outcome.row).startswith(f"{number} cannot be read as an image: it is none")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kinds", ["o" * 200, "x" * 200, ("o" + "x" * 19) * 10])
def test_few_pictures_are_taken_ahead(kinds: str, workers: int) -> None:
    model = PictureModel(Brightness(), Classes(), BATCH, compiled=False)
    taken = 0

    def counted() -> Iterator[tuple[int, Item]]:
        nonlocal taken
        for item in items(kinds):
            taken += 1
            yield item

    most = 0
    for done, _ in enumerate(outcomes(model, counted(), workers)):
        most = max(most, taken - done)
    assert most <= 3 * BATCH + 1 + kinds.count("x") * (kinds[0] == "o")
    assert taken == 200


def test_pictures_are_decoded_in_the_threads_that_are_asked_for() -> None:
    model = PictureModel(Brightness(), Classes(), BATCH, compiled=False)
    used = set()
    load = model.load

    def noted(item: Item) -> Any:
        used.add(threading.get_ident())
        return load(item)

    model.load = noted  # type: ignore[method-assign]
    list(outcomes(model, items("o" * 50), 0))
    assert used == {threading.get_ident()}
    used.clear()
    list(outcomes(model, items("o" * 50), 2))
    assert threading.get_ident() not in used
    assert 1 <= len(used) <= 2


def test_an_error_of_the_model_ends_it_and_the_threads() -> None:
    class Fails(Brightness):
        def forward(self, images: Any) -> Any:
            raise RuntimeError("no weights")

    before = threading.active_count()
    model = PictureModel(Fails(), Classes(), BATCH, compiled=False)
    with pytest.raises(RuntimeError, match="no weights"):
        list(outcomes(model, items("o" * 50), 2))
    assert threading.active_count() == before


def test_features_are_what_the_classifier_is_given(tmp_path: Path) -> None:
    network = models.create_model("mobilenetv4_conv_small_050", num_classes=5).eval()
    network.pretrained_cfg = {"input_size": (3, 32, 32)}
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (50, 40, 3), np.uint8)) for _ in range(3)]
    images = [for_model(network)(picture).data for picture in pictures]
    for compiled in (False, True):
        model = PictureModel(network, Features(), 5, compiled=compiled)
        features = model(images)
        assert features.shape == (3, network.head_hidden_size)
        assert features.dtype == np.float32
        with lucid.no_grad():
            logits = network(lucid.tensor(np.stack(images))).data
            np.testing.assert_allclose(
                network.classifier(lucid.tensor(features)).data, logits, rtol=1e-3, atol=1e-4
            )
        assert model.no_rows().shape == (0, network.head_hidden_size)


def test_settings_tell_what_the_rows_follow_from() -> None:
    def settings(table: Any = None, **options: Any) -> dict[str, Any]:
        return PictureModel(Brightness(**options), table or Classes(), compiled=False).settings()

    same = settings()
    assert settings() == same
    assert settings(start=1.0)["weights"] != same["weights"]
    assert settings(Classes(top=2)) == {**same, "top": 2}
    model = Brightness()
    model.pretrained_cfg["mean"] = (0.5,) * 3
    other = PictureModel(model, Classes(), compiled=False).settings()
    assert {name for name in same if same[name] != other[name]} == {"transform"}


def test_classes() -> None:
    classes = Classes(top=2, names=lambda count: ["a", "b", "c"][:count])
    logits = np.log(np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]], np.float32))
    columns = classes.columns(["x", "y"], logits)
    assert {name: list(column) for name, column in columns.items() if name != "probability"} == {
        "file": ["x", "x", "y", "y"],
        "rank": [1, 2, 1, 2],
        "index": [1, 2, 0, 2],
        "name": ["b", "c", "a", "c"],
    }
    np.testing.assert_allclose(columns["probability"], [0.5, 0.3, 0.4, 0.4], rtol=1e-6)
    nothing = classes.columns([], logits[:0])
    assert [np.asarray(nothing[name]).dtype.kind for name in ("rank", "index", "probability")] == [
        *"iif"
    ]
    with pytest.raises(ValueError, match="results are not all finite numbers"):
        classes.columns(["x"], np.array([[np.nan, 0.0]]))
    with pytest.raises(ValueError, match="the weights have no classifier"):
        PictureModel(Brightness(classes=0), classes)


def test_names_of_classes_that_nobody_names() -> None:
    (guesses,) = Classes(top=1).guesses(np.eye(1, 1000) * 50)
    assert guesses[0].name == imagenet_classes()[0]
    (guesses,) = Classes(top=1).guesses(np.eye(1, 7) * 50)
    assert (guesses[0].index, guesses[0].name) == (0, "0")
