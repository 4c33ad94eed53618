"""Parameters in groups for an optimiser."""

from __future__ import annotations

from typing import Any

from lucid.nn import Module


def decay_groups(
    model: Module,
    weight_decay: float,
    *,
    lr: float | None = None,
    layer_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Return the parameters of ``model`` as groups of which only weights decay.

    Biases and the scales and shifts of normalisations do not: they have one axis, and pulling them
    to 0 limits what a layer can compute (He et al. 2018, "Bag of Tricks for Image Classification
    with Convolutional Neural Networks", section 3.1). Parameters that need no gradient are left
    out, and so is a group without any.

    With ``layer_decay`` each layer learns more slowly than the one behind it: what the first
    layers know serves most images, and pretrained weights are kept there (Clark et al. 2020,
    "ELECTRA", and Bao et al. 2022, "BEiT"). The groups are those of timm's
    ``param_groups_layer_decay``, with a rate ``lr`` in place of its ``lr_scale``.

    Args:
        model: whose parameters are to be trained.
        weight_decay: of the parameters with two axes or more.
        lr: the rate of the last layer, the classifier's; asked for by ``layer_decay``.
        layer_decay: what a layer's rate is multiplied by to give that of the layer before, above 0
            and at most 1; None gives all the same. A MobileNetV4's layers are the stem, each block
            of its stages, and last all that follows; another model's are its children.

    Raises:
        ValueError: if ``layer_decay`` is out of range, or without ``lr``.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        >>> groups = training.decay_groups(model, 0.05)
        >>> [(group["weight_decay"], len(group["params"])) for group in groups]
        [(0.05, 1), (0.0, 3)]
        >>> optim.AdamW(groups, lr=3e-3).param_groups[0]["weight_decay"]
        0.05
        >>> groups = training.decay_groups(model, 0.05, lr=1.0, layer_decay=0.5)
        >>> [(group["lr"], len(group["params"])) for group in groups]
        [(0.5, 1), (0.5, 1), (1.0, 2)]
    """
    if layer_decay is None:
        return _by_axes(list(model.parameters()), weight_decay)
    if not 0 < layer_decay <= 1:
        raise ValueError(f"decay_groups: expected layer_decay in (0, 1], got {layer_decay}")
    if lr is None:
        raise ValueError("decay_groups: layer_decay divides a rate; give the last layer's as lr")
    layers = _layers(model)
    return [
        {**group, "lr": lr * layer_decay ** (len(layers) - 1 - index)}
        for index, layer in enumerate(layers)
        for group in _by_axes(layer, weight_decay)
    ]


def _by_axes(parameters: list[Any], weight_decay: float) -> list[dict[str, Any]]:
    parameters = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _layers(model: Module) -> list[list[Any]]:
    """Return the parameters of each layer, from the input to the output."""
    depth = {"conv0": 1, "layers": 3} if hasattr(model, "forward_features") else {}
    layers: dict[tuple[str, ...], list[Any]] = {}
    for name, parameter in model.named_parameters():
        path = name.split(".")
        length = depth.get(path[0], 0) if depth else 1  # 0: what follows the blocks
        layers.setdefault(tuple(path[:length]), []).append(parameter)
    return list(layers.values())
