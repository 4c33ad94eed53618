"""lucid's estimators among scikit-learn's tools."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import models, training

pytest.importorskip("sklearn")

from sklearn import base, datasets, model_selection, pipeline, preprocessing
from sklearn.linear_model import LogisticRegression
from sklearn.utils import estimator_checks

from lucid.sklearn import ImageClassifier, ImageFeatures

SMALL = "mobilenetv4_conv_small_035"
DIGITS = datasets.load_digits()
X, Y = DIGITS.images, DIGITS.target


def _classifier(**settings: Any) -> ImageClassifier:
    return ImageClassifier(SMALL, **{"size": 32, "epochs": 1, "random_state": 0, **settings})


def _two_colours(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=count)
    images = rng.integers(0, 100, (count, 12, 20, 3), dtype=np.uint8)
    images[np.arange(count), :, :, labels] += 150
    return images, np.array(["red", "green"])[labels]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], np.ndarray]:
    image = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("pictures")
    images, labels = _two_colours(16)
    paths = [str(root / f"{number}.png") for number in range(len(images))]
    for path, array in zip(paths, images):
        image.fromarray(array).save(path)
    return paths, labels


def test_it_learns() -> None:
    images, labels = _two_colours()
    recipe = {"batch_size": 8, "lr": 0.01, "augment": "none"}
    classifier = _classifier(epochs=12, recipe=recipe).fit(images, labels)
    assert classifier.classes_.tolist() == ["green", "red"]
    assert classifier.score(images, labels) > 0.9
    probabilities = classifier.predict_proba(images)
    assert probabilities.shape == (40, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (classifier.classes_[probabilities.argmax(axis=1)] == classifier.predict(images)).all()
    assert len(classifier.history_) == 12
    assert classifier.settings_.mean == pytest.approx((images / 255).mean(axis=(0, 1, 2)))


def test_a_seed_gives_the_same_network_and_leaves_lucids_generator_alone() -> None:
    lucid.manual_seed(7)
    expected = lucid.rand(2).tolist()
    lucid.manual_seed(7)
    first, second = (_classifier().fit(X[:40], Y[:40]).decision_function(X[:5]) for _ in range(2))
    other = _classifier(random_state=1).fit(X[:40], Y[:40]).decision_function(X[:5])
    assert lucid.rand(2).tolist() == expected
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_paths_and_arrays_of_paths(files: tuple[list[str], np.ndarray]) -> None:
    paths, labels = files
    classifier = _classifier().fit(paths, labels)
    expected = classifier.decision_function(paths)
    for same in (np.array(paths), np.array(paths, object), [Path(path) for path in paths]):
        np.testing.assert_array_equal(classifier.decision_function(same), expected)
    with pytest.raises(FileNotFoundError, match="missing"):
        classifier.predict(["missing.png"])


def test_it_is_an_estimator() -> None:
    classifier = _classifier().fit(X[:30], Y[:30])
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict(X[:9]), classifier.predict(X[:9]))
    copied = base.clone(classifier)
    assert copied.get_params() == classifier.get_params()
    assert not hasattr(copied, "model_")
    assert base.is_classifier(classifier)
    assert "ImageClassifier(" in repr(classifier)
    with pytest.raises(Exception, match="not fitted yet"):
        copied.predict(X[:2])


def test_cross_validation_and_search() -> None:
    scores = model_selection.cross_val_score(_classifier(), X[:60], Y[:60], cv=3)
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()
    search = model_selection.GridSearchCV(
        pipeline.Pipeline([("same", preprocessing.FunctionTransformer()), ("net", _classifier())]),
        {"net__size": [32, 40]},
        cv=2,
    )
    search.fit(X[:40], Y[:40])
    assert search.best_params_["net__size"] in (32, 40)
    assert search.predict(X[:3]).shape == (3,)


RECIPES: dict[str, Any] = {
    "recipe": training.Recipe(ema=0.9, mixup=0.2, optimizer="sgd", accumulate=2, augment="none"),
    "entries": {"ema": 0.9, "class_weights": True, "balanced": True},
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    classifier = _classifier(recipe=recipe).fit(X[:40], Y[:40])
    assert classifier.recipe_.ema == 0.9
    assert classifier.recipe_.epochs == 1
    assert classifier.recipe_.lr is not None
    if name == "recipe":
        file = tmp_path / "recipe.toml"
        file.write_text(recipe.toml())
        same = _classifier(recipe=str(file)).fit(X[:40], Y[:40])
        np.testing.assert_array_equal(same.decision_function(X), classifier.decision_function(X))


def test_weights(tmp_path: Path) -> None:
    path = tmp_path / f"{SMALL}.npz"
    model = models.create_model(SMALL, num_classes=5)
    lucid.save(model.state_dict(), path)
    images, labels = _two_colours(16)
    recipe = {"lr": 1e-9, "augment": "none"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier = _classifier(weights=str(path), recipe=recipe).fit(images, labels)
    name, weight = next(iter(model.named_parameters()))
    np.testing.assert_allclose(
        dict(classifier.model_.named_parameters())[name].data, weight.data, atol=1e-7
    )
    with pytest.raises(ValueError, match=r"with weights, expected pixels from 0 to 1, .* to 16"):
        _classifier(weights=str(path)).fit(X[:20], Y[:20])
    features = ImageFeatures(path, size=32).fit(images)
    settings = features.settings_
    pixels = (images[:3] / np.float32(255)).transpose(0, 3, 1, 2)
    resized = lucid.data.transforms.Resize((32, 32), "bicubic")(pixels)
    low, high = (side(axis=(1, 2, 3), keepdims=True) for side in (pixels.min, pixels.max))
    mean, std = (np.array(part, np.float32).reshape(3, 1, 1) for part in settings[1:3])
    model.eval()
    with lucid.no_grad():
        shown = lucid.from_numpy((np.clip(resized, low, high) - mean) / std)
        maps = model.forward_features(shown)
        expected = model.forward_head(maps, pre_logits=True).data
    np.testing.assert_allclose(features.transform(images[:3]), expected, atol=1e-4)
    alone = np.concatenate([features.transform(images[n : n + 1]) for n in range(3)])
    np.testing.assert_allclose(alone, expected, atol=1e-4)


def test_features(files: tuple[list[str], np.ndarray]) -> None:
    features = ImageFeatures(model=SMALL, size=32, random_state=0)
    images, labels = _two_colours(16)
    found = features.fit_transform(images)
    assert found.shape == (16, features.model_.head_hidden_size)
    assert features.get_feature_names_out()[0] == "imagefeatures0"
    np.testing.assert_array_equal(base.clone(features).fit(images).transform(images), found)
    again = pickle.loads(pickle.dumps(features))
    np.testing.assert_array_equal(again.transform(images), found)
    for scaled in (images / 255, (images / 255).astype(np.float32)):
        np.testing.assert_allclose(features.transform(scaled), found, atol=1e-4)
    assert features.transform(X[:2] / 16).shape[0] == 2
    assert features.transform(files[0]).shape == found.shape
    made = pipeline.make_pipeline(features, LogisticRegression(max_iter=1000))
    assert model_selection.cross_val_score(made, images, labels, cv=2).shape == (2,)
    with pytest.raises(Exception, match="not fitted yet"):
        base.clone(features).transform(images)


BAD: dict[str, tuple[Any, Any, str]] = {
    "rows": (X.reshape(len(X), -1), Y, r"expected images .* \(1797, 64\) .* need image_shape$"),
    "one path": ("a.png", ["a"], r"an array of images or a list of paths, got 'a\.png'"),
    "channels": (np.zeros((2, 8, 8, 4)), [0, 1], r"expected 1 or 3 channels \(axis 3\), got 4"),
    "nothing": (X[:0], Y[:0], r"0 sample\(s\)"),
    "complex": (X[:2] * 1j, Y[:2], "dtype complex128"),
    "nan": (X[:2] * np.nan, Y[:2], "the images hold NaN or infinity"),
    "lengths": (X[:4], Y[:3], "inconsistent numbers of samples"),
    "no labels": (X[:4], None, "requires y to be passed"),
    "numbers": (X[:4], [0.5, 1.5, 2.25, 0.1], "Unknown label type"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    images, labels, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        _classifier().fit(images, labels)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="'epochs': expected an integer"):
        _classifier(epochs=0).fit(X[:4], Y[:4])
    with pytest.raises(ValueError, match="arrays are augmented by 'none' or 'light', not by 'rand"):
        _classifier(recipe={"augment": "rand-m9"}).fit(X[:4], Y[:4])
    with pytest.raises(FileNotFoundError, match="there is no recipe 'nonsense'"):
        _classifier(recipe="nonsense").fit(X[:4], Y[:4])


def test_rows_of_pixels_are_images_of_a_shape() -> None:
    plain, rows = _classifier(), _classifier(image_shape=(8, 8))
    expected = plain.fit(X[:40], Y[:40]).decision_function(X[:5])
    np.testing.assert_array_equal(
        rows.fit(DIGITS.data[:40], Y[:40]).decision_function(DIGITS.data[:5]), expected
    )
    assert rows.n_features_in_ == 64
    images, labels = _two_colours(16)
    colour = _classifier(image_shape=[12, -1, 3]).fit(images.reshape(16, -1), labels)
    np.testing.assert_array_equal(
        colour.decision_function(images.reshape(16, -1)),
        _classifier().fit(images, labels).decision_function(images),
    )
    features = ImageFeatures(model=SMALL, size=32, random_state=0, image_shape=(8, -1))
    table = pytest.importorskip("pandas").DataFrame(DIGITS.data[:4]).add_prefix("pixel_")
    flat = features.fit_transform(table)
    assert features.feature_names_in_[1] == "pixel_1"
    images_alone = ImageFeatures(model=SMALL, size=32, random_state=0)
    np.testing.assert_array_equal(flat, images_alone.fit_transform(X[:4]))
    scaled = pipeline.make_pipeline(preprocessing.StandardScaler(), _classifier(image_shape=(8, 8)))
    assert model_selection.cross_val_score(scaled, DIGITS.data[:60], Y[:60], cv=2).shape == (2,)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((7, 8), r"rows of 64 pixels are no images of image_shape \(7, 8\): cannot reshape"),
        ((4, 4, 4), r"rows of 64 pixels are no images .*: expected 1 or 3 channels \(axis 3\)"),
        ((64,), r"image_shape: expected \(H, W\) or \(H, W, C\), got \(64,\)"),
        ((8.0, 8.0), r"image_shape: expected \(H, W\) or \(H, W, C\), got \(8.0, 8.0\)"),
        (64, r"image_shape: expected \(H, W\) or \(H, W, C\), got 64"),
    ],
    ids=str,
)
def test_shapes_that_rows_do_not_have(shape: Any, message: str) -> None:
    for kind in (ImageClassifier, ImageFeatures):
        with pytest.raises(ValueError, match=f"^{kind.__name__}: {message}"):
            kind(image_shape=shape).fit(DIGITS.data[:4], Y[:4])


@pytest.mark.filterwarnings("ignore:Can't test estimator")  # with tables: it takes images
@pytest.mark.parametrize("kind", [ImageClassifier, ImageFeatures])
def test_scikit_learns_own_checks(kind: Any) -> None:
    results = estimator_checks.check_estimator(kind(), on_fail=None)
    assert results
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []


# Rows of any length are images one pixel high.
OF_ROWS = {"augment": "none", "batch_size": 32, "lr": 0.01}
ROWS: list[Any] = [
    _classifier(epochs=8, recipe=OF_ROWS, image_shape=(1, -1)),
    ImageFeatures(model=SMALL, size=32, random_state=0, image_shape=(1, -1)),
]


@pytest.mark.slow
@estimator_checks.parametrize_with_checks(ROWS)
def test_all_of_scikit_learns_checks(estimator: Any, check: Any) -> None:
    """None is left out; that of array API skips itself unless SciPy is told to use it."""
    check(estimator)
