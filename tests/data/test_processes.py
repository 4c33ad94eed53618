"""Loading in processes: as in threads, without copies, and gone when it ends."""

from __future__ import annotations

import copy
import gc
import itertools
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import _random, _ranks, data
from lucid.autograd._tensor import wrap
from lucid.data import DataLoader, _loader, _workers, transforms
from tests.data.test_workers import Noisy, arrays, assert_same, collate_and_draw, loading
from tests.interrupts import interrupted_at

pytestmark = pytest.mark.skipif(not _workers.AVAILABLE, reason="there are threads only")


def processes(patience: float = 10, parent: int | None = None) -> list[int]:
    """Return the processes that load for this one, after waiting for them to end."""
    end = time.monotonic() + patience
    while found := [
        pid
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if _loads_for(pid, parent or os.getpid())
    ]:
        if time.monotonic() > end:
            break
        time.sleep(0.01)
    return found


def _loads_for(pid: int, parent: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return int(status[1]) == parent and b"lucid.data._workers" in command


@pytest.fixture(autouse=True)
def in_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let short epochs be loaded by processes too, and see that nothing is left."""
    monkeypatch.setattr(_loader, "_FEW", 0)
    yield
    gc.collect()
    assert loading() == []
    if sys.platform == "linux":
        assert processes() == []


class Photographs:
    """Large images, drawn at random, with their index and the process that made them."""

    def __init__(self, length: int = 24, strange: dict[int, str] | None = None) -> None:
        self.length = length
        self.strange = strange or {}
        self.at_home = os.getpid()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        if index in self.strange and os.getpid() != self.at_home:
            if self.strange[index] == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.strange[index] == "sleeps":
                time.sleep(1000)
            if self.strange[index] == "exits":
                os._exit(3)
        pixels = _random.generator().random((96, 128, 3), np.float32)
        return wrap(pixels.transpose(2, 0, 1)), index, os.getpid()


def pids(batches: Any) -> set[int]:
    return {pid for *_, who in batches for pid in who.tolist()}


# -- the same as in this process ---------------------------------------------------------------


def two_epochs(dataset: Any, workers: int, **options: Any) -> tuple[Any, Any]:
    lucid.manual_seed(3)
    loader = DataLoader(dataset, 4, num_workers=workers, **options)
    batches = [batch[:2] for _ in range(2) for batch in loader]
    return arrays(batches), _random.generator().bit_generator.state


@pytest.mark.parametrize(
    ("workers", "options"),
    [
        (2, {"shuffle": True}),
        (1, {"collate_fn": collate_and_draw, "drop_last": True}),
        (1, {"transform": lambda x: x + _random.generator().random(len(x)).max()}),
        (1, {"sampler": data.WeightedRandomSampler(np.arange(23), 30), "part": (1, 3)}),
    ],
    ids=["shuffle", "collate_fn", "transform", "sampler"],
)
def test_batches_are_those_of_this_process(workers: int, options: dict[str, Any]) -> None:
    (expected, state), (given, state_after) = (
        two_epochs(Photographs(), number, **options) for number in (0, workers)
    )
    assert_same(expected, given)
    assert state == state_after
    for one, two in zip(itertools.chain(*expected), itertools.chain(*given)):
        assert one.dtype == two.dtype
        assert one.strides == two.strides, "channels-last images stay so"


class Surroundings:
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[str, ...]:
        launched = str(_ranks.launched())
        return os.environ["OPENBLAS_NUM_THREADS"], lucid.get_backend(), launched


def test_a_process_is_no_rank_and_has_one_thread_and_the_same_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    backend = lucid.get_backend()
    assert list(DataLoader(Surroundings(), num_workers=1)) == [(["1"], [backend], ["None"])]


def test_processes_stay_for_the_next_epoch_and_see_what_was_changed() -> None:
    dataset = Photographs()
    loader = DataLoader(dataset, 4, num_workers=2)
    first, second = list(loader), list(loader)
    assert pids(first) == pids(second)
    assert os.getpid() not in pids(first)
    assert len(pids(first)) == 2
    dataset.length = 8
    third = list(DataLoader(dataset, 4, num_workers=1))
    assert [index.tolist() for _, index, _ in third] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert pids(third).isdisjoint(pids(first)), "each loader has its own"
    assert len(list(loader)) == 2
    assert pids(loader) == pids(first)


def test_batches_that_are_kept_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_workers, "_LENT", 3)
    dataset = Photographs(40)
    lucid.manual_seed(0)
    expected = [image.data.copy() for image, *_ in DataLoader(dataset, 2)]
    lucid.manual_seed(0)
    loader = DataLoader(dataset, 2, num_workers=1)
    kept = [image for image, *_ in loader]  # many more than are lent at a time
    rows = [image[1] for image in kept[::2]]
    list(loader)
    del loader
    gc.collect()
    for image, wanted in zip(kept, expected):
        np.testing.assert_array_equal(image.data, wanted)
        image.data[...] = 0  # it belongs to this process
    assert not any(row.data.any() for row in rows)


def as_they_are(samples: list[Any]) -> Any:
    images = np.stack([image.data for image, *_ in samples])
    structured = np.zeros(40_000, [("a", np.int32), ("b", np.float32)])
    return {
        "reversed": images[:, :, ::-1, ::-1],
        "twice": (images, images),
        "part": images[1:, :2],
        "structured": structured,
        "even": np.broadcast_to(np.float32(1), (300, 300)),
        "big-endian": images.astype(">f8"),
        "small": np.arange(3),
        "text": ["a"] * len(samples),
    }


def test_any_structure_of_arrays_comes_back() -> None:
    dataset = Photographs(4)
    lucid.manual_seed(0)
    (expected,) = DataLoader(dataset, 4, collate_fn=as_they_are)
    lucid.manual_seed(0)
    (given,) = DataLoader(dataset, 4, collate_fn=as_they_are, num_workers=1)
    assert given["twice"][0] is given["twice"][1]
    for name in ("reversed", "part", "structured", "even", "big-endian", "small"):
        np.testing.assert_array_equal(given[name], expected[name])
        assert given[name].dtype == expected[name].dtype
    assert given["text"] == expected["text"]


def unpicklable(samples: list[Any]) -> Any:
    return lambda: len(samples)


def test_what_a_process_cannot_send_is_loaded_here_and_told() -> None:
    loader = DataLoader(Photographs(4), 4, collate_fn=unpicklable, num_workers=1)
    with pytest.warns(RuntimeWarning, match="was loaded here then: .*unpicklable.<locals>"):
        (batch,) = loader
    assert batch() == 4


# -- what stays in threads ---------------------------------------------------------------------


@pytest.mark.parametrize("why", ["not picklable", "large", "few", "main"])
def test_what_is_loaded_by_threads(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset: Any = Photographs()
    if why == "not picklable":
        dataset.function = lambda: 1
    if why == "large":
        monkeypatch.setattr(_workers, "_LARGEST", 2**20)
        dataset.kept = np.zeros(2**20 + 1, np.uint8)
    if why == "few":
        monkeypatch.setattr(_loader, "_FEW", 25)
    if why == "main":
        monkeypatch.setattr(Photographs, "__module__", "__main__")
        monkeypatch.setattr(sys.modules["__main__"], "Photographs", Photographs, raising=False)
    assert pids(DataLoader(dataset, 4, num_workers=2)) == {os.getpid()}


SCRIPT = """
import os
from lucid.data import DataLoader, _loader
_loader._FEW = 0

class Numbers:
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return index, os.getpid()

print("the script runs")
for numbers, who in DataLoader(Numbers(), 4, num_workers=2):
    assert set(who.tolist()) == {os.getpid()}
for numbers in DataLoader(range(8), 4, num_workers=2):
    print(numbers)
"""


def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout == (
        "the script runs\ntensor([0, 1, 2, 3], dtype=int64)\ntensor([4, 5, 6, 7], dtype=int64)\n"
    )
    assert result.stderr == ""


# -- errors and ends ---------------------------------------------------------------------------


def test_an_error_comes_when_it_is_the_turn_of_its_batch() -> None:
    batches = iter(DataLoader(Noisy(broken=14), 4, num_workers=1))
    assert [next(batches)[0].tolist()[0] for _ in range(3)] == [0, 4, 8]
    with pytest.raises(ValueError, match=r"^sample 14 is broken$"):
        next(batches)


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("killed", "was killed by SIGKILL"),
        pytest.param("exits", "ended with exit status 3", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_ends_is_one_error_that_names_it(what: str, how: str) -> None:
    loader = DataLoader(Photographs(strange={9: what}), 4, num_workers=2)
    batches = iter(loader)
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(
        RuntimeError, match=f"^DataLoader: worker process [0-9]+ {how} while it loaded a batch"
    ):
        next(batches)
    if sys.platform == "linux":
        assert processes() == [], "the other one has ended too"
    loader.dataset = Photographs()
    assert len(list(loader)) == 6


@pytest.mark.parametrize(
    "end", ["close", *(pytest.param(end, marks=pytest.mark.slow) for end in ("drop", "error"))]
)
def test_an_epoch_that_is_left_ends_the_processes_whatever_they_do(end: str) -> None:
    batches = iter(DataLoader(Photographs(strange={9: "sleeps", 15: "sleeps"}), 4, num_workers=2))
    next(batches)
    began = time.monotonic()
    if end == "close":
        batches.close()  # type: ignore[attr-defined]
    elif end == "drop":
        del batches
    else:

        def train() -> None:
            for _batch in batches:
                raise RuntimeError("no step")

        with pytest.raises(RuntimeError, match="no step"):
            train()
        del batches, train
    gc.collect()
    assert time.monotonic() - began < 100
    assert loading() == []


@pytest.mark.slow
def test_an_interrupt_at_any_moment_ends_the_processes() -> None:
    for step in itertools.count(step=41):

        def epoch() -> None:
            list(DataLoader(Noisy(5), 2, num_workers=2, prefetch_factor=1))

        if not interrupted_at(step, epoch, _loader, _workers, finalizers=("_end",)):
            break
        gc.collect()
        assert loading(patience=10) == [], step
    assert step > 100


ENDLESS = """
import sys, time
sys.path.insert(0, {root!r})
from lucid.data import DataLoader, _loader
from tests.data.test_processes import Photographs
import signal
_loader._FEW = 0
signal.signal(signal.SIGINT, signal.default_int_handler)
batches = iter(DataLoader(Photographs(40, {{17: "sleeps"}}), 4, num_workers=2))
for _ in range(3):
    next(batches)
print("ready", flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGTERM)),
    ],
)
def test_a_signal_to_the_one_who_trains_ends_all(number: int) -> None:
    code = ENDLESS.format(root=str(Path(__file__).parents[2])) + "\nfor batch in batches: pass"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        found = processes(0, process.pid)
        assert len(found) == 2
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    last = errors.decode().rstrip().rpartition("\n")[2]
    assert last == ("KeyboardInterrupt" if number == signal.SIGINT else "")
    end = time.monotonic() + 20
    while any(_runs(pid) for pid in found) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(_runs(pid) for pid in found)


