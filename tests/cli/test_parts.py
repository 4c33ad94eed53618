"""`lucid embed` and `lucid predict` over many images: sources, parts, shards, kills."""

from __future__ import annotations

import csv
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import models
from lucid.cli import main
from lucid.models._checkpoints import DEFAULT, as_metadata

Image = pytest.importorskip("PIL.Image")

NAME = "mobilenetv4_conv_small_050"
BROKEN = ("2.jpg", "17.jpg")


def fill(folder: Path, count: int, broken: tuple[str, ...] = BROKEN) -> None:
    """Write pictures, each of another colour and gradient, some of them broken."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 40)).save(folder / f"{index}.jpg")
    for name in broken:
        (folder / name).write_bytes(b"no image")


def save_weights(path: Path, seed: int = 0) -> None:
    lucid.manual_seed(seed)
    state = models.create_model(NAME, num_classes=7).state_dict()
    lucid.save(
        state, path, as_metadata({**DEFAULT, "architecture": NAME, "input_size": (3, 32, 32)})
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, twenty images of which two are broken, and what the model makes of them."""
    root = tmp_path_factory.mktemp("parts")
    save_weights(root / "w.npz")
    fill(root / "photos", 20)
    assert main(["embed", str(root / "photos"), *weights(root), "-o", str(root / "o.npz")]) == 1
    return root


