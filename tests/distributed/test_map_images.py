"""A model over many pictures, with Ray and without: each in the result once, whatever dies."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import models, nn
from lucid.data import datasets, open_source
from lucid.distributed import map_images
from lucid.models._checkpoints import DEFAULT, as_metadata

Image = pytest.importorskip("PIL.Image")
parquet = pytest.importorskip("pyarrow.parquet")

NAME = "mobilenetv4_conv_small_035"


def fill(root: Path, count: int) -> list[str]:
    """Write weights and small pictures, and return the names of those that are broken."""
    lucid.manual_seed(0)
    description = {**DEFAULT, "architecture": NAME, "input_size": (3, 32, 32)}
    state = models.create_model(NAME, num_classes=7).state_dict()
    lucid.save(state, root / "w.npz", as_metadata(description))
    rng = np.random.default_rng(0)
    broken = []
    for number in range(count):
        folder = root / "photos" / f"{number // 1000:02}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{number:05}.jpg"
        if number % 97 == 5:
            path.write_bytes(b"no image")
            broken.append(str(path.relative_to(root)))
        else:
            pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((32, 32)).save(path)
    return broken


def features(folder: Path) -> tuple[list[str], np.ndarray]:
    """Return names and features of all parts, in their order."""
    tables = [parquet.read_table(path) for path in sorted(folder.glob("part-*.parquet"))]
    names = [name for table in tables for name in table["file"].to_pylist()]
    rows = [row for table in tables for row in table["features"].to_pylist()]
    return names, np.array(rows, np.float32)


def errors(folder: Path) -> list[str]:
    with (folder / "_errors.csv").open(newline="", encoding="utf-8") as text:
        return [row["file"] for row in csv.DictReader(text)]


def check(folder: Path, count: int, broken: list[str]) -> tuple[list[str], np.ndarray]:
    """Whether each picture is there once, and each broken one on the list once."""
    names, rows = features(folder)
    assert len(names) + len(broken) == count
    assert sorted(names + broken) == sorted(set(names + broken))
    assert sorted(errors(folder)) == broken
    return names, rows


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    root = tmp_path_factory.mktemp("some")
    return root, fill(root, 300)


# -- without Ray ------------------------------------------------------------------------------


@pytest.fixture
def here(
    some: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """A folder with the pictures; the names of the broken ones."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "w.npz"):
        Path(name).symlink_to(some[0] / name)
    return some[1]


@pytest.mark.slow
def test_features_in_this_process(here: list[str]) -> None:
    seen: list[int] = []
    parts = map_images(
        "photos",
        "w.npz",
        output="out",
        workers=0,
        part_size=128,
        after_each=lambda outcome: seen.append(outcome.number),
    )
    assert seen == list(range(300))
    assert (parts.finished, parts.errors) == ({0, 1, 2}, len(here))
    names, rows = check(Path("out"), 300, here)
    model: Any = models.load_model("w.npz")
    transform = lucid.data.transforms.for_model(model)
    for place in (0, 100, -1):
        image = transform(datasets.read_image(names[place]))[None]
        with lucid.no_grad():
            expected = model.forward_head(model.forward_features(image), pre_logits=True)
        np.testing.assert_allclose(rows[place], expected.numpy()[0], rtol=1e-3, atol=1e-4)


def test_parts_with_other_names_of_classes_are_others(here: list[str]) -> None:
    model: Any = models.load_model("w.npz")
    options: dict[str, Any] = {"output": "out", "what": "predict", "workers": 0}
    model.pretrained_cfg["classes"] = list("abcdefg")
    map_images("photos/00/00000.jpg", model, **options)
    map_images("photos/00/00000.jpg", model, **options)
    model.pretrained_cfg["classes"] = list("abcdefh")
    with pytest.raises(ValueError, match="holds parts of something else: classes is"):
        map_images("photos/00/00000.jpg", model, **options)


def test_parts_that_are_there_are_passed_over(here: list[str]) -> None:
    def run(**options: Any) -> int:
        seen: list[Any] = []
        after = dict(part_size=128, workers=0, after_each=seen.append, **options)
        map_images(open_source("photos"), "w.npz", output="out", **after)
        return len(seen)

    assert run() == 300
    assert run() == 0
    Path("out/part-00001.parquet").unlink()
    assert run() == 128
    check(Path("out"), 300, here)


