"""A network that is trained to classify images, as a classifier of scikit-learn."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lucid import nn
from lucid._extras import extra
from lucid.autograd import no_grad
from lucid.data.datasets import ImageArrays
from lucid.data.transforms import training
from lucid.data.transforms._presets import for_channels
from lucid.graph import evaluation as in_evaluation
from lucid.models._checkpoints import DEFAULT
from lucid.ops import softmax
from lucid.sklearn._images import (
    Array,
    Files,
    ImageEstimator,
    Images,
    Settings,
    base,
    batches,
    check_range,
    prepared,
    scaled,
    seeded,
    validation,
)
from lucid.training import Recipe, train_epoch
from lucid.training._from_recipe import (
    Mixed,
    build_average,
    build_fitting,
    build_loss,
    build_mix,
    build_model,
    check_input,
    open_weights,
    set_frozen,
)

_multiclass: Any = extra("sklearn.utils.multiclass", "data", "lucid.sklearn needs scikit-learn")

_WHO = "ImageClassifier"


class ImageClassifier(ImageEstimator, base.ClassifierMixin, base.BaseEstimator):
    """A network that learns to classify images, for use with scikit-learn.

    It is trained as ``lucid train`` trains, by a :class:`lucid.training.Recipe`, but on all images
    that it is given: no part is held out, and the weights are those of the last epoch. Arrays are
    resized to ``size`` squared and normalised by their own mean and standard deviation, or as the
    weights expect. With ``augment`` of the recipe they are turned and shifted at random.

    Args:
        model: a name that ``lucid models`` lists; None is the recipe's.
        weights: what to start from, as an entry ``weights`` of a recipe says; None is the recipe's.
        size: height and width of the images for the network; None is that of the weights, or else
            the recipe's, or else 48.
        epochs: passes over the images; None is the recipe's.
        recipe: a Recipe, a mapping of its entries, or what :meth:`lucid.training.Recipe.read`
            takes. Those that say which images to train on, where to write or what to learn from
            beside the labels have no effect.
        image_shape: what a row of pixels is, as of ``load_digits().data``: ``(H, W)`` or ``(H, W,
            C)``, of which one may be -1 to follow from the others. ``X`` is ``(N, pixels)`` then.
        random_state: an integer for the same result each time; None for others, or NumPy's
            RandomState.

    Attributes:
        classes_: the labels, sorted.
        model_: the network, in evaluation mode.
        settings_: how images are prepared for it.
        history_: loss and accuracy of each epoch on its way.
        recipe_: by which it was trained, with all that was chosen for it.

    Raises:
        ValueError: in ``fit``, if images are no ``(N, H, W)`` or ``(N, H, W, C)`` with one channel
            or three, or an entry of the recipe cannot be.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from lucid.sklearn import ImageClassifier
        >>> digits = load_digits()
        >>> classifier = ImageClassifier(size=32, epochs=1, random_state=0)
        >>> classifier = classifier.fit(digits.images[:100], digits.target[:100])
        >>> classifier.predict(digits.images[:5]).shape
        (5,)
        >>> classifier.predict_proba(digits.images[:5]).shape
        (5, 10)
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        weights: Any = None,
        size: int | None = None,
        epochs: int | None = None,
        recipe: Recipe | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        image_shape: Sequence[int] | None = None,
        random_state: Any = None,
    ) -> None:
        self.model = model
        self.weights = weights
        self.size = size
        self.epochs = epochs
        self.recipe = recipe
        self.image_shape = image_shape
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> ImageClassifier:
        """Train on images.

        Args:
            X: ``(N, H, W)`` or ``(N, H, W, C)``, pixels of any scale (uint8, or between 0 and 1,
                with weights); or N paths of pictures.
            y: the N labels: numbers or strings.
        """
        images = self._images(X, fitting=True)
        if y is None:
            raise ValueError(f"{_WHO} requires y to be passed, but the target y is None")
        y = validation.column_or_1d(y, warn=True)
        validation.assert_all_finite(y)
        validation.check_consistent_length(images, y)
        if len(images) == 1:
            raise ValueError(f"{_WHO}: expected two images or more to learn from, got 1 sample")
        _multiclass.check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        recipe = self._recipe()
        with seeded(self.random_state):
            self._train(recipe, images, labels.astype(np.int64))
        return self

    def _recipe(self) -> Recipe:
        given = self.recipe
        if isinstance(given, Mapping):
            recipe = Recipe(**given)
        elif given is None or isinstance(given, Recipe):
            recipe = given or Recipe()
        else:
            recipe = Recipe.read(given)
        own = {name: getattr(self, name) for name in ("model", "weights", "size", "epochs")}
        chosen = {name: value for name, value in own.items() if value is not None}
        return replace(recipe, **chosen, teacher=None)

    def _train(self, recipe: Recipe, images: Images, labels: Array) -> None:
        start = open_weights(recipe)
        if start is not None:
            check_range(images, _WHO)
            recipe = replace(recipe, size=recipe.size or start.size)
        recipe = recipe.settled(len(labels))
        channels = 3 if isinstance(images, list) else images.shape[3]
        expected = start and start.mean and start.std and (start.mean, start.std)
        mean, std = expected or _spread(images)
        mean, std = for_channels(mean, channels), for_channels(std, channels)
        settings = Settings(recipe.size or 0, mean, std, "bicubic", 1.0, channels)
        names = [str(name) for name in self.classes_]
        train, changed = _training(images, labels, names, settings, recipe.augment)

        model = build_model(recipe, names, channels, start, lambda line: None)
        fitting = build_fitting(recipe, model, train, names, changed)
        check_input(model, (min(2, fitting.batch_size), channels, settings.size, settings.size))
        mix = build_mix(recipe, len(names))
        averaged = build_average(recipe, model)
        self.history_ = []
        for epoch in range(1, recipe.epochs + 1):
            set_frozen(recipe, model, epoch)
            score = train_epoch(
                model,
                fitting.loader if mix is None else Mixed(fitting.loader, mix),
                fitting.optimizer,
                criterion=build_loss(recipe, train, len(names)),
                after_step=lambda score: fitting.scheduler.step(),
                accumulate=recipe.accumulate,
                clip_grad=recipe.clip_grad,
                averaged=averaged,
            )
            self.history_.append({"loss": score.loss, "accuracy": score.accuracy})
        self.model_: nn.Module = (model if averaged is None else averaged.module).eval()
        self.settings_, self.recipe_ = settings, recipe

    def _logits(self, X: Any) -> Array:
        validation.check_is_fitted(self)
        found = batches(self._images(X), self.settings_)
        with in_evaluation(self.model_), no_grad():
            return np.concatenate([self.model_(images).data for images, *_ in found])

    def decision_function(self, X: Any) -> Array:
        """Return the logits of images, ``(N, classes)`` float32.

        Of two classes it is how much larger the second's logit is, ``(N,)``, as scikit-learn has
        it.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class for each image, ``(N, classes)`` float64."""
        return softmax(self._logits(X).astype(np.float64), 1).data

    def predict(self, X: Any) -> Array:
        """Return the likeliest label of each image, ``(N,)``."""
        places = self._logits(X).argmax(axis=1)
        return self.classes_[places]


def _spread(images: Images) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel; of pictures in files ImageNet's."""
    if isinstance(images, list):
        return list(DEFAULT["mean"]), list(DEFAULT["std"])
    pixels = scaled(images).astype(np.float64)
    std = pixels.std(axis=(0, 1, 2))
    return pixels.mean(axis=(0, 1, 2)).tolist(), np.where(std > 0, std, 1.0).tolist()


def _training(
    images: Images, labels: Array, names: list[str], settings: Settings, augment: str
) -> tuple[Any, Any]:
    """Return the images to learn from, and what changes a batch of them at random."""
    if isinstance(images, list):
        size, mean, std, interpolation, _, channels = settings
        return Files(
            images, training(augment, size, mean, std, interpolation, channels), labels
        ), None
    if augment not in ("none", "light"):
        raise ValueError(
            f"{_WHO}: arrays are augmented by 'none' or 'light', not by {augment!r}: give paths of "
            "pictures for that"
        )
    pixels = prepared(images, settings)
    train = ImageArrays(pixels, labels, names, tuple(settings.mean), tuple(settings.std))
    return train, None if augment == "none" else train.augmentation()