@pytest.fixture
def folder(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LUCID_DEBUG", raising=False)
    (tmp_path / "photos").symlink_to(files / "photos")
    (tmp_path / "w.npz").symlink_to(files / "w.npz")
    return tmp_path


def weights(root: Path = Path()) -> list[str]:
    return ["--weights", str(root / "w.npz")]


def embed(*options: str, size: int = 8, format: str = "csv") -> int:
    more = ["--part-size", str(size), "--format", format]
    return main(["embed", *options, *weights(), "-o", "out", *more])


def rows(pattern: str = "part-*") -> list[dict[str, str]]:
    """Return the rows of all parts in CSV, in the order of the parts' names."""
    found = []
    for path in sorted(Path("out").glob(f"{pattern}.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            found += csv.DictReader(file)
    return found


def read_errors(pattern: str = "_errors*") -> list[tuple[str, str]]:
    return [(row["part"], row["file"]) for row in rows(pattern)]


def expected(files: Path) -> dict[str, np.ndarray]:
    with np.load(files / "o.npz") as found:
        names = [Path(name).name for name in found["files"]]
        return dict(zip(names, found["features"]))


def features(row: dict[str, str]) -> np.ndarray:
    return np.array([value for name, value in row.items() if name != "file"], np.float32)


def check(found: list[tuple[str, np.ndarray]], files: Path) -> None:
    """Whether each picture is there once, with the model's features."""
    wanted = expected(files)
    assert sorted(Path(name).name for name, _ in found) == sorted(wanted)
    for name, row in found:
        np.testing.assert_allclose(row, wanted[Path(name).name], rtol=1e-3, atol=1e-4)


# -- parts ------------------------------------------------------------------------------------


def test_embed_in_csv(files: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert embed("photos") == 1
    captured = capsys.readouterr()
    assert captured.out == "3 parts in out, 0 of them from before\n"
    first, second, last = captured.err.splitlines()
    assert first.startswith("lucid embed: photos/17.jpg cannot be read as an image")
    assert second.startswith("lucid embed: photos/2.jpg cannot be read as an image")
    assert last == "lucid embed: 2 images cannot be read: out/_errors.csv"
    names = sorted(os.listdir("out"))
    assert names == ["_errors.csv", "_parts.json", *[f"part-0000{part}.csv" for part in range(3)]]
    order = sorted(f"photos/{index}.jpg" for index in range(20))
    for part in range(3):
        listed = [row["file"] for row in rows(f"part-0000{part}")]
        lost = [name for number, name in read_errors() if number == str(part)]
        assert sorted(listed + lost) == order[8 * part : 8 * part + 8]
    assert [row["file"] for row in rows()] == [n for n in order if Path(n).name not in BROKEN]
    check([(row["file"], features(row)) for row in rows()], files)


def test_embed_in_parquet(files: Path, folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert embed("photos", format="parquet", size=18) == 1
    tables = [parquet.read_table(path) for path in sorted(Path("out").glob("*.parquet"))]
    assert [table.num_rows for table in tables] == [16, 2]
    assert parquet.read_table("out").num_rows == 18  # what is no part is passed over
    found = [pair for table in tables for pair in zip(*table.to_pydict().values())]
    check([(name, np.array(row, np.float32)) for name, row in found], files)


def test_predict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", "photos", *weights(), "--top", "2"]
    assert main([*command, "--csv", "-"]) == 1
    wanted = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert main([*command, "-o", "out", "--format", "csv", "--part-size", "7"]) == 1
    found = rows()
    assert len(found) == len(wanted) == 36
    for one, other in zip(found, wanted):
        assert float(one.pop("probability")) == pytest.approx(float(other.pop("probability")), 1e-3)
    assert found == wanted
    assert main([*command, "-o", "out", "--format", "csv", "--part-size", "7", "--top", "3"]) == 2
    assert "top is 2 there, 3 now" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["0", "3"])
def test_parts_without_a_good_picture(workers: str, folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    fill(folder / "bad", 6, tuple(f"{index}.jpg" for index in range(1, 6)))
    assert embed("bad", "--workers", workers, format="parquet", size=2) == 1
    tables = [parquet.read_table(path) for path in sorted(Path("out").glob("*.parquet"))]
    assert [table.num_rows for table in tables] == [1, 0, 0]
    assert all(table.schema == tables[0].schema for table in tables)
    assert len(read_errors()) == 5


def test_many_broken_pictures_are_not_all_printed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(folder / "bad", 30, tuple(f"{index}.jpg" for index in range(29)))
    assert embed("bad") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "lucid embed: 29 images cannot be read: out/_errors.csv"
    assert len(read_errors()) == 29


@pytest.mark.parametrize(("share", "status"), [("0", 1), ("0.09", 1), ("0.1", 0), ("0.5", 0)])
def test_how_many_may_be_unreadable(share: str, status: int, folder: Path) -> None:
    assert embed("photos", "--max-unreadable", share) == status
    assert len(read_errors()) == 2


# -- sources ----------------------------------------------------------------------------------


def test_archives_and_lists_give_the_same(files: Path, folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    paths = sorted(Path("photos").resolve().iterdir())
    with tarfile.open("a.tar", "w") as archive:
        for path in paths[:7]:
            archive.add(path, f"deep/{path.name}")
    with tarfile.open("b.tar.gz", "w:gz") as archive:
        for path in paths[7:12]:
            archive.add(path, path.name)
    pictures = [{"bytes": path.read_bytes(), "path": path.name} for path in paths[12:16]]
    parquet.write_table(arrow.table({"image": pictures}), "c.parquet")
    Path("d.txt").write_text("\n".join(f"photos/{path.name}" for path in paths[16:]))
    places = ["a.tar", "b.tar.gz", "c.parquet", "d.txt"]
    assert main(["embed", *places, *weights(), "-o", "o.npz"]) == 1
    with np.load("o.npz") as found:
        check(list(zip(found["files"], found["features"])), files)
    assert embed(*places) == 1
    check([(row["file"], features(row)) for row in rows()], files)


def test_a_truncated_archive(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open("a.tar", "w") as archive:
        archive.add("photos/0.jpg")
        end = archive.offset
        archive.add("photos/1.jpg")
    os.truncate("a.tar", end + 600)
    assert embed("a.tar") == 1
    assert [row["file"] for row in rows()] == ["a.tar/photos/0.jpg"]
    assert read_errors() == [("0", "a.tar")]
    assert "a.tar is damaged after 1 pictures" in capsys.readouterr().err


def test_pictures_in_archives_are_explained(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    with tarfile.open("a.tar", "w") as archive:
        archive.add("photos/0.jpg")
    command = ["predict", "a.tar", *weights(), "--explain", "why.png", "--json", "o.json"]
    assert main(command) == 0
    with Image.open("why.png") as picture:
        assert picture.size[0] > 100


# -- restarts ---------------------------------------------------------------------------------


def test_finished_parts_are_passed_over(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert embed("photos") == 1
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    Path("out/part-00001.csv").unlink()
    read: list[str] = []
    original = lucid.distributed._picture_model.load_picture
    monkeypatch.setattr(
        lucid.distributed._picture_model,
        "load_picture",
        lambda path, *more: read.append(path.name) or original(path, *more),
    )
    capsys.readouterr()
    assert embed("photos") == 1
    assert sorted(read) == sorted(f"{index}.jpg" for index in range(20))[8:16]
    assert capsys.readouterr().out == "3 parts in out, 2 of them from before\n"
    after = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert after.keys() == before.keys()
    assert sorted(after["_errors.csv"].splitlines()) == sorted(before["_errors.csv"].splitlines())
    assert after["part-00000.csv"] == before["part-00000.csv"]
    read.clear()
    assert embed("photos") == 1  # some could not be read, whenever that was
    assert not read


def test_other_settings_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(folder / "few", 4, ())
    assert embed("few") == 0
    assert embed("few") == 0
    before = sorted(os.listdir("out"))
    capsys.readouterr()
    for options, size, message in [
        (["few"], 9, "part_size is 8 there, 9 now"),
        (["few", "--shard", "0/2"], 8, "shards is 1 there, 2 now"),
        (["few/0.jpg"], 8, "source is"),
    ]:
        assert embed(*options, size=size) == 2
        assert f"lucid embed: --output: out holds parts of something else: {message}" in (
            capsys.readouterr().err
        )
    save_weights(folder / "other.npz", seed=1)
    command = ["few", "-o", "out", "--part-size", "8", "--format", "csv"]
    assert main(["embed", *command, "--weights", "other.npz"]) == 2
    assert "weights is" in capsys.readouterr().err
    assert main(["predict", *command, *weights()]) == 2
    assert "table is 'features' there, 'classes' now" in capsys.readouterr().err
    Path("few/new.jpg").write_bytes(b"")
    assert embed("few") == 2
    assert "source is" in capsys.readouterr().err
    assert sorted(os.listdir("out")) == before


@pytest.mark.parametrize("count", [2, 3])
def test_shards(count: int, files: Path, folder: Path) -> None:
    for index in range(count):
        assert embed("photos", "--shard", f"{index}/{count}", size=4) in (0, 1)
    check([(row["file"], features(row)) for row in rows()], files)
    assert sorted(name for _, name in read_errors()) == ["photos/17.jpg", "photos/2.jpg"]
    names = os.listdir("out")
    assert len([name for name in names if name.startswith("_errors-")]) == count
    assert f"part-0000{count - 1}-of-0000{count}-00000.csv" in names


def test_more_shards_than_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert embed("photos/0.jpg", "--shard", "1/2") == 0
    assert capsys.readouterr().out == "0 parts in out, 0 of them from before\n"
    assert embed("photos/0.jpg", "--shard", "0/2") == 0
    assert len(rows()) == 1


# -- what cannot be done ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "o.npz", "--part-size", "2"], "--part-size needs a folder of parts, and o.npz is"),
        (["-o", "new.csv", "--shard", "0/2"], "--shard needs a folder of parts, and new.csv is a"),
        (["-o", "out", "--overwrite"], "parts are added to those that are there; leave out --over"),
        (["-o", "photos"], "--output: photos holds '0.jpg' and no _parts.json"),
        (["gone.tar", "-o", "out"], "no image found: there is no file gone.tar"),
        (["-o", "o.txt"], "--output: expected a name ending in .npz, got o.txt"),
    ],
)
def test_wrong_uses_of_embed(
    options: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("o.npz").write_bytes(b"")
    assert main(["embed", "photos", *options, *weights()]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", "0/2"], "--shard needs a folder of parts; name one by --output"),
        (["--format", "csv"], "--format needs a folder of parts"),
        (["-o", "out", "--csv"], "--csv does not go with a folder of parts"),
        (["-o", "o.csv"], "--output: o.csv is no folder; for one file use --csv or --json"),
    ],
)
def test_wrong_uses_of_predict(
    options: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "photos", *weights(), *options]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("shard", ["2/2", "1", "-1/2", "0/0", "a/b", "1/2/3"])
def test_shards_that_are_none(shard: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["embed", "x", "--weights", "w", "-o", "out", f"--shard={shard}"])
    assert "expected I/N with I from 0 to N-1, such as 0/8 to 7/8" in capsys.readouterr().err


# -- many -------------------------------------------------------------------------------------


def start(*options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lucid", "embed", *options, *weights(), "-o", "out"]
    return subprocess.Popen(
        [*command, "--format", "csv", "--part-size", "50"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment(seed: int, folder: Path) -> None:
    """Every picture is in the result once, or once in the list of errors."""
    rng = random.Random(seed)
    broken = tuple(f"{index}.jpg" for index in range(0, 2000, 7))
    fill(folder / "many", 2000, broken)
    kills = 0
    while kills < 6:
        process = start("many")
        parts = len(list(Path("out").glob("part-*")))
        while process.poll() is None and len(list(Path("out").glob("part-*"))) == parts:
            time.sleep(0.01)
        try:
            process.wait(rng.random() * 0.5)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if process.returncode != -signal.SIGKILL:
            break
        kills += 1
    assert kills
    assert start("many").wait() == 1
    names = [row["file"] for row in rows()]
    lost = [name for _, name in read_errors()]
    assert sorted(lost) == sorted(f"many/{name}" for name in broken)
    assert Counter(names + lost) == Counter(f"many/{index}.jpg" for index in range(2000))
    assert not [path for path in Path("out").iterdir() if path.name.startswith(".lucid-")]


MEASURE = """
import resource, sys
from lucid.cli import main
for place in ("some", "many", "many.tar"):
    options = ["--part-size", "500", "--workers", "1", "--weights", "w.npz"]
    status = main(["embed", place, *options, "-o", f"of-{place}"])
    print("status", status, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory otherwise")
def test_memory_is_flat(folder: Path) -> None:
    """20,000 pictures take as much memory as 1,000, whatever they come from."""
    parquet = pytest.importorskip("pyarrow.parquet")
    fill(folder / "some", 1000, ("3.jpg",))
    fill(folder / "many", 20_000, ("3.jpg",))
    with tarfile.open("many.tar", "w") as archive:
        archive.add("many")
    said = subprocess.run(
        [sys.executable, "-c", MEASURE],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    lines = [line.split() for line in said.splitlines() if line.startswith("status")]
    assert [status for _, status, _ in lines] == ["1"] * 3
    some, *others = (int(megabytes) for _, _, megabytes in lines)
    assert max(others) < some + 20
    for place, archive_name in (("many", ""), ("many.tar", "many.tar/")):
        names: Any = Counter()
        for path in Path(f"of-{place}").glob("part-*"):
            names.update(parquet.read_table(path, columns=["file"]).column("file").to_pylist())
        wanted = (f"{archive_name}many/{index}.jpg" for index in range(20_000) if index != 3)
        assert names == Counter(wanted)
