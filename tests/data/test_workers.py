"""Loading in threads: the same batches, bounded, and gone when it ends."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import _random, data
from lucid.data import DataLoader, _loader, default_collate
from lucid.data._fetch import PassedOverError
from tests.interrupts import interrupted_at

WORKERS = [0, 1, 2, 5]


class Noisy:
    """Samples with a random part, which take a different time each."""

    def __init__(self, length: int = 23, broken: int | None = None) -> None:
        self.length = length
        self.broken = broken
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[int, np.ndarray]:
        self.asked.append(index)
        time.sleep(index % 3 / 1000)
        if index == self.broken:
            raise ValueError(f"sample {index} is broken")
        return index, _random.generator().random(2)


def loading(patience: float = 0) -> list[str]:
    """Return the threads that load, after waiting so many seconds at most for them to end."""
    threads = [t for t in threading.enumerate() if t.name.startswith("lucid-loader")]
    for thread in threads:
        thread.join(patience)
    return [thread.name for thread in threads if thread.is_alive()]


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    assert loading() == []


def arrays(batches: Any) -> list[list[np.ndarray]]:
    return [[part.data for part in batch] for batch in batches]


def assert_same(first: list[list[np.ndarray]], second: list[list[np.ndarray]]) -> None:
    assert len(first) == len(second)
    for one, two in zip(first, second):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)


# -- the same whatever the number of workers --------------------------------------------------


def collate_and_draw(samples: list[Any]) -> Any:
    return (*default_collate(samples), lucid.rand(1))


def two_epochs(workers: int, **options: Any) -> tuple[list[list[np.ndarray]], Any]:
    """Return two epochs' batches, with draws by the one who trains in between."""
    lucid.manual_seed(3)
    loader = DataLoader(Noisy(), 4, num_workers=workers, **options)
    batches = []
    for _ in range(2):
        for batch in loader:
            lucid.rand(7)
            batches.append(batch)
    return arrays(batches), _random.generator().bit_generator.state


@pytest.mark.parametrize("workers", WORKERS[1:])
@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": True},
        {},
        {"collate_fn": collate_and_draw, "drop_last": True},
        {"transform": lambda numbers: numbers + _random.generator().random(len(numbers))},
        {"sampler": data.WeightedRandomSampler(np.arange(23), 30)},
    ],
    ids=["shuffle", "in order", "collate_fn", "transform", "sampler"],
)
def test_batches_of_a_seed_are_the_same_whatever_the_number_of_workers(
    workers: int, options: dict[str, Any]
) -> None:
    (expected, state), (given, state_with_workers) = (
        two_epochs(0, **options),
        two_epochs(workers, **options),
    )
    assert_same(expected, given)
    assert state == state_with_workers
    draws = np.concatenate([batch[1] for batch in expected])
    assert len(np.unique(draws)) == draws.size, "each sample and epoch has numbers of its own"


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("start", [0, 1, 4, 6])
def test_an_epoch_from_a_batch_on_is_the_rest_of_the_whole(workers: int, start: int) -> None:
    dataset = Noisy()
    loader = DataLoader(dataset, 4, shuffle=True, num_workers=workers)
    lucid.manual_seed(1)
    whole = arrays(loader)
    state = _random.generator().bit_generator.state
    dataset.asked.clear()
    lucid.manual_seed(1)
    rest = loader.batches(start)
    assert _random.generator().bit_generator.state == state, "order and seed are drawn at once"
    assert_same(whole[start:], arrays(rest))
    assert len(dataset.asked) == max(23 - 4 * start, 0), "those before are not loaded"


def test_a_start_that_is_none() -> None:
    with pytest.raises(ValueError, match="DataLoader: start must be at least 0, got -1"):
        DataLoader(Noisy()).batches(-1)


def test_gathered_batches_draw_the_order_alone() -> None:
    dataset = data.TensorDataset(np.arange(9))
    lucid.manual_seed(0)
    order = _random.generator().permutation(9)
    state = _random.generator().bit_generator.state
    for whole in (dataset, data.Subset(dataset, np.arange(9))):
        lucid.manual_seed(0)
        batches = list(DataLoader(whole, 4, shuffle=True, num_workers=2))
        assert [x for (batch,) in batches for x in batch.tolist()] == order.tolist()
        assert _random.generator().bit_generator.state == state


