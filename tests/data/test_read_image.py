"""Reading pictures: odd pixels, odd files, hostile ones; and finding them in folders."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lucid import nn
from lucid.data import transforms as T  # noqa: N812
from lucid.data._folders import find_pictures
from lucid.data._read_image import SUFFIXES
from lucid.data.datasets import ImageFolder, read_image

Image = pytest.importorskip("PIL.Image")

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def close(image: Any, expected: np.ndarray, atol: float = 1) -> None:
    """Compare a Pillow image with bytes ``(H, W)``, in each of its channels."""
    found = np.asarray(image).astype(int)
    if found.ndim == 2:
        found = found[:, :, None]
    np.testing.assert_allclose(found, expected[:, :, None].astype(int) + 0 * found, atol=atol)


# -- pixels of more than 8 bits ---------------------------------------------------------------

WIDE = {
    "I;16": RAMP.astype("<u2") * 257,
    "I;16B": RAMP.astype("<u2") * 257,
    "I, 8 bits": RAMP.astype(np.int32),
    "I, 16 bits": RAMP.astype(np.int32) * 257,
    "I, 31 bits": RAMP.astype(np.int32) * (2**31 // 256),
    "I, negative": (RAMP.astype(np.int32) - 128) * 1000,
    "F, 0 to 1": RAMP.astype(np.float32) / 255,
    "F, 8 bits": RAMP.astype(np.float32),
    "F, 16 bits": RAMP.astype(np.float32) * 257,
    "F, any": RAMP.astype(np.float32) * 1e6 - 5e7,
}


def wide(kind: str) -> Any:
    if kind != "I;16B":
        return Image.fromarray(WIDE[kind])
    return Image.frombytes(kind, (16, 16), WIDE[kind].astype(">u2").tobytes())


@pytest.mark.parametrize("kind", WIDE)
def test_more_than_8_bits_are_scaled(kind: str) -> None:
    image = wide(kind)
    assert image.mode == kind.partition(",")[0]
    close(T.Convert("RGB")(image), RAMP)
    close(T.Convert("L")(image), RAMP)
    tensor = T.ToTensor()(image)
    assert (tensor.shape, tensor.dtype) == ((1, 16, 16), np.float32)
    np.testing.assert_allclose(tensor.numpy()[0], RAMP / 255, atol=1e-6)
    model = nn.Module()
    model.pretrained_cfg = {"input_size": (3, 16, 16), "crop_pct": 1.0, "mean": (0,), "std": (1,)}
    assert T.for_model(model)(image).numpy()[2] == pytest.approx(RAMP / 255, abs=2 / 255)


@pytest.mark.parametrize("kind", [kind for kind in WIDE if kind != "I;16B"])
@pytest.mark.parametrize("suffix", [".tiff", ".png"])
def test_files_of_more_than_8_bits(kind: str, suffix: str, tmp_path: Path) -> None:
    if suffix == ".png" and kind != "I;16":
        pytest.skip("PNG has 16 bits at most")
    wide(kind).save(tmp_path / f"x{suffix}")
    close(read_image(tmp_path / f"x{suffix}"), RAMP)


def test_a_tiff_of_unsigned_32_bits(tmp_path: Path) -> None:
    signed = (RAMP.astype(np.uint32) * (2**32 // 256)).view(np.int32)
    Image.fromarray(signed).save(tmp_path / "x.tiff")
    kinds = [struct.pack("<HHIHH", 339, 3, 1, kind, 0) for kind in (2, 1)]  # signed, unsigned
    content = (tmp_path / "x.tiff").read_bytes()
    assert kinds[0] in content
    (tmp_path / "x.tiff").write_bytes(content.replace(*kinds))
    close(read_image(tmp_path / "x.tiff"), RAMP)


def test_pixels_that_are_no_numbers(tmp_path: Path) -> None:
    values = RAMP.astype(np.float32)
    values[0, 0], values[0, 1], values[0, 2] = np.nan, -np.inf, np.inf
    expected = RAMP.copy()
    expected[0, :3] = 0, 0, 255
    close(T.Convert("RGB")(Image.fromarray(values)), expected)
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "x.tiff")
    with pytest.raises(ValueError, match=r"x\.tiff cannot be read as an image: none of its pixels"):
        read_image(tmp_path / "x.tiff")
    flat = Image.fromarray(np.full((4, 4), -7.0, np.float32))  # one value has no range
    assert np.isfinite(T.ToTensor()(flat).numpy()).all()


def test_arrays_of_16_bits() -> None:
    for dtype in ("<u2", ">u2"):
        array = (RAMP.astype(np.uint16) * 257).astype(dtype)
        np.testing.assert_allclose(T.ToTensor()(array).numpy()[0], RAMP / 255, atol=1e-6)
    for array in (RAMP / 255, RAMP.astype(np.float16), RAMP.astype(np.int64) * 9):  # as they are
        np.testing.assert_array_equal(T.ToTensor()(array).numpy()[0], array.astype(np.float32))


# -- modes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"],
)
@pytest.mark.parametrize("shade", [0, 255])
def test_black_and_white_stay_so_in_every_mode(mode: str, shade: int) -> None:
    image = Image.new("RGB", (4, 4), (shade,) * 3)
    if mode == "LAB":  # L is 0 or 255, and the colour axes are at zero
        image = Image.frombytes(mode, (4, 4), bytes([shade, 0, 0]) * 16)
    elif mode in ("La", "PA"):
        image = image.convert("LA").convert(mode)
    else:
        image = image.convert("RGBA").convert(mode) if mode == "RGBa" else image.convert(mode)
    for target in ("RGB", "L"):
        result = T.Convert(target)(image)
        assert result.mode == target
        close(result, np.full((4, 4), shade))


@pytest.mark.parametrize("mode", ["LA", "La", "P", "RGBA", "RGBa", "key"])
def test_what_is_transparent_is_white(mode: str, tmp_path: Path) -> None:
    """Handed in as an image, or read from a file where PNG has the mode."""
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    if mode == "P":
        image = Image.new("P", (4, 4), 1)
        image.putpalette([9, 9, 9, 0, 0, 0])
        image.info["transparency"] = 1
    elif mode == "key":  # a colour that stands for nothing
        image = Image.new("RGB", (4, 4), (1, 2, 3))
        image.info["transparency"] = (1, 2, 3)
    elif mode != "RGBA":
        image = image.convert("LA" if mode != "RGBa" else "RGBA").convert(mode)
    close(T.Convert("RGB")(image), np.full((4, 4), 255))
    close(T.Convert("L")(image), np.full((4, 4), 255))
    if mode in ("LA", "P", "RGBA", "key"):
        image.save(tmp_path / "x.png")
        close(read_image(tmp_path / "x.png"), np.full((4, 4), 255))


def test_transparency_is_kept_for_a_mode_that_has_it() -> None:
    image = Image.new("RGBA", (4, 4), (9, 8, 7, 6))
    assert T.Convert("RGBA")(image).getpixel((0, 0)) == (9, 8, 7, 6)


# -- damaged and hostile files ----------------------------------------------------------------


def with_exif(path: Path, exif: bytes) -> None:
    Image.fromarray(np.stack([RAMP[:8]] * 3, axis=-1)).save(path, exif=exif, quality=100)


def exif_entries(*entries: tuple[int, int, int, bytes]) -> bytes:
    """Return EXIF data of tag, type, count and 4 bytes of value each."""
    body = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + b"\0" * 4


TURNED = (0x0112, 3, 1, b"\x06\0\0\0")


@pytest.mark.parametrize(
    ("exif", "turned"),
    [
        (exif_entries(TURNED), True),
        (exif_entries(TURNED, (0x011A, 2, 4, b"abc\0")), True),  # the resolution as text
        (exif_entries(TURNED, (0x011A, 5, 1, b"\xff\xff\xff\x7f")), True),  # outside of the data
        (exif_entries((0x0112, 2, 4, b"six\0")), False),
        (exif_entries((0x0112, 3, 1, b"\x63\0\0\0")), False),
        (b"Exif\0\0II*\0\xff\xff\xff\xff", False),
        (b"Exif\0\0nonsense", False),
        (b"Exif\0\0", False),
    ],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged EXIF data
def test_odd_exif_data_refuse_no_picture(
    exif: bytes, turned: bool, suffix: str, tmp_path: Path
) -> None:
    with_exif(tmp_path / f"x{suffix}", exif)
    image = read_image(tmp_path / f"x{suffix}")
    assert image.size == ((8, 16) if turned else (16, 8))


def png(width: int, height: int, *chunks: tuple[bytes, bytes], data: bytes = b"") -> bytes:
    """Return a PNG of bits; without ``data`` it is no more than a claim."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    "chunk",
    [
        (b"eXIf", b"II*\0\xff\xff\xff\xff"),
        (b"eXIf", b"nonsense"),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n   4\nnot hexadecimal\n")),
        (b"tEXt", b"Raw profile type exif\0nonsense"),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<tiff:Orientation>x</tiff:Orientation>"),
        (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27))),  # unpacks to more than Pillow takes
        (b"pHYs", b"\0"),
        (b"gAMA", b""),
        (b"cHRM", b"\1"),
        (b"acTL", b"\1"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_bad_chunk_of_a_png(chunk: tuple[bytes, bytes], tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(8, 2, chunk, data=b"\0\xff\0\xff"))
    close(read_image(tmp_path / "x.png"), np.full((2, 8), 255))


def test_a_wrong_checksum_in_a_png(tmp_path: Path) -> None:
    """It refuses nothing in a note beside the pixels, but in what says how to read them."""
    good = png(8, 2, (b"tEXt", b"a\0b"), data=b"\0\xff\0\xff")
    for name, sound in ((b"tEXt", True), (b"IHDR", False)):
        spoilt = bytearray(good)
        start = good.index(name)
        length = int.from_bytes(good[start - 4 : start], "big")
        spoilt[start + 4 + length] ^= 1
        (tmp_path / "x.png").write_bytes(spoilt)
        if sound:
            close(read_image(tmp_path / "x.png"), np.full((2, 8), 255))
        else:
            with pytest.raises(ValueError, match=r"x\.png cannot be read as an image"):
                read_image(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("width", "height"), [(80_000_000, 1), (1, 80_000_000), (13_000, 13_000), (2**31 - 1,) * 2]
)
@pytest.mark.filterwarnings("ignore")
def test_a_giant_is_refused_before_it_is_decoded(width: int, height: int, tmp_path: Path) -> None:
    rows = zlib.compress(b"\0" * min((width // 8 + 1) * height, 2**20))
    (tmp_path / "x.png").write_bytes(png(width, height, data=rows))
    with pytest.raises(ValueError, match=r"x\.png cannot be read as an image: .*pixels"):
        read_image(tmp_path / "x.png")


def test_the_limits_name_the_size(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(70_000, 10))
    with pytest.raises(ValueError, match="it has 70000×10 pixels, more than 67,108,864 in all or"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000)])
def test_resizing_builds_no_giant(size: tuple[int, int]) -> None:
    image = Image.new("L", size)
    for subject in (image, np.asarray(image)[None]):
        with pytest.raises(ValueError, match=r"Resize: an image of .* is too long: with 256 p"):
            T.Resize(256)(subject)
    assert T.Resize((4, 4))(image).size == (4, 4)
    assert T.Resize(2)(image).size == (size[0] * 2, size[1] * 2)


@pytest.mark.parametrize("suffix", [".jpg", ".eps", ".png"])
def test_postscript_starts_no_program(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    called: list[Any] = []
    eps = pytest.importorskip("PIL.EpsImagePlugin")
    monkeypatch.setattr(eps, "Ghostscript", lambda *args, **kwargs: called.append(args))
    with pytest.raises(ValueError, match=r"it is none of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM, or"):
        read_image(path)
    assert not called


def test_memory_that_does_not_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "x.png")

    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("lucid.data._read_image._upright", fail)
    with pytest.raises(ValueError, match=r"x\.png cannot be read .*: it takes too much memory"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".bmp", ".tif", ".webp", ".ppm"])
def test_a_truncated_file_is_refused(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    content = io.BytesIO()
    noise = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    noise.save(content, Image.registered_extensions()[suffix])
    path = tmp_path / f"x{suffix}"
    for part in (0.02, 0.5, 0.9):
        path.write_bytes(content.getvalue()[: int(part * len(content.getvalue()))])
        with pytest.raises(ValueError, match="cannot be read as an image"):
            read_image(path)


@pytest.mark.parametrize("suffix", [".gif", ".tiff", ".webp", ".png"])
def test_of_several_frames_the_first_is_read(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("L", (6, 4), shade) for shade in (200, 100, 0)]
    options = {"lossless": True} if suffix == ".webp" else {}
    frames[0].save(tmp_path / f"x{suffix}", save_all=True, append_images=frames[1:], **options)
    close(read_image(tmp_path / f"x{suffix}"), np.full((4, 6), 200))


# -- folders ----------------------------------------------------------------------------------


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)


def test_every_suffix_is_found(tmp_path: Path) -> None:
    names = [f"a{suffix}" for suffix in SUFFIXES] + ["b.JPEG", "deep/er/c.Tiff"]
    fill(tmp_path, *names, ".hidden.png", ".deep/x.png")
    for name in ("readme.txt", "deep/x.HEIC", "deep/y.heic", "Makefile"):
        (tmp_path / name).write_bytes(b"no picture")
    pictures, left_out = find_pictures(tmp_path)
    assert pictures == sorted(tmp_path / name for name in names)
    assert left_out == Counter({".heic": 2, ".txt": 1, "no suffix": 1})
    for path in pictures:
        assert read_image(path).size == (4, 4)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_linked_folders_and_files(tmp_path: Path) -> None:
    fill(tmp_path, "elsewhere/b/2.png", "root/a/1.png", "root/z.png")
    root = tmp_path / "root"
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "circle").symlink_to(root)
    (root / "itself").symlink_to(root / "itself")
    (root / "a" / "3.png").symlink_to(root / "a" / "1.png")
    (root / "a" / "gone.png").symlink_to(root / "nothing.png")
    (root / "0").symlink_to(root / "a")  # found under its own name
    os.mkfifo(root / "pipe.png")
    found = [path.relative_to(root).as_posix() for path in find_pictures(root).pictures]
    assert found == ["a/1.png", "a/3.png", "a/gone.png", "link/b/2.png", "z.png"]


