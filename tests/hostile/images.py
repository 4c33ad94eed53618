"""Picture files: damaged, of odd kinds, too large, or something else altogether."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from lucid.data import transforms
from lucid.data.datasets import read_image
from tests.hostile.runs import command, finished_run
from tests.hostile.values import spoil
from tests.hostile.verdict import attempt, check

KINDS = {
    "png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "jpg": ["L", "RGB", "CMYK"],
    "webp": ["RGB", "RGBA"],
    "gif": ["L", "P", "RGB"],
    "bmp": ["1", "L", "P", "RGB"],
    "tif": ["1", "L", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB", "YCbCr"],
}

PREPARE = transforms.Compose(
    [transforms.Convert("RGB"), transforms.Resize((32, 32)), transforms.ToTensor()]
)


def trial(rng: random.Random, folder: Path, backend: str) -> None:
    """Try one picture."""
    make = rng.choice([damaged, damaged, damaged, sized, foreign, orientation])
    path = make(rng, folder)
    image, refused = attempt(lambda: read_image(path), path.name)
    check(refused is None or make is not orientation, f"a sound picture: {refused}")
    if image is not None:
        values = PREPARE(image).data
        check(values.dtype == np.float32, f"pixels of {values.dtype}")
        check(values.shape == (3, 32, 32), f"an image of shape {values.shape}")
        check(bool(np.isfinite(values).all()), "pixels that are no numbers")
        check(bool(((values >= 0) & (values <= 1)).all()), "pixels outside 0 to 1")
    if rng.random() < 0.05:
        _among_good_ones(folder, path)


def _among_good_ones(folder: Path, path: Path) -> None:
    """A picture that fails is passed over: the others get their answer."""
    pictures = folder / "pictures"
    pictures.mkdir()
    path.rename(pictures / path.name)
    Image.new("RGB", (9, 9), "white").save(pictures / "good.png")
    weights, table = finished_run(folder), folder / "out.csv"
    status = command(["predict", str(pictures), "--weights", str(weights), "--csv", str(table)])
    check(status in (0, 1) and "good.png" in table.read_text(), "the good picture has no answer")


def _image(rng: random.Random, mode: str) -> Image.Image:
    size = rng.choice([(1, 1), (9, 5), (16, 16), (1, 300)])
    shape = size[::-1]
    if mode == "I;16":
        return Image.fromarray(np.full(shape, rng.randrange(65536), np.uint16))
    if mode == "F":
        return Image.fromarray(np.full(shape, rng.choice([0.5, 255.0, -3.0, np.nan, np.inf]), "f4"))
    image = Image.fromarray(np.full((*shape, 3), rng.randrange(256), np.uint8))
    return image.convert("L").convert("I") if mode == "I" else _convert(image, mode)


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if mode != "LAB":
        return image.convert(mode)
    from PIL import ImageCms

    profiles = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
    return ImageCms.profileToProfile(image, *profiles, outputMode="LAB")  # type: ignore[return-value]


def damaged(rng: random.Random, folder: Path) -> Path:
    """A picture with wrong bytes, or none wrong."""
    suffix = rng.choice(list(KINDS))
    path = folder / f"picture.{suffix}"
    _image(rng, rng.choice(KINDS[suffix])).save(path)
    if rng.random() < 0.8:
        path.write_bytes(spoil(path.read_bytes(), rng))
    return path


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def sized(rng: random.Random, folder: Path) -> Path:
    """A small file that says it is a large picture."""
    sides = [1, 20, 13_000, 65_535, 80_000_000, 2**31 - 1, 0]
    header = struct.pack(
        ">IIBBBBB", rng.choice(sides), rng.choice(sides), rng.choice([1, 8, 16]),
        rng.choice([0, 2, 3, 4, 6]), 0, 0, 0,
    )  # fmt: skip
    data = zlib.compress(bytes(rng.choice([10, 10**6, 10**8])))
    path = folder / "large.png"
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def foreign(rng: random.Random, folder: Path) -> Path:
    """A file of another kind under a picture's name."""
    path = folder / f"picture.{rng.choice(list(KINDS))}"
    path.write_bytes(
        rng.choice([
            b"", b"\0", b"GIF89a", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"<svg/>", b"%PDF-1.4\n",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\n", b"\x7fELF" + bytes(90),
            b"P6 999999 999999 255\n", b"#!/bin/sh\n", bytes(1000), bytes(range(256)) * 40,
        ])
    )  # fmt: skip
    return path


def orientation(rng: random.Random, folder: Path) -> Path:
    """A sound picture with odd EXIF data: it is read all the same."""
    path = folder / f"picture.{rng.choice(['jpg', 'png', 'webp'])}"
    exif = Image.Exif()
    exif[0x0112] = rng.choice([0, 1, 6, 8, 9, 255])
    data = exif.tobytes()
    if rng.random() < 0.6:
        data = data[:6] + spoil(data[6:], rng)
    Image.new("RGB", (9, 5), "white").save(path, exif=data)
    return path