def test_a_thread_that_loads_draws_from_a_generator_of_its_own() -> None:
    lucid.manual_seed(0)
    outside = _random.generator()
    seen: list[Any] = []
    with _random.seeded(5, 2):
        inside = _random.generator()
        assert inside is _random.generator()
        with _random.seeded(5, 3):
            assert _random.generator() is not inside
        assert _random.generator() is inside
        thread = threading.Thread(target=lambda: seen.append(_random.generator()))
        thread.start()
        thread.join()
    assert _random.generator() is outside is seen[0] is not inside


# -- bounded, and gone ------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "factor"), [(1, 1), (2, 3)])
def test_no_more_is_loaded_ahead_than_is_said(workers: int, factor: int) -> None:
    dataset = Noisy(200)
    batches = iter(DataLoader(dataset, 4, num_workers=workers, prefetch_factor=factor))
    next(batches)
    expected = 4 * (1 + workers * factor)
    deadline = time.monotonic() + 60
    while len(dataset.asked) < expected and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # what would be too much could come now
    assert len(dataset.asked) == expected
    assert sorted(dataset.asked) == list(range(len(dataset.asked)))
    del batches
    gc.collect()
    assert loading() == []


@pytest.mark.parametrize("workers", WORKERS)
def test_an_error_comes_when_it_is_the_turn_of_its_batch(workers: int) -> None:
    batches = iter(DataLoader(Noisy(broken=14), 4, num_workers=workers))
    assert [next(batches)[0].tolist()[0] for _ in range(3)] == [0, 4, 8]
    with pytest.raises(ValueError, match="sample 14 is broken"):
        next(batches)


