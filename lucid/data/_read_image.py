"""One picture file, read safely: as an upright image of 8 bits a channel."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from lucid.data._pillow import convert, pillow

Array = np.ndarray

# The formats that are opened, in Pillow's names, and the suffixes that folders are searched for.
# Pillow knows others; some of them start another program (PostScript starts Ghostscript).
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)

# A small file may claim any size. These are above what cameras make (64 million pixels), and
# a picture of this size takes 268 MB.
MAX_PIXELS = 2**26
MAX_SIDE = 2**16

_BUFFER = 2**18  # bytes: most photographs in few system calls

_ORIENTATION = 0x0112  # the EXIF tag


# From the width and height of a picture to those that are enough of it.
Draft = Callable[[int, int], tuple[int, int]]

# A file, or what is in one.
Picture = str | os.PathLike[str] | bytes


def read_image(path: Picture) -> Any:
    """Read a picture as an upright RGB Pillow image; what is transparent becomes white.

    Of several frames or pages it is the first. EXIF data turn the picture if they can be read.
    More than 8 bits a channel are scaled to 8: see :class:`lucid.data.transforms.Convert`. The
    size is checked before any pixel is decoded: at most 2^26 pixels and 2^16 on a side.

    Args:
        path: a JPEG, PNG, WebP, BMP, GIF, TIFF or PPM file, whatever its name, or the bytes of
            one. Other formats are not opened.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as an image, is too large, or if memory does not suffice
            for it; the message names it.
        ImportError: if Pillow is not installed.
    """
    return _read(path, _name_of(path), None)


def _name_of(picture: Picture) -> str:
    return "the picture" if isinstance(picture, bytes) else os.fspath(picture)


def _read(picture: Picture, name: str, draft: Draft | None) -> Any:
    """Read a picture; a JPEG at a half, a quarter or an eighth of its size if that is enough."""
    image_module = pillow()
    if not isinstance(picture, bytes) and not os.path.isfile(picture):
        raise FileNotFoundError(f"there is no file {name}")
    try:
        try:
            with _open(picture) as file:
                return _decode(file, draft)
        except (ValueError, SyntaxError, OSError):
            # A PNG's pixels may be sound although what it says besides them is damaged.
            if (pixels_alone := _png_without_extras(picture)) is None:
                raise
            return _decode(pixels_alone)
    except image_module.UnidentifiedImageError as error:
        raise ValueError(
            f"{name} cannot be read as an image: it is none of {', '.join(FORMATS)}, or damaged "
            "in its first part"
        ) from error
    except Exception as error:  # what damage leads to depends on the format
        reason = "it takes too much memory" if isinstance(error, MemoryError) else str(error)
        raise ValueError(
            f"{name} cannot be read as an image: {reason or type(error).__name__}"
        ) from error


def _open(picture: Picture) -> IO[bytes]:
    return io.BytesIO(picture) if isinstance(picture, bytes) else open(picture, "rb", _BUFFER)


def _decode(file: IO[bytes], draft: Draft | None = None) -> Any:
    with pillow().open(file, formats=tuple(FORMATS)) as image:
        _check_size(*image.size)
        if draft is not None:
            image.draft(None, draft(*image.size))
        image.load()
        return convert(_upright(image), "RGB")


def _png_without_extras(picture: Picture) -> IO[bytes] | None:
    """Return a PNG file with its pixels' chunks alone: the critical ones, and transparency.

    None if it is no PNG file, or has no other chunks. Critical ones have a capital first letter
    (PNG specification, 5.4).
    """
    with _open(picture) as file:
        kept = file.read(8)
        if kept != b"\x89PNG\r\n\x1a\n":
            return None
        dropped = False
        while len(head := file.read(8)) == 8:
            chunk = head + file.read(int.from_bytes(head[:4], "big") + 4)
            if head[4:5].isupper() or head[4:] == b"tRNS":
                kept += chunk
            else:
                dropped = True
    return io.BytesIO(kept) if dropped else None


def load_picture(picture: Picture, transform: Callable[[Any], Any], name: str | None = None) -> Any:
    """Return a picture after a transform; whatever fails is an error that names it.

    A transform may have a function ``draft``: from width and height to what is enough for it.
    """
    name = _name_of(picture) if name is None else name
    image = _read(picture, name, getattr(transform, "draft", None))
    try:
        return transform(image)
    except (ValueError, MemoryError) as error:
        reason = str(error) or "it takes too much memory"
        raise ValueError(f"{name} cannot be used: {reason}") from error
    except Exception as error:
        if sys.version_info >= (3, 11):
            error.add_note(f"this happened to {name}")
        raise


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ValueError(
            f"it has {width}×{height} pixels, more than {MAX_PIXELS:,} in all or {MAX_SIDE:,} on "
            "a side; make it smaller"
        )


def _upright(image: Any) -> Any:
    """Return an image turned as its EXIF data say; as it is if they cannot be read."""
    turn = pillow().Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }
    try:
        method = turns.get(image.getexif().get(_ORIENTATION))
    except Exception:  # what damage leads to depends on where it is
        return image
    return image if method is None else image.transpose(method)
