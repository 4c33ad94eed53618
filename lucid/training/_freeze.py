"""Parts of a model that are not trained."""

from __future__ import annotations

from collections.abc import Iterable

from lucid._check import is_integer, short
from lucid.nn import Module


def freeze(model: Module, stages: int | Iterable[str]) -> None:
    """Keep parts of a model as they are: parameters, and the statistics of their batch norms.

    Their parameters need no gradient any more, and their modules go into evaluation mode, in which
    batch norms use what they know and dropout and stochastic depth do nothing. A later
    ``model.train()`` would wake the batch norms up; :func:`train_epoch` leaves them asleep.

    Args:
        model: is put into training mode, except for these parts.
        stages: how many stages from the input on, 0 for none: in a MobileNetV4 ``conv0`` is the
            first, those of ``layers`` follow, and 6 leave the head; in another model each child is
            a stage. Or the names of modules, such as ``["conv0", "layers.0"]``.

    Raises:
        ValueError: if there are not so many stages, or none is left to train.
        AttributeError: if there is no module of that name.

    Example:
        >>> model = models.mobilenetv4_conv_small(num_classes=10)
        >>> training.freeze(model, 6)
        >>> [name for name, p in model.named_parameters() if p.requires_grad][-2:]
        ['classifier.weight', 'classifier.bias']
        >>> model.conv0.training, model.classifier.training
        (False, True)
    """
    if isinstance(stages, int):
        known = stages_of(model)
        if not is_integer(stages, 0, len(known) - 1):
            raise ValueError(
                f"freeze: expected 0 to {len(known) - 1} stages, as the last one is to be "
                f"trained, got {short(stages)}"
            )
        names = known[:stages]
    else:
        names = list(stages)
    parts = [model.get_submodule(name) for name in names]
    model.train()
    for part in parts:
        part.eval().requires_grad_(False)


def unfreeze(model: Module) -> None:
    """Train all of a model again."""
    model.train().requires_grad_(True)


def stages_of(model: Module) -> list[str]:
    """Return the names of a model's stages: its children, and those of ``layers`` one by one.

    These are modules to freeze, by name. A rate decays from block to block within a stage too
    (``decay_groups``), and a diagram finds its stages in what was run, in any container.
    """
    names = []
    for name, child in model.named_children():
        inner = [f"{name}.{key}" for key, _ in child.named_children()] if name == "layers" else []
        names += inner or [name]
    return [name for name in names if any(True for _ in model.get_submodule(name).parameters())]