def test_classes_of_two_shards(here: list[str]) -> None:
    model = models.load_model("w.npz")
    for share in range(2):
        map_images(
            ["photos"],
            model,
            output="out",
            what="predict",
            top=2,
            workers=0,
            format="csv",
            shard=(share, 2),
        )
    found = []
    for path in Path("out").glob("part-*.csv"):
        with path.open(newline="", encoding="utf-8") as text:
            found += [(row["file"], row["rank"]) for row in csv.DictReader(text)]
    assert len(found) == 2 * (300 - len(here))
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "map_images: expected workers of 0 or more, got -1"),
        ({"batch_size": 0}, "map_images: expected batch_size of 1 or more, got 0"),
        ({"part_size": 1.5}, "map_images: expected part_size of 1 or more, got 1.5"),
        ({"top": True}, "map_images: expected top of 1 or more, got True"),
        ({"what": "eat"}, 'map_images: expected what="embed" or "predict", got \'eat\''),
        ({"format": "xlsx"}, "map_images: expected format parquet or csv, got 'xlsx'"),
        ({"shard": (2, 2)}, "part: expected an index from 0 to 1, got 2"),
        ({"source": "gone"}, "there is no file gone"),
        ({"source": ["photos", "gone"]}, "there is no file gone"),
        ({"model": "gone.npz"}, "gone.npz"),
        ({"model": nn.Linear(3, 3)}, "map_images: a Linear has no forward_features"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_arguments(here: list[str], options: dict[str, Any], message: str) -> None:
    given = {"source": "photos", "model": "w.npz", "workers": 0, **options}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        map_images(output="out", **given)


# -- with Ray: in a process of its own, which it changes --------------------------------------

SCRIPT = """
import sys
from lucid import distributed
part_size, workers = map(int, sys.argv[2:4])
parts = distributed.map_images(
    sys.argv[4:], "w.npz", output=sys.argv[1], part_size=part_size, workers=workers
)
print(len(parts.finished), parts.errors)
"""


def start(
    root: Path,
    output: str,
    workers: int,
    part_size: int = 64,
    source: Sequence[str] = ("photos",),
    **environment: str,
) -> subprocess.Popen[str]:
    pytest.importorskip("ray.data")
    command = [sys.executable, "-c", SCRIPT, output, str(part_size), str(workers), *source]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=root, env=environment, text=True, stdout=pipe, stderr=pipe)


def descendants(process: int) -> dict[int, str]:
    """Return the processes that a process has started, and they, with their command lines."""
    parents = {}
    commands = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has ended
            continue
        parents[int(folder.name)] = int(status.rpartition(")")[2].split()[1])
        commands[int(folder.name)] = command
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return {one: commands[one] for one in found[1:]}


def actors(process: subprocess.Popen[str]) -> list[int]:
    return [one for one, command in descendants(process.pid).items() if "MapWorker" in command]


def memory(process: subprocess.Popen[str]) -> int:
    """Return the bytes that a process and its descendants have, what they share counted once."""
    total = 0
    for one in (process.pid, *descendants(process.pid)):
        with contextlib.suppress(OSError):  # it has ended
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
            total += int(re.search(r"Pss: +(\d+) kB", text)[1]) * 1024
    return total


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def count_parts(folder: Path) -> int:
    return len(list(folder.glob("part-*.parquet")))


@pytest.mark.slow
def test_actors_give_what_this_process_gives(
    some: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, broken = some
    monkeypatch.chdir(root)
    with tarfile.open("more.tar", "w") as archive:
        for path in sorted(Path("photos").rglob("*.jpg"))[:40]:
            archive.add(path, path.name)
    source = ("photos", "more.tar")
    broken = [*broken, "more.tar/00005.jpg"]
    map_images(source, "w.npz", output="alone", workers=0, part_size=64)
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        process = start(root, "actors", 2, source=source, TMPDIR=place)
        out, err = process.communicate()
        assert os.listdir(place) == []
    assert (out, err, process.returncode) == (f"6 {len(broken)}\n", "", 0)
    names, rows = check(root / "actors", 340, sorted(broken))
    expected_names, expected = features(root / "alone")
    assert names == expected_names
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.slow
def test_a_dead_actor_is_replaced(some: tuple[Path, list[str]]) -> None:
    root, broken = some
    process = start(root, "killed", 2, part_size=64)
    wait_for(lambda: actors(process), process)
    os.kill(actors(process)[0], signal.SIGKILL)
    out, err = process.communicate()
    assert (out, err, process.returncode) == (f"5 {len(broken)}\n", "", 0)
    check(root / "killed", 300, broken)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_many_pictures(tmp_path: Path, workers: int) -> None:
    """An actor is killed, then the process, and it is started again.

    With 20,000 pictures (``LUCID_PICTURES=20000``) it takes some minutes for each number of actors.
    """
    count = int(os.environ.get("LUCID_PICTURES", "4000"))
    size = count // 20
    broken = fill(tmp_path, count)
    out = tmp_path / "out"
    process = start(tmp_path, "out", workers, size)
    if workers:
        wait_for(lambda: count_parts(out) >= 2, process)
        os.kill(actors(process)[0], signal.SIGKILL)
    wait_for(lambda: count_parts(out) >= 4, process)
    early = memory(process)
    wait_for(lambda: count_parts(out) >= 10, process)
    late = memory(process)
    process.kill()
    process.communicate()
    before = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 10 <= len(before) < 20
    process = start(tmp_path, "out", workers, size)
    _, err = process.communicate()
    assert (err, process.returncode) == ("", 0)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    check(out, count, broken)
    assert late < 1.1 * early + 2**24, (early, late)
