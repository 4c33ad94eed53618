"""Results in parts: whole or not there, of one thing only, and their errors once each."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid._files import HeldElsewhereError, OtherPartsError, Parts

TABLE: dict[str, Any] = {
    "file": ["a.jpg", 'b, "c"\n.jpg', os.fsdecode(b"\xff.jpg")],
    "index": np.array([3, 1, 2]),
    "probability": np.array([0.1, 1e-300, 1 / 3]),
    "features": np.array([[0.1, -1], [1 / 3, 2], [3e38, 1e-45]], np.float32),
}
NAMES = ["a.jpg", 'b, "c"\n.jpg', "\\udcff.jpg"]


def parts(folder: Path, format: str = "csv", share: tuple[int, int] = (0, 1), **more: Any) -> Parts:
    return Parts(folder, {"source": "s", "part_size": 3, **more}, format, share)


def errors(parts: Parts) -> list[list[str]]:
    with parts.error_file.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["part", "file", "reason"]
    return rows


def test_csv(tmp_path: Path) -> None:
    made = parts(tmp_path / "p")
    with made.held():
        made.write(7, TABLE)
    with (tmp_path / "p/part-00007.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "index", "probability", "features_0", "features_1"]
    assert [row[0] for row in rows] == NAMES
    assert [int(row[1]) for row in rows] == TABLE["index"].tolist()
    assert [float(row[2]) for row in rows] == TABLE["probability"].tolist()
    features = np.array([row[3:] for row in rows]).astype(np.float32)
    np.testing.assert_array_equal(features, TABLE["features"])


def test_parquet(tmp_path: Path) -> None:
    read = pytest.importorskip("pyarrow.parquet").read_table
    made = parts(tmp_path, "parquet")
    with made.held():
        made.write(0, TABLE)
        nothing = {"file": [], **{name: TABLE[name][:0] for name in list(TABLE)[1:]}}
        made.write(1, nothing)
    table, empty = (read(tmp_path / f"part-0000{part}.parquet") for part in (0, 1))
    assert table.column("file").to_pylist() == NAMES
    for name in ("index", "probability"):
        np.testing.assert_array_equal(table.column(name).to_numpy(), TABLE[name])
    assert str(table.schema.field("features").type).endswith("float>[2]")
    np.testing.assert_array_equal(table.column("features").to_pylist(), TABLE["features"])
    assert (empty.num_rows, empty.schema) == (0, table.schema)


def test_what_is_there_is_found(tmp_path: Path) -> None:
    made = parts(tmp_path)
    with made.held():
        assert made.finished == set()
        for part in (0, 2, 123456):
            made.write(part, TABLE)
    (tmp_path / ".lucid-0123456789abcdef.csv").write_text("half of a part")
    (tmp_path / "part-1.csv").write_text("somebody else's")
    again = parts(tmp_path)
    with again.held():
        assert again.finished == {0, 2, 123456}
        if os.name == "posix":
            assert not list(tmp_path.glob(".lucid-0*"))


def test_shares_have_files_of_their_own(tmp_path: Path) -> None:
    for index in range(3):
        made = parts(tmp_path, share=(index, 3))
        with made.held():
            assert made.finished == set()
            made.write(0, TABLE, [(f"{index}.jpg", "broken")])
    for index in range(3):
        made = parts(tmp_path, share=(index, 3))
        with made.held():
            assert made.finished == {0}
            assert errors(made) == [["0", f"{index}.jpg", "broken"]]
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == sorted(
        [f"part-0000{index}-of-00003-00000.csv" for index in range(3)]
        + [f"_errors-0000{index}-of-00003.csv" for index in range(3)]
        + ["_parts.json"]
    )


def test_other_settings_are_refused(tmp_path: Path) -> None:
    parts(tmp_path, note=[1, {"a": (2, 3)}])
    parts(tmp_path, note=[1, {"a": (2, 3)}])
    for change, message in [
        (lambda: parts(tmp_path, note=2), r"note is \[1, \{'a': \[2, 3\]\}\] there, 2 now;"),
        (lambda: parts(tmp_path, part_size=4), "part_size is 3 there, 4 now; note is .*None now"),
        (lambda: parts(tmp_path, share=(0, 2)), "shards is 1 there, 2 now"),
        (lambda: parts(tmp_path, more=1), "more is None there, 1 now"),
    ]:
        with pytest.raises(OtherPartsError, match=message):
            change()
    (tmp_path / "_parts.json").write_text("[]")
    with pytest.raises(OtherPartsError, match=r"parts\.json: expected an object, got \[\]"):
        parts(tmp_path)


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(OtherPartsError, match=r"holds 'photo\.jpg' and no _parts\.json; name a"):
        parts(tmp_path)
    assert os.listdir(tmp_path) == ["photo.jpg"]


def test_one_process_has_a_share(tmp_path: Path) -> None:
    made = parts(tmp_path, share=(0, 2))
    with made.held():
        with pytest.raises(HeldElsewhereError), parts(tmp_path, share=(0, 2)).held():
            pass
        with parts(tmp_path, share=(1, 2)).held():
            pass
    with made.held():
        pass


def test_a_part_that_fails_is_not_there(tmp_path: Path) -> None:
    made = parts(tmp_path)
    with made.held():
        made.write(0, TABLE, [("a", "first")])
        with pytest.raises(TypeError):
            made.write(1, {"file": 5}, [("b", "second")])
    with made.held():
        assert made.finished == {0}
        assert made.errors == 1
        assert errors(made) == [["0", "a", "first"]]


@pytest.mark.parametrize("cut", range(1, 60, 3))
def test_errors_of_a_process_that_was_killed(cut: int, tmp_path: Path) -> None:
    """Whatever was written of them: those of parts that are there are kept, once each."""
    made = parts(tmp_path)
    odd = os.fsdecode(b"\xff,\n.jpg")
    with made.held():
        made.write(1, TABLE, [("a.jpg", 'it is "broken"'), (odd, "gone")])
    kept = errors(made)
    assert [row[0] for row in kept] == ["1", "1"]
    length = made.error_file.stat().st_size
    with made.held():
        made.write(12, TABLE, [("1,\n1.jpg", "üüü"), (odd, "b" * 50)])
    (tmp_path / "part-00012.csv").unlink()
    os.truncate(made.error_file, length + cut)
    with made.held():
        assert errors(made) == kept
        assert made.errors == 2
        made.write(12, TABLE, [("c.jpg", "gone")])
    assert errors(made) == [*kept, ["12", "c.jpg", "gone"]]


def test_parquet_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"Parquet files need pyarrow, .*\[parquet\]"):
        parts(tmp_path / "p", "parquet")
    assert not (tmp_path / "p").exists()


def test_settings_can_be_read(tmp_path: Path) -> None:
    parts(tmp_path, share=(1, 4))
    assert json.loads((tmp_path / "_parts.json").read_text()) == {
        "source": "s",
        "part_size": 3,
        "format": "csv",
        "shards": 4,
    }
