"""Parameters in groups for an optimiser."""

from __future__ import annotations

from typing import Any

from lucid.nn import Module


def decay_groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameters of ``model`` as groups of which only weights decay.

    Biases and the scales and shifts of normalisations do not: they have one axis, and pulling them
    to 0 limits what a layer can compute (He et al. 2018, "Bag of Tricks for Image Classification
    with Convolutional Neural Networks", section 3.1). Parameters that need no gradient are left
    out, and so is a group without any.

    Args:
        model: whose parameters are to be trained.
        weight_decay: of the parameters with two axes or more.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        >>> groups = training.decay_groups(model, 0.05)
        >>> [(group["weight_decay"], len(group["params"])) for group in groups]
        [(0.05, 1), (0.0, 3)]
        >>> optim.AdamW(groups, lr=3e-3).param_groups[0]["weight_decay"]
        0.05
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
