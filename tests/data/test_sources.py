"""Sources of pictures: what they find, in which order, and what is made of damaged ones."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from lucid.data import Source, open_source


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fill(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(name.encode())


def names(source: Source) -> list[str]:
    return [item.name for item in source]


def write_tar(path: str, members: dict[str, bytes | int], mode: str = "w") -> None:
    """Write an archive; a number is the size of a member without content, the last one."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.size = content
                archive.fileobj.write(member.tobuf())


# -- folders, files and patterns --------------------------------------------------------------


def test_a_folder_is_sorted_by_paths() -> None:
    fill("f/b.jpg", "f/b/2.PNG", "f/b/1.jpg", "f/b-c.jpg", "f/a/z/9.webp", "f/.x/1.jpg", "f/n.txt")
    source = open_source("f")
    expected = sorted(path for path in Path("f").rglob("*") if path.suffix.lower() != ".txt")
    expected = [path for path in expected if path.is_file() and ".x" not in path.parts]
    assert names(source) == list(map(str, expected))
    assert [item.content for item in source] == expected
    assert len(source) == 5
    assert source.left_out == {".txt": 1}


def test_this_folder() -> None:
    fill("b.jpg", "a/1.jpg")
    assert names(open_source(".")) == ["a/1.jpg", "b.jpg"]
    assert names(open_source(Path("a/.."))) == ["a/../a/1.jpg", "a/../b.jpg"]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["f/b.jpg", "f"], ["f/b.jpg", "f/a.jpg", "f/d/c.jpg"]),
        (["f", "f/d", "f/b.jpg"], ["f/a.jpg", "f/b.jpg", "f/d/c.jpg"]),
        (["f/d", "f"], ["f/d/c.jpg", "f/a.jpg", "f/b.jpg"]),
        (["f/b.jpg", "f/*.jpg", "f/**"], ["f/b.jpg", "f/a.jpg", "f/d/c.jpg"]),
        (["f/a.jpg", "f/odd", "f/a.jpg"], ["f/a.jpg", "f/odd"]),
    ],
)
def test_a_file_comes_once(places: list[str], expected: list[str]) -> None:
    fill("f/a.jpg", "f/b.jpg", "f/d/c.jpg")
    if "f/odd" in places:
        fill("f/odd")
    source = open_source(places)
    assert names(source) == expected
    assert len(source) == len(expected)
    assert source.missing == []


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_in_circles() -> None:
    fill("f/a/1.jpg", "away/2.jpg")
    Path("f/a/up").symlink_to(Path("f").resolve())
    Path("f/0").symlink_to(Path("f/a").resolve())
    Path("f/out").symlink_to(Path("away").resolve())
    Path("f/dead.jpg").symlink_to("nothing")
    assert names(open_source("f")) == ["f/a/1.jpg", "f/dead.jpg", "f/out/2.jpg"]


def test_braces() -> None:
    fill("s-08.jpg", "s-09.jpg", "s-10.jpg", "t-1-0.jpg", "t-1-1.jpg", "{1..2}.jpg")
    assert names(open_source("s-{08..10}.jpg")) == ["s-08.jpg", "s-09.jpg", "s-10.jpg"]
    assert names(open_source("t-{1..1}-{0..1}.jpg")) == ["t-1-0.jpg", "t-1-1.jpg"]
    assert names(open_source("{1..2}.jpg")) == ["{1..2}.jpg"]
    source = open_source("s-{9..11}.jpg")
    assert names(source) == ["s-10.jpg"]
    assert source.missing == [
        "no image found: there is no file s-9.jpg",
        "no image found: there is no file s-11.jpg",
    ]
    with pytest.raises(ValueError, match="stand for more than 100,000 files"):
        open_source("{0..99999999}{0..99999999}.jpg")


def test_nothing_is_found() -> None:
    Path("empty").mkdir()
    for place, message in [
        ("none.jpg", "there is no file none.jpg"),
        ("*.tiff", r"nothing matches \*\.tiff"),
        ("empty", "no image found in empty: no file in it ends in .jpg"),
        ([], "none is named"),
        ("{1..9}.tar", r"no file 1\.tar;.*; and 4 more"),
    ]:
        with pytest.raises(FileNotFoundError, match=message):
            open_source(place)


# -- lists ------------------------------------------------------------------------------------


