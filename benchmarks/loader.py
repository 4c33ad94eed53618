"""How many photographs a second a loader gives, beside PyTorch's, and how long a step waits for it.

    python -m benchmarks.loader
    python -m benchmarks.loader --pictures 256 --rounds 2 --steps 2

The photographs are scikit-image's, cut and resized at random to JPEGs of 500×375. Each is read,
cropped at random to 224×224, mirrored, changed in brightness, contrast and saturation, and
normalised, in batches of 64. PyTorch's side does that with Pillow as torchvision's transforms do it
(torchvision itself need not be there). The loaders take turns; workers that are processes are
started before the clock is. ``cached`` keeps decoded pictures in memory, after a first epoch.

Last, conv_small takes training steps on what lucid's loader gives: the share of their time that
passes in waiting for a batch, after the first.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import lucid
from benchmarks._machine import available_processors, describe
from benchmarks._report import OUTPUT, write_json
from lucid import data, models, nn, optim
from lucid.data import transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH, SIZE, JITTER = 64, 224, 0.4
CLASSES = 10


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loader", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="training steps; 0 for none")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser


def write_photographs(folder: Path, count: int) -> None:
    """Write JPEGs of 500×375 in folders of classes: parts of scikit-image's photographs."""
    from PIL import Image
    from skimage import data as photographs

    names = ("astronaut", "coffee", "chelsea", "rocket", "retina", "hubble_deep_field")
    sources = [Image.fromarray(getattr(photographs, name)()[..., :3]) for name in names]
    rng = np.random.default_rng(0)
    for number in range(count):
        source = sources[number % len(sources)]
        width = rng.uniform(0.5, 1) * min(source.width, source.height * 4 / 3)
        left = rng.uniform(0, source.width - width)
        top = rng.uniform(0, source.height - width * 0.75)
        box = (left, top, left + width, top + width * 0.75)
        path = folder / str(number % CLASSES) / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        source.resize((500, 375), Image.Resampling.BICUBIC, box).save(path, quality=90)


# -- loaders -----------------------------------------------------------------------------------


def lucid_folder(folder: Path) -> data.datasets.ImageFolder:
    """Return the photographs with lucid's transforms."""
    changes = [
        transforms.RandomResizedCrop(SIZE),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(JITTER, JITTER, JITTER),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    return data.datasets.ImageFolder(folder, transforms.Compose(changes))


def lucid_loader(dataset: data.Dataset, workers: int) -> data.DataLoader:
    """Return lucid's loader of the photographs."""
    return data.DataLoader(dataset, BATCH, shuffle=True, drop_last=True, num_workers=workers)


class _TorchFolder:
    """The photographs as torchvision's ImageFolder, PIL transforms and tensors have them."""

    def __init__(self, folder: Path) -> None:
        self.samples = data.datasets.ImageFolder(folder).samples
        self.mean, self.std = (np.array(x, np.float32)[:, None, None] for x in (MEAN, STD))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        import torch
        from PIL import Image, ImageEnhance

        def uniform(low: float, high: float) -> float:
            return float(torch.empty(1).uniform_(low, high).item())

        path, label = self.samples[index]
        with path.open("rb") as file:
            image = Image.open(file).convert("RGB")
        left, top, width, height = self._crop(*image.size, uniform)
        image = image.crop((left, top, left + width, top + height))
        image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        factors = [uniform(1 - JITTER, 1 + JITTER) for _ in enhancers]
        for number in torch.randperm(4):
            if number < len(enhancers):
                image = enhancers[number](image).enhance(factors[number])
        tensor = torch.from_numpy(np.array(image, np.uint8, copy=True))
        tensor = tensor.permute((2, 0, 1)).contiguous().to(torch.float32).div(255)
        tensor = tensor.clone()
        tensor.sub_(torch.from_numpy(self.mean)).div_(torch.from_numpy(self.std))
        return tensor, label

    def _crop(
        self, width: int, height: int, uniform: Callable[[float, float], float]
    ) -> tuple[int, int, int, int]:
        import torch

        for _ in range(10):
            area = width * height * uniform(0.08, 1.0)
            ratio = math.exp(uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                top = int(torch.randint(0, height - h + 1, size=(1,)).item())
                return int(torch.randint(0, width - w + 1, size=(1,)).item()), top, w, h
        return 0, 0, width, height  # of a photograph of 4:3 never


def torch_loader(folder: Path, workers: int) -> Iterable[Any] | None:
    """Return PyTorch's loader of the photographs; None without PyTorch."""
    try:
        from torch.utils.data import DataLoader
    except ImportError:
        return None
    dataset: Any = _TorchFolder(folder)
    return DataLoader(
        dataset, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True
    )


# -- measuring ---------------------------------------------------------------------------------


def pictures_a_second(loader: Iterable[Any]) -> float:
    """Return the speed of one epoch."""
    began = time.perf_counter()
    count = sum(len(labels) for _, labels in loader)
    return count / (time.perf_counter() - began)


def waiting_share(loader: data.DataLoader, steps: int) -> float:
    """Return the share of training steps' time that passes in waiting for their batches."""
    model = models.create_model("mobilenetv4_conv_small", num_classes=CLASSES)
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    waited = worked = 0.0
    batches = _forever(loader)
    for number in range(steps + 1):
        before = time.perf_counter()
        images, labels = next(batches)
        given = time.perf_counter()
        optimizer.zero_grad()
        criterion(model(images), labels).backward()
        optimizer.step()
        if number:  # the first one has nothing loaded ahead, and compiles kernels
            waited += given - before
            worked += time.perf_counter() - given
    batches.close()
    return waited / (waited + worked)


def _forever(loader: data.DataLoader) -> Any:
    while True:
        yield from loader


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write."""
    args = parser().parse_args(argv)
    lucid.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photographs(folder, args.pictures)
        dataset = lucid_folder(folder)
        loaders: dict[str, Iterable[Any]] = {
            "lucid": lucid_loader(dataset, args.workers),
            "lucid, cached": lucid_loader(data.Cached(dataset), args.workers),
        }
        theirs = torch_loader(folder, args.workers)
        if theirs is not None:
            loaders["PyTorch"] = theirs
        speeds: dict[str, list[float]] = {name: [] for name in loaders}
        for round_number in range(args.rounds + 1):
            for name, loader in loaders.items():
                speed = pictures_a_second(loader)
                if round_number:  # the first one starts processes and fills the cache
                    speeds[name].append(speed)
                    print(
                        f"round {round_number}: {name}: {speed:.0f} pictures a second", flush=True
                    )
        share = (
            waiting_share(lucid_loader(dataset, args.workers), args.steps) if args.steps else None
        )
    results = {
        "machine": describe(available_processors()),
        "pictures": args.pictures,
        "workers": args.workers,
        "pictures_a_second": speeds,
        "median": {name: statistics.median(values) for name, values in speeds.items()},
        "waiting_share": share,
    }
    for name, speed in results["median"].items():
        print(f"{name}: {speed:.0f} pictures a second")
    if "PyTorch" in speeds:
        for name in ("lucid", "lucid, cached"):
            ratios = [a / b for a, b in zip(speeds[name], speeds["PyTorch"])]
            results[f"{name}, times PyTorch"] = statistics.median(ratios)
            print(f"{name}: {statistics.median(ratios):.2f} times PyTorch's speed")
    if share is not None:
        print(f"a training step waits for {100 * share:.1f} % of its time")
    write_json(results, args.output / "loader.json")


if __name__ == "__main__":
    main()
