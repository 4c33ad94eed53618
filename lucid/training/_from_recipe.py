"""What the entries of a recipe make: model, optimiser, schedule, loss, and what is frozen when."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lucid import _random, models, nn, optim
from lucid._check import one_line
from lucid.autograd import Tensor, no_grad
from lucid.data import Cached, DataLoader, Dataset, balanced
from lucid.data._dataset import labels_of, transform_of
from lucid.data.transforms import CutMix, MixUp
from lucid.models._pretrained import (
    Checkpoint,
    build_from,
    known_settings,
    open_named,
    set_batch_norms,
    variant_of,
)
from lucid.ops import zeros
from lucid.optim.lr_scheduler import LambdaLR
from lucid.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from lucid.training._class_weights import class_weights
from lucid.training._decay_groups import decay_groups
from lucid.training._description import Description
from lucid.training._distillation import Answered, DistillationLoss, OtherImages
from lucid.training._freeze import freeze, stages_of, unfreeze
from lucid.training._loop import Batch, Batches, LossFunction, warmup_cosine
from lucid.training._recipe import Recipe


class Start(NamedTuple):
    """What a model starts from.

    Args:
        checkpoint: the weights.
        size: height and width of the images that they expect; None if they do not say it.
        mean: what is subtracted from pixels between 0 and 1, or None.
        std: what they are divided by then, or None.
        classes: the names of their classes, or None.
        bn_eps: what their batch norms add to a variance; None if it is the model's own.
    """

    checkpoint: Checkpoint
    size: int | None
    mean: list[float] | None
    std: list[float] | None
    classes: list[str] | None
    bn_eps: float | None


def open_weights(recipe: Recipe) -> Start | None:
    """Read the weights that a recipe names, if it does.

    Raises:
        ValueError: if they are damaged, or the recipe's model takes none.
        FileNotFoundError: if there are no such weights.
    """
    if recipe.weights is None:
        return None
    if variant_of(recipe.model) == recipe.model:
        raise ValueError(f"weights: only MobileNetV4 starts from weights, not {recipe.model}")
    checkpoint = open_named(recipe.model, recipe.weights)
    known = known_settings(checkpoint, recipe.model)
    mean, std, classes = (
        list(known[key]) if key in known else None for key in ("mean", "std", "classes")
    )
    size = known.get("input_size", (None,))[-1]
    return Start(checkpoint, size, mean, std, classes, known.get("bn_eps"))


def build_model(
    recipe: Recipe,
    classes: list[str],
    in_channels: int,
    start: Start | None,
    tell: Callable[[str], Any],
) -> nn.Module:
    """Return the model, with fresh weights or those to start from.

    The classifier is kept if it is for these classes, and starts fresh if not.

    Raises:
        ValueError: if the weights do not fit.
    """
    rates = {"drop_rate": recipe.dropout, "drop_path_rate": recipe.drop_path}
    # Not every model takes them.
    given: dict[str, Any] = {name: rate for name, rate in rates.items() if rate}
    given["in_channels"] = in_channels
    if start is None:
        model = models.create_model(recipe.model, num_classes=len(classes), **given)
    else:
        model = _build_from(start, recipe.model, classes, given, tell)
    set_batch_norms(model, eps=recipe.bn_eps, momentum=recipe.bn_momentum)
    return model


def _build_from(
    start: Start,
    name: str,
    classes: list[str],
    given: dict[str, Any],
    tell: Callable[[str], Any],
) -> nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*starts from fresh weights")
        # Copies, as another model may start from them too.
        state = {key: value.clone() for key, value in start.checkpoint.state.items()}
        model = build_from(start.checkpoint._replace(state=state), name, len(classes), **given)
    count = model.pretrained_cfg["num_classes"] if model.pretrained_cfg else 0
    if start.classes not in (None, classes) and count == len(classes):
        model.reset_classifier(count)
        count = 0
    if count != len(classes):
        tell(f"all of {start.checkpoint.source} is loaded, except for a fresh classifier")
    return model


def build_optimizer(recipe: Recipe, model: nn.Module) -> optim.Optimizer:
    """Return the optimiser of all parameters that are trained in the run's last epoch."""
    if recipe.lr is None:
        raise ValueError("lr: expected a settled recipe, with a number")
    set_frozen(recipe, model, recipe.epochs)
    groups = decay_groups(model, recipe.weight_decay, lr=recipe.lr, layer_decay=recipe.layer_decay)
    if recipe.optimizer == "sgd":
        return optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)
    betas = (recipe.beta1, recipe.beta2)
    return optim.AdamW(groups, lr=recipe.lr, betas=betas, eps=recipe.opt_eps)


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


class Fitting(NamedTuple):
    """What goes through a model in training, and what changes it.

    Args:
        loader: the batches of training images.
        batch_size: how many images a batch has.
        steps: how many steps of the optimiser an epoch has.
        optimizer: holds the model's parameters.
        scheduler: takes a step after each of the optimiser's.
    """

    loader: DataLoader
    batch_size: int
    steps: int
    optimizer: optim.Optimizer
    scheduler: LambdaLR