def test_a_list_of_paths() -> None:
    Path("d").mkdir()
    absolute = str(Path("y.jpg").resolve())
    text = f"\ufeffa b.jpg\r\n\r\n../x.jpg\n{absolute}\na b.jpg\n\u00fc.jpg"
    Path("d/l.txt").write_bytes(text.encode() + b"\n\xff.jpg\n")
    source = open_source("d/l.txt")
    odd = os.fsdecode(b"\xff.jpg")
    assert names(source) == ["a b.jpg", "../x.jpg", absolute, "a b.jpg", "\u00fc.jpg", odd]
    assert [item.content for item in source][:3] == [
        Path("d/a b.jpg"),
        Path("d/../x.jpg"),
        Path(absolute),
    ]
    assert len(source) == 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('label,file\n0,a.jpg\n1,"b, ""c"".jpg"\n', ["a.jpg", 'b, "c".jpg']),
        ("path,label\r\na.jpg,0\r\n\r\nb.jpg,1\r\n", ["a.jpg", "b.jpg"]),
        ("path,file\na,b\n", ["b"]),
        ("picture,label\na.jpg,0\n", ["a.jpg"]),
        ("a.jpg,0\nb.jpg,1\n", ["a.jpg", "b.jpg"]),
        ("\ufefffile\na.jpg\n", ["a.jpg"]),
        ('file\n"a\nb.jpg"\n', ["a\nb.jpg"]),
        ("label,file\n0\n1,a.jpg\n", ["a.jpg"]),
        ("", []),
    ],
    ids=range(9),
)
def test_a_csv_file(text: str, expected: list[str]) -> None:
    Path("l.csv").write_bytes(text.encode())
    source = open_source("l.csv")
    assert names(source) == expected
    assert len(source) == len(expected)


@pytest.mark.parametrize(
    "content", ["a.jpg\n".encode("utf-16"), b"a.jpg\n" + b"x" * 10**6, b'file\n"' + b"x" * 10**6]
)
@pytest.mark.parametrize("name", ["l.txt", "l.csv"])
def test_what_is_no_list(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}, line \d: expected the path of a picture in"):
        list(open_source(name))


def test_a_quoted_field_without_end() -> None:
    Path("l.csv").write_text('file\n"' + "a.jpg\n" * 10**5)
    with pytest.raises(ValueError, match=r"l\.csv is no list of pictures: field larger"):
        list(open_source("l.csv"))


def test_a_list_that_lies_among_pictures_is_none() -> None:
    fill("f/a.jpg")
    Path("f/l.txt").write_text("b.jpg\n")
    assert names(open_source("f/*")) == ["f/a.jpg", "f/l.txt"]  # which cannot be read then
    assert names(open_source("f/*.txt")) == ["b.jpg"]


# -- archives of tar --------------------------------------------------------------------------