def test_an_error_of_the_one_who_trains_ends_the_threads() -> None:
    for _batch in DataLoader(Noisy(), 4, num_workers=2):
        assert loading()
        break
    assert loading() == []

    def train() -> None:
        for _batch in DataLoader(Noisy(), 4, num_workers=2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    gc.collect()
    assert loading() == []


@pytest.mark.slow
def test_an_interrupt_at_any_moment_ends_the_threads() -> None:
    loader = DataLoader(Noisy(5), 2, num_workers=2, prefetch_factor=1)
    for step in itertools.count(step=7):
        if not interrupted_at(step, lambda: list(loader), _loader):
            break
        gc.collect()
        assert loading(patience=10) == [], step
    assert step > 100


SCRIPT = """
import signal, time
from lucid.data import DataLoader

class Slow:
    def __len__(self):
        return 10_000

    def __getitem__(self, index):
        time.sleep(0.05)
        return index

# What runs in the background of a shell ignores it, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
batches = iter(DataLoader(Slow(), 4, num_workers=3))
print(next(batches), flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_ctrl_c_while_batches_are_awaited_ends_the_process() -> None:
    command = [sys.executable, "-c", f"{SCRIPT}\nfor batch in batches: pass"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert errors.decode().rstrip().endswith("KeyboardInterrupt")


def test_a_process_may_end_in_the_middle_of_an_epoch() -> None:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, timeout=120, check=True
    )
    assert result.stderr == b""


@pytest.mark.parametrize("where", ["collate_fn", "transform"])
def test_an_error_in_a_function_ends_the_threads_although_it_is_kept(where: str) -> None:
    def fail(batch: Any) -> Any:
        raise RuntimeError("no batch")

    loader: Any = DataLoader(Noisy(), 4, num_workers=2, **{where: fail})
    with pytest.raises(RuntimeError, match="no batch") as info:
        list(loader)
    assert info.tb is not None
    assert loading() == []


def test_bad_workers() -> None:
    with pytest.raises(ValueError, match="DataLoader: num_workers must be at least 0, got -1"):
        DataLoader(Noisy(), num_workers=-1)
    with pytest.raises(ValueError, match="DataLoader: prefetch_factor must be at least 1, got 0"):
        DataLoader(Noisy(), prefetch_factor=0)
    with pytest.raises(TypeError, match="DataLoader: num_workers must be an integer, got 'all'"):
        DataLoader(Noisy(), num_workers="all")  # type: ignore[arg-type]


# -- pictures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_that_vanish_are_told_in_order_and_left_out(tmp_path: Path, workers: int) -> None:
    image_module = pytest.importorskip("PIL.Image")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(8):
            image_module.new("RGB", (8, 8)).save(tmp_path / name / f"{index}.png")
    whole = data.datasets.ImageFolder(tmp_path, data.transforms.ToTensor())
    lines: list[str] = []
    (part,) = data.readable([whole], 0.5, tell=lines.append)
    for name in ("a/1", "a/4", "a/5", "b/7"):
        (tmp_path / f"{name}.png").unlink()
    loader = DataLoader(data.Subset(part, range(16)), 2, num_workers=workers)
    # The third batch, a/4 and a/5, is passed over.
    assert [len(labels) for _, labels in loader] == [1, 2, 2, 2, 2, 2, 1]
    assert lines == [
        f"there is no file {tmp_path / name}.png" for name in ("a/1", "a/4", "a/5", "b/7")
    ]
    with pytest.raises(ValueError, match=r"there is no file .*7\.png"):
        part[15]


def test_an_error_of_a_transform_names_the_file(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    (tmp_path / "a").mkdir()
    image_module.new("RGB", (8, 8)).save(tmp_path / "a" / "one.png")

    def wrong(image: Any) -> Any:
        return image["x"]

    dataset = data.datasets.ImageFolder(tmp_path, wrong)
    with pytest.raises(TypeError) as info:
        list(DataLoader(dataset, num_workers=1))
    assert any("one.png" in note for note in getattr(info.value, "__notes__", ["one.png"]))


# -- images that are moved into their batch one by one ----------------------------------------


class Images:
    """Images ``(3, height, 128)``, channels-last in memory, in a sample of some structure."""

    def __init__(self, structure: Any, heights: dict[int, int] | None = None) -> None:
        self.structure = structure
        self.heights = heights or {}
        self.kept = [self.make(index) for index in range(6)]

    def make(self, index: int) -> np.ndarray:
        shape = (self.heights.get(index, 128), 128, 3)
        values = np.random.default_rng(index).random(shape, np.float32)
        return values.transpose(2, 0, 1)

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> Any:
        if index == 4:
            raise PassedOverError("no 4", lambda message: None)
        return self.structure(lucid.autograd._tensor.wrap(self.kept[index]), index)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("structure", "images_of"),
    [
        (lambda image, index: image, lambda batch: [batch]),
        (lambda image, index: (image, index), lambda batch: [batch[0]]),
        (lambda image, index: (index, image, image), lambda batch: list(batch[1:])),
        (lambda image, index: {"image": image}, lambda batch: [batch["image"]]),
    ],
    ids=["image", "labelled", "two", "mapping"],
)
def test_images_are_those_of_the_samples(workers: int, structure: Any, images_of: Any) -> None:
    dataset = Images(structure)
    batches = list(DataLoader(dataset, 3, num_workers=workers))
    assert len(batches) == 2
    for batch, indices in zip(batches, ([0, 1, 2], [3, 5])):  # 4 is passed over
        for images in images_of(batch):
            expected = np.stack([dataset.make(index) for index in indices])
            np.testing.assert_array_equal(images.data, expected)
            assert images.data.transpose(0, 2, 3, 1).flags.c_contiguous
            images.data[...] = 0
    for index, image in enumerate(dataset.kept):
        np.testing.assert_array_equal(image, dataset.make(index), "the data set's own")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("other", [0, 1])
def test_images_of_several_shapes_are_told(workers: int, other: int) -> None:
    dataset = Images(lambda image, index: (image, index), {other: 96})
    with pytest.raises(ValueError, match=r"must have one shape, got \[\(3, 96, 128\), \(3, 128"):
        next(iter(DataLoader(dataset, 3, num_workers=workers)))
