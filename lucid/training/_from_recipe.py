"""What the entries of a recipe make: model, optimiser, schedule, loss, and what is frozen when."""

from __future__ import annotations

from typing import Any

from lucid import models, nn, optim
from lucid.data import Dataset
from lucid.data._dataset import labels_of
from lucid.optim.lr_scheduler import LambdaLR
from lucid.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from lucid.training._class_weights import class_weights
from lucid.training._decay_groups import decay_groups
from lucid.training._freeze import freeze, stages_of, unfreeze
from lucid.training._loop import LossFunction, warmup_cosine
from lucid.training._recipe import Recipe


def build_model(recipe: Recipe, classes: int, in_channels: int) -> nn.Module:
    """Return the model, with fresh weights."""
    rates = {"drop_rate": recipe.dropout, "drop_path_rate": recipe.drop_path}
    # Not every model takes them.
    given: dict[str, Any] = {name: rate for name, rate in rates.items() if rate}
    return models.create_model(recipe.model, num_classes=classes, in_channels=in_channels, **given)


def build_optimizer(recipe: Recipe, model: nn.Module) -> optim.Optimizer:
    """Return the optimiser of all parameters that are trained in the run's last epoch."""
    set_frozen(recipe, model, recipe.epochs)
    groups = decay_groups(model, recipe.weight_decay, lr=recipe.lr, layer_decay=recipe.layer_decay)
    if recipe.optimizer == "sgd":
        return optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)
    return optim.AdamW(groups, lr=recipe.lr)


def build_schedule(recipe: Recipe, optimizer: optim.Optimizer, steps: int) -> LambdaLR:
    """Return the schedule, given the steps of an epoch.

    The epochs in which the classifier is trained alone have a warm-up and a cosine of their own.
    """
    alone = recipe.head_epochs * steps
    rest = recipe.epochs * steps - alone

    def factor(step: int) -> float:
        number, total = (step, alone) if step < alone else (step - alone, rest)
        return warmup_cosine(number, total, round(recipe.warmup * total))

    return LambdaLR(optimizer, factor)


def build_average(recipe: Recipe, model: nn.Module) -> AveragedModel | None:
    """Return the moving average of weights and statistics, if the recipe asks for one."""
    if recipe.ema is None:
        return None
    average = get_ema_multi_avg_fn(recipe.ema, warmup=True)
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


def build_loss(recipe: Recipe, train: Dataset, classes: int) -> LossFunction:
    """Return the loss, given the training images."""
    weight = class_weights(labels_of(train), classes) if recipe.class_weights else None
    return nn.CrossEntropyLoss(weight, label_smoothing=recipe.label_smoothing)


def set_frozen(recipe: Recipe, model: nn.Module, epoch: int) -> None:
    """Freeze what an epoch, counted from 1, does not train, and wake up all else."""
    unfreeze(model)
    if epoch <= recipe.head_epochs:
        freeze(model, len(stages_of(model)) - 1)
    elif recipe.freeze:
        freeze(model, recipe.freeze)