WHOLE: dict[str, bytes | int] = {
    "a.jpg": b"A" * 700,
    "a.json": b"{}",
    "deep/b.PNG": b"B" * 10_000,
    "._a.jpg": b"?",
    "../../c.jpg": b"C",
    "/d.jpg": b"",
    "a.cls": b"0",
    "x" * 150 + ".jpg": b"X",
    "a.jpg ": b"no",
}
PICTURES = ["a.jpg", "deep/b.PNG", "../../c.jpg", "/d.jpg", "x" * 150 + ".jpg"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar(mode: str, format: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarfile.TarFile, "format", format)
    members = {name: content for name, content in WHOLE.items() if len(name) < 100 or format}
    write_tar("t.tar", members, mode)
    source = open_source("t.tar")
    found = list(source)
    assert [item.name for item in found] == [
        f"t.tar/{name}" for name in PICTURES if name in members
    ]
    assert [item.content for item in found] == [
        members[name] for name in PICTURES if name in members
    ]
    assert not Path("../../c.jpg").exists()
    with pytest.raises(TypeError, match="does not tell how many pictures"):
        len(source)
    numbered = list(source.numbered(lambda number: number == 1))
    assert numbered == [(1, found[1])]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_tar_that_is_cut_off(compressed: bool) -> None:
    """It gives what is before the cut, the same whichever pictures are read, and one error."""
    write_tar("w.tar", WHOLE)
    whole = Path("w.tar").read_bytes()
    expected = [item._replace(name=item.name[1:]) for item in open_source("w.tar")]
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512 + 512
    if compressed:
        whole = gzip.compress(whole)
        end = len(whole) - 8
    for cut in [*random.Random(0).sample(range(end), 60), 0, 1, 511, 512, 513]:
        if cut == end - 512:
            continue
        Path("t.tar").write_bytes(whole[:cut])
        source = open_source("t.tar")
        *good, last = source
        if compressed and not isinstance(last.content, Exception):
            good.append(last)
            assert len(good) == len(expected)  # all but the end's zeros
        else:
            assert last.name == "t.tar"
            message = f"t.tar is damaged after {len(good)} pictures: "
            assert str(last.content).startswith(message)
        assert [item._replace(name=item.name[1:]) for item in good] == expected[: len(good)]
        every = [
            item.name
            for part in range(3)
            for _, item in source.numbered(lambda number, part=part: number % 3 == part)
        ]
        assert sorted(every) == sorted(names(source))


def test_hostile_members() -> None:
    with tarfile.open("t.tar", "w") as archive:
        for name, kind, target in [
            ("hard.jpg", tarfile.LNKTYPE, "b.jpg"),
            ("soft.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("pipe.jpg", tarfile.FIFOTYPE, ""),
            ("folder.jpg", tarfile.DIRTYPE, ""),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
        twice = tarfile.TarInfo("b.jpg")
        for content in (b"1", b"2"):
            twice.size = 1
            archive.addfile(twice, io.BytesIO(content))
        odd = tarfile.TarInfo(os.fsdecode(b"\xff\n.jpg"))
        archive.addfile(odd)
    found = list(open_source("t.tar"))
    for item, name in zip(found, ("hard", "soft", "pipe")):
        assert str(item.content) == f"t.tar/{name}.jpg is a link or the like, which is not followed"
    assert found[3:] == [
        ("t.tar/b.jpg", b"1"),
        ("t.tar/b.jpg", b"2"),
        ("t.tar/" + os.fsdecode(b"\xff\n.jpg"), b""),
    ]


def test_huge_members() -> None:
    """A size that a header claims takes no memory."""
    write_tar("t.tar", {"a.jpg": b"A", "b.jpg": 2**40})
    *good, last = open_source("t.tar")
    assert [item.name for item in good] == ["t.tar/a.jpg"]
    assert str(last.content) == "t.tar is damaged after 1 pictures: it ends within b.jpg"
    with open("t.tar", "r+b") as file:
        file.truncate(2**40 + 2**20)  # a file of zeros, but for its start
    sizes = [
        item.content if isinstance(item.content, Exception) else 1 for item in open_source("t.tar")
    ]
    assert str(sizes[1]) == f"t.tar/b.jpg is too large for a picture: {2**40} bytes"
    assert len(sizes) == 2


def test_a_header_of_its_own_size() -> None:
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 2**40
    with open("t.tar", "wb") as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**41)
    (item,) = open_source("t.tar")
    assert "t.tar is damaged after 0 pictures: a header of 1099511627776 bytes" in str(item.content)


@pytest.mark.parametrize("size", [-512, -1024, -5000])
def test_a_negative_size(size: int) -> None:
    """It would lead back to where the archive was read before, without end."""
    write_tar("t.tar", {"a.jpg": b"A", "b.jpg": size})
    *good, last = open_source("t.tar")
    assert len(good) <= 1
    assert "t.tar is damaged after" in str(last.content)


def test_any_bytes_as_a_tar() -> None:
    rng = random.Random(0)
    write_tar("w.tar", WHOLE)
    whole = Path("w.tar").read_bytes()
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(rng.randrange(1, 30)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        Path("t.tar").write_bytes(content)
        assert len(list(open_source("t.tar"))) <= 12
    for content in (b"", b"no archive", b"\x1f\x8b", b"\0" * 511, os.urandom(2048)):
        Path("t.tar").write_bytes(content)
        (item,) = open_source("t.tar")
        assert "t.tar is damaged after 0 pictures" in str(item.content)
    Path("t.tar").write_bytes(b"\0" * 1024)
    assert list(open_source("t.tar")) == []


# -- Parquet ----------------------------------------------------------------------------------


def write_parquet(path: str, columns: dict[str, Any], **options: Any) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path, **options)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"image": [{"bytes": b"A", "path": "x"}, {"bytes": b"B", "path": None}]}, ["x", "1"]),
        ({"label": [1, 2], "jpg": [b"A", b"B"], "__key__": ["k", "l"]}, ["k", "l"]),
        ({"bytes": [b"A", b"B"], "jpg": [b"?", b"?"]}, ["0", "1"]),
        ({"bytes": [b"A", b"B"], "file": ["../x", "../x"]}, ["../x", "../x"]),
    ],
    ids=range(4),
)
def test_columns_of_parquet(columns: dict[str, Any], expected: list[str]) -> None:
    write_parquet("t.parquet", columns)
    source = open_source("t.parquet")
    assert names(source) == [f"t.parquet/{name}" for name in expected]
    assert [item.content for item in source] == [b"A", b"B"]
    assert len(source) == 2


def test_groups_of_rows() -> None:
    pictures = [bytes([number]) * 1000 for number in range(200)]
    write_parquet("t.parquet", {"image": pictures}, row_group_size=70)
    source = open_source("t.parquet")
    assert [item.content for item in source] == pictures
    chosen = (3, 69, 70, 139, 199)
    found = list(source.numbered(lambda number: number in chosen))
    assert [number for number, _ in found] == list(chosen)
    assert [item.content for _, item in found] == [pictures[number] for number in chosen]