def test_a_program_ends_while_a_process_is_at_work() -> None:
    """Python waited for the thread that waits for the process, before it ended that."""
    code = ENDLESS.format(root=str(Path(__file__).parents[2]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"ready\n", b"")


def _runs(pid: int) -> bool:
    try:
        return b"lucid.data._workers" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_process_may_end_in_the_middle_of_an_epoch() -> None:
    code = ENDLESS.format(root=str(Path(__file__).parents[2])).replace("17:", "1700:")
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=120, check=True
    )
    assert result.stderr == b""


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_leaves_the_processes_alone() -> None:
    loader = DataLoader(Photographs(), 4, num_workers=1)
    before = pids(loader)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            del loader
            gc.collect()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert pids(loader) == before


def test_a_loader_with_processes_can_be_copied() -> None:
    loader = DataLoader(Photographs(), 4, num_workers=1)
    before = pids(loader)
    assert pids(pickle.loads(pickle.dumps(loader))).isdisjoint(before)
    assert pids(loader) == before


# -- pictures ----------------------------------------------------------------------------------


def write_pictures(folder: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 40, 48, 3), dtype=np.uint8)
    for number, array in enumerate(pixels):
        path = folder / "ab"[number // 8] / f"{number % 8}.png"
        path.parent.mkdir(exist_ok=True)
        image_module.fromarray(array).save(path)


def test_pictures_that_vanish_are_told_here_in_order(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    whole = data.datasets.ImageFolder(tmp_path, transforms.ToTensor())
    lines: list[str] = []
    (part,) = data.readable([whole], 0.5, tell=lambda line: lines.append(line))
    for name in ("a/1", "a/4", "a/5", "b/7"):
        (tmp_path / f"{name}.png").unlink()
    loader = DataLoader(data.Subset(part, range(16)), 2, num_workers=1)
    assert [len(labels) for _, labels in loader] == [1, 2, 2, 2, 2, 2, 1]
    assert loader._workers is not None
    assert lines == [
        f"there is no file {tmp_path / name}.png" for name in ("a/1", "a/4", "a/5", "b/7")
    ]


def test_an_error_names_the_file(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "a" / "3.png").write_bytes(b"damaged")
    dataset = data.datasets.ImageFolder(tmp_path, transforms.ToTensor())
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'a' / '3.png'} cannot be read")):
        list(DataLoader(dataset, 4, num_workers=1))


def test_processes_have_one_cache_with_this_one(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    folder = data.datasets.ImageFolder(tmp_path, transforms.training("light", 32))
    lucid.manual_seed(0)
    expected = [arrays(DataLoader(folder, 4, shuffle=True)) for _ in range(3)]
    cached = data.Cached(folder)
    cached[0]
    lucid.manual_seed(0)
    given = [arrays(DataLoader(cached, 4, shuffle=True, num_workers=2))]
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    given += [arrays(DataLoader(cached, 4, shuffle=True, num_workers=n)) for n in (1, 0)]
    for one, two in zip(expected, given):
        assert_same(one, two)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        copy.deepcopy(cached)[0]