def test_a_folder_of_classes_counts_what_it_leaves_out(tmp_path: Path) -> None:
    fill(tmp_path, "cat/1.bmp", "dog/1.gif", "dog/2.tif", "loose.png")
    (tmp_path / "cat" / "x.heic").write_bytes(b"")
    dataset = ImageFolder(tmp_path)
    assert len(dataset) == 3
    assert dataset.left_out == Counter({".heic": 1, ".png": 1})
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "x.heic").write_bytes(b"")
    with pytest.raises(ValueError, match=r"ant holds no pictures but 1 file \(1 \.heic\); exp"):
        ImageFolder(tmp_path)


def test_classes_of_another_folder(tmp_path: Path) -> None:
    fill(tmp_path, "cat/1.png", "eel/1.png")
    dataset = ImageFolder(tmp_path, classes=["eel", "dog", "cat"])
    assert dataset.class_to_idx == {"eel": 0, "dog": 1, "cat": 2}
    assert [(path.parent.name, label) for path, label in dataset.samples] == [
        ("eel", 0),
        ("cat", 2),
    ]
    with pytest.raises(ValueError, match="folders of other classes: eel; expected cat, dog"):
        ImageFolder(tmp_path, classes=["cat", "dog"])


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_bytes_are_read_as_a_file_is(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    Image.fromarray(RAMP).save(path, kind)
    np.testing.assert_array_equal(read_image(path.read_bytes()), read_image(path))
    with pytest.raises(ValueError, match="the picture cannot be read as an image: it is none of"):
        read_image(b"no image")