def test_damaged_parquet() -> None:
    write_parquet("t.parquet", {"label": [1]})
    (item,) = source = open_source("t.parquet")
    assert "expected a column image, bytes, jpg, got label" in str(item.content)
    assert len(source) == 1
    write_parquet("t.parquet", {"image": [b"A", None]})
    _, item = open_source("t.parquet")
    assert str(item.content) == "t.parquet/1 holds no bytes of a picture"
    write_parquet("t.parquet", {"image": ["text"]})
    (item,) = open_source("t.parquet")
    assert "holds no bytes" in str(item.content)
    write_parquet("t.parquet", {"image": [os.urandom(1000) for _ in range(100)]})
    whole = Path("t.parquet").read_bytes()
    for cut in (0, 4, 1000, len(whole) - 1):
        Path("t.parquet").write_bytes(whole[:cut])
        (item,) = source = open_source("t.parquet")
        assert "t.parquet is damaged after 0 pictures" in str(item.content)
        assert len(source) == 1
    Path("t.parquet").write_bytes(b"PAR1" + bytes(40_000) + whole[40_004:])
    items = list(open_source("t.parquet"))
    assert len(items) == 100
    assert all("cannot be read" in str(item.content) for item in items[:40])


def test_parquet_needs_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    fill("t.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"Parquet files need pyarrow, .*\[parquet\]"):
        list(open_source("t.parquet"))


# -- parts ------------------------------------------------------------------------------------


def mixed() -> Source:
    fill("f/a.jpg", "f/d/b.jpg", "f/d/c.jpg", "z.jpg")
    for number in range(3):
        write_tar(f"t{number}.tar", {f"{name}.jpg": b"A" for name in range(number + 2)})
    Path("l.txt").write_text("y.jpg\nx.jpg\n")
    return open_source(["f", "t{0..2}.tar", "z.jpg", "l.txt"])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 50])
def test_each_picture_is_in_one_part(count: int) -> None:
    source = mixed()
    parts = [names(source.part(index, count)) for index in range(count)]
    assert sorted(name for part in parts for name in part) == sorted(names(source))
    for index, part in enumerate(parts):
        assert part == [name for name in names(source) if name in part]
        assert [number for number, _ in source.part(index, count).numbered()] == list(
            range(len(part))
        )
    for tar in ("t0.tar", "t1.tar", "t2.tar"):
        holding = [part for part in parts if any(name.startswith(tar) for name in part)]
        assert len(holding) == 1 or count > 3


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20])
def test_the_length_of_a_part(count: int) -> None:
    fill(*(f"f/{number}.jpg" for number in range(7)), "z.jpg")
    for number in range(3):
        write_parquet(f"t{number}.parquet", {"jpg": [b"A"] * (number + 1)})
    source = open_source(["f", "t*.parquet", "z.jpg"])
    parts = [source.part(index, count) for index in range(count)]
    assert [len(part) for part in parts] == [len(list(part)) for part in parts]
    assert sum(map(len, parts)) == len(source) == 14


def test_wrong_parts() -> None:
    fill("a.jpg")
    source = open_source("a.jpg")
    for index, count in ((1, 1), (-1, 2), (2, 2), (0, 0)):
        with pytest.raises(ValueError, match=f"expected an index from 0 to .*, got {index}"):
            source.part(index, count)
    with pytest.raises(ValueError, match="is a part already"):
        source.part(0, 2).part(0, 2)


def test_a_source_is_pickled() -> None:
    source = mixed()
    copy = pickle.loads(pickle.dumps(source.part(1, 2)))
    assert names(copy) == names(source.part(1, 2))


def test_fingerprints() -> None:
    source = mixed()
    first = source.fingerprint()
    assert source.part(1, 2).fingerprint() == first == mixed().fingerprint()
    fill("f/e.jpg")
    assert mixed().fingerprint() != first
    Path("f/e.jpg").unlink()
    assert mixed().fingerprint() == first
    with open("t1.tar", "ab") as file:
        file.write(bytes(512))
    assert open_source(["f", "t{0..2}.tar", "z.jpg", "l.txt"]).fingerprint() != first


def test_it_does_not_keep_what_it_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a folder is that of its folders; of an archive that of a picture."""
    import tracemalloc

    for folder in range(40):
        fill(*(f"f/{folder}/{'x' * 100}{number}.jpg" for number in range(100)))
    write_tar("t.tar", {f"{'x' * 90}{number}.jpg": b"A" * 1000 for number in range(4000)})
    for place in ("f", "t.tar"):
        tracemalloc.start()
        assert sum(1 for _ in open_source(place)) == 4000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 400_000  # of 4000 names alone: 600,000
