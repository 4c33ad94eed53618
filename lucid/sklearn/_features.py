"""The features that a network sees in images, as a transformer of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lucid import models
from lucid.autograd import no_grad
from lucid.data.transforms._presets import expected
from lucid.sklearn._images import (
    Array,
    ImageEstimator,
    Settings,
    base,
    batches,
    check_range,
    seeded,
    validation,
)

_WHO = "ImageFeatures"


class ImageFeatures(
    ImageEstimator, base.ClassNamePrefixFeaturesOutMixin, base.TransformerMixin, base.BaseEstimator
):
    """Images as the pooled features that a network sees in them: what ``lucid embed`` writes.

    The network is not trained. A linear classifier on the features of published weights is a
    strong and quick start; without weights the features are random.

    Args:
        weights: a file of lucid's, timm's or PyTorch's, or a name, as
            :func:`lucid.models.load_model` takes them; None for fresh ones.
        model: the network's name; None is what the weights are of, or else
            ``mobilenetv4_conv_small``.
        size: height and width of the images for the network; None is what the weights expect, 224
            where they do not say.
        batch_size: images in a step.
        image_shape: what a row of pixels is, as of ``load_digits().data``: ``(H, W)`` or ``(H, W,
            C)``, of which one may be -1 to follow from the others. ``X`` is ``(N, pixels)`` then.
        random_state: an integer for the same fresh weights each time.

    Attributes:
        model_: the network, in evaluation mode.
        settings_: how images are prepared for it.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> from lucid.sklearn import ImageFeatures
        >>> images = np.random.default_rng(0).random((6, 20, 30, 3))
        >>> features = ImageFeatures(size=32, random_state=0)
        >>> features.fit_transform(images).shape
        (6, 1280)
        >>> pipeline = make_pipeline(features, LogisticRegression())
        >>> pipeline.fit(images, [0, 1, 0, 1, 0, 1]).predict(images).shape
        (6,)
    """

    def __init__(
        self,
        weights: Any = None,
        *,
        model: str | None = None,
        size: int | None = None,
        batch_size: int = 64,
        image_shape: Sequence[int] | None = None,
        random_state: Any = None,
    ) -> None:
        self.weights = weights
        self.model = model
        self.size = size
        self.batch_size = batch_size
        self.image_shape = image_shape
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # features are float32
        return tags

    def fit(self, X: Any, y: Any = None) -> ImageFeatures:
        """Build the network; nothing is learned from the images.

        Args:
            X: ``(N, H, W)`` or ``(N, H, W, C)``, pixels between 0 and 1, or uint8; or N paths of
                pictures.
            y: is not used.
        """
        images = self._images(X, fitting=True)
        model: Any
        if self.weights is None:
            with seeded(self.random_state):
                model = models.create_model(self.model or "mobilenetv4_conv_small")
        else:
            check_range(images, _WHO)
            model = models.load_model(self.weights, self.model, tell=lambda line: None)
        settings = expected(model)
        self.settings_ = Settings(**{**settings, "size": self.size or settings["size"]})
        self.model_: Any = model.eval()
        self._n_features_out = int(model.head_hidden_size)
        return self

    def transform(self, X: Any) -> Array:
        """Return the features of images, ``(N, features)`` float32."""
        validation.check_is_fitted(self)
        images = self._images(X)
        if self.weights is not None:
            check_range(images, _WHO)
        found = batches(images, self.settings_, self.batch_size)
        with no_grad():
            features = [
                self.model_.forward_head(self.model_.forward_features(part), pre_logits=True).data
                for part, *_ in found
            ]
        return np.concatenate(features)
