"""What each class counts in the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid.autograd import Tensor


def class_weights(labels: Any, classes: int) -> Tensor:
    r"""Return weights ``(classes,)`` with which all classes count the same, however rare.

    A class with :math:`n_c` of :math:`n` images weighs :math:`n / (C\,n_c)`, as scikit-learn's
    ``class_weight="balanced"`` has it; one without any weighs 0.

    Args:
        labels: integers ``(N,)`` of the training images.
        classes: :math:`C`, their number.

    Raises:
        ValueError: if a label is none of the classes, or there are no labels.

    Example:
        >>> weight = training.class_weights([0, 0, 0, 1], 2)
        >>> [round(w, 4) for w in weight.tolist()]
        [0.6667, 2.0]
        >>> nn.CrossEntropyLoss(weight)(lucid.zeros(2, 2), lucid.tensor([0, 1])).item() > 0
        True
    """
    given = np.asarray(labels)
    if given.ndim != 1 or given.dtype.kind not in "iu" or not given.size:
        raise ValueError(f"class_weights: expected integers of shape (N,), got {labels!r}")
    if given.min() < 0 or given.max() >= classes:
        raise ValueError(
            f"class_weights: expected labels from 0 to {classes - 1}, got {given.min()} to "
            f"{given.max()}"
        )
    counts = np.bincount(given, minlength=classes)
    weights = np.divide(given.size, classes * counts, out=np.zeros(classes), where=counts > 0)
    return Tensor(weights.astype(np.float32))