def build_fitting(
    recipe: Recipe, model: nn.Module, train: Dataset, classes: list[str], transform: Any
) -> Fitting:
    """Return what a settled recipe trains a model with.

    Args:
        recipe: how.
        model: what is trained.
        train: the training images.
        classes: the names of their classes.
        transform: what changes a batch of them at random, or None.
    """
    optimizer = build_optimizer(recipe, model)
    batch_size = min(recipe.batch_size or 1, len(train))
    loader = build_loader(recipe, train, classes, batch_size, transform)
    steps = -(-len(loader) // recipe.accumulate)
    return Fitting(loader, batch_size, steps, optimizer, build_schedule(recipe, optimizer, steps))


def build_average(recipe: Recipe, model: nn.Module) -> AveragedModel | None:
    """Return the moving average of weights and statistics, if the recipe asks for one."""
    if recipe.ema is None:
        return None
    average = get_ema_multi_avg_fn(recipe.ema, warmup=True)
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


def build_loss(recipe: Recipe, train: Dataset, classes: int) -> LossFunction:
    """Return the loss, given the training images."""
    weight = class_weights(labels_of(train), classes) if recipe.class_weights else None
    loss = nn.CrossEntropyLoss(weight, label_smoothing=recipe.label_smoothing)
    if recipe.teacher is None:
        return loss
    return DistillationLoss(recipe.temperature, recipe.teacher_weight, loss)


def build_teacher(recipe: Recipe, description: Description) -> nn.Module | None:
    """Return the model that is learned from, if the recipe names one.

    Raises:
        ValueError: if there is none, it knows other classes, or does not take such images.
    """
    if recipe.teacher is None or recipe.is_taught_by_file:
        return None
    try:
        teacher = models.load_model(recipe.teacher, tell=lambda line: None)
    except (ValueError, OSError) as error:
        raise ValueError(f"teacher: {one_line(error).removeprefix('weights: ')}") from error
    cfg: dict[str, Any] = teacher.pretrained_cfg or {}
    count, channels = len(description.classes), description.in_channels
    if (teacher.num_classes, teacher.in_channels) != (count, channels):
        raise ValueError(
            f"teacher: expected a model of {count} classes and {channels} image channels, "
            f"{recipe.teacher} is one of {teacher.num_classes} and {teacher.in_channels}"
        )
    if cfg.get("classes", description.classes) != description.classes:
        raise ValueError(f"teacher: the classes of {recipe.teacher} have other names or order")
    ours, theirs = (
        np.broadcast_to([mean, std], (2, channels)) if len(mean) == 1 else np.array([mean, std])
        for mean, std in ((description.mean, description.std), (cfg["mean"], cfg["std"]))
    )
    if theirs.shape[1] != channels:  # weights for colour, adapted to grey
        theirs = theirs.mean(axis=1, keepdims=True)
    if np.allclose(ours, theirs):
        return teacher
    return OtherImages(teacher, ours[1] / theirs[1], (ours[0] - theirs[0]) / theirs[1])


def build_loader(
    recipe: Recipe, train: Dataset, classes: list[str], batch_size: int, transform: Any
) -> DataLoader:
    """Return the loader of the training images.

    Batch norm dislikes a small last batch, so it is dropped.
    """
    images: Dataset = train
    if recipe.cache and transform_of(train):  # others are in memory
        images = Cached(images)
    if recipe.teacher is not None and recipe.is_taught_by_file:
        images = Answered(images, recipe.teacher, classes)
    return DataLoader(
        images,
        batch_size,
        shuffle=not recipe.balanced,
        sampler=balanced(labels_of(train)) if recipe.balanced else None,
        drop_last=True,
        transform=transform,
        num_workers=recipe.workers,
    )


def build_mix(recipe: Recipe, classes: int) -> Callable[[Tensor, Tensor], Batch] | None:
    """Return what makes pairs of images of a batch one, now and then; None if nothing does."""
    kinds = {MixUp: recipe.mixup, CutMix: recipe.cutmix}
    mixes = [kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds.items() if alpha]
    if not mixes:
        return None

    def mix(images: Tensor, labels: Tensor) -> Batch:
        rng = _random.generator()
        if rng.random() >= recipe.mix_probability:
            return images, labels
        return mixes[int(rng.integers(len(mixes)))](images, labels)

    return mix


@dataclass(frozen=True)
class Mixed:
    """Batches of which :func:`build_mix` makes others."""

    batches: Batches
    mix: Callable[..., Batch]

    def __iter__(self) -> Iterator[Batch]:
        return (self.mix(*batch) for batch in self.batches)


def set_frozen(recipe: Recipe, model: nn.Module, epoch: int) -> None:
    """Freeze what an epoch, counted from 1, does not train, and wake up all else."""
    unfreeze(model)
    if epoch <= recipe.head_epochs:
        freeze(model, len(stages_of(model)) - 1)
    else:
        freeze(model, recipe.freeze)


def check_input(model: nn.Module, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the model can be trained with such images; it stays as it is."""
    buffers = {name: buffer.data.copy() for name, buffer in model.named_buffers()}
    try:
        with _random.restored(), no_grad():
            model(zeros(*shape))
    except ValueError as error:
        height, width = shape[-2:]
        raise ValueError(
            f"the model cannot be trained with {shape[0]} images of {height}×{width} at a time: "
            f"{one_line(error)}"
        ) from error
    finally:
        for name, buffer in model.named_buffers():
            buffer.data[...] = buffers[name]
