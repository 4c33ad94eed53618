"""Pictures in files: which files are some, and their pixels, upright and of 8 bits."""

from __future__ import annotations

import io
import os
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from lucid.data._pillow import pillow

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

_ORIENTATION = 0x0112  # the EXIF tag
_SAMPLE_FORMAT = 339  # the TIFF tag; 1 are unsigned integers


# -- folders ----------------------------------------------------------------------------------


class Found(NamedTuple):
    """The pictures of a folder, and how many other files there are of each suffix."""

    pictures: list[Path]
    left_out: Counter[str]


def find_pictures(folder: str | os.PathLike[str]) -> Found:
    """Search a folder for pictures, at any depth and in linked folders too.

    What is hidden (its name begins with a dot) does not count. A folder that can be reached in
    several ways is searched once, so links may form circles.

    Args:
        folder: where to search.

    Returns:
        The pictures by their suffixes, sorted; and the number of the other files by suffix, of
        those without one under ``"no suffix"``, of folders that cannot be opened under
        ``"closed folder"``.
    """
    found = Found([], Counter())
    searched: set[tuple[int, int]] = set()
    waiting = deque([Path(folder)])
    while waiting:
        place = waiting.popleft()
        try:
            status = place.stat()
            entries = list(os.scandir(place))
        except OSError:
            found.left_out["closed folder"] += 1
            continue
        if (status.st_dev, status.st_ino) in searched:
            continue
        searched.add((status.st_dev, status.st_ino))
        for entry in entries:
            path = place / entry.name
            if entry.name.startswith("."):
                continue
            linked = entry.is_symlink()
            if path.is_dir() if linked else entry.is_dir():
                # Linked folders come last: what is in them may have a name without the link.
                (waiting.append if linked else waiting.appendleft)(path)
            elif path.suffix.lower() in SUFFIXES and (linked or entry.is_file()):
                found.pictures.append(path)
            else:
                found.left_out[path.suffix.lower() or "no suffix"] += 1
    found.pictures.sort()
    return found


def describe_left_out(left_out: Counter[str]) -> str:
    """Return ``3 files (2 .heic, 1 .txt)``."""
    kinds = left_out.most_common()
    named = [f"{count} {suffix}" for suffix, count in kinds[:5]]
    rest = sum(count for _, count in kinds[5:])
    total = left_out.total()
    listing = ", ".join([*named, *([f"{rest} of other kinds"] if rest else [])])
    return f"{total} file{'s' * (total != 1)} ({listing})"


# -- files ------------------------------------------------------------------------------------


def read_image(path: str | os.PathLike[str]) -> Any:
    """Read a picture as an upright RGB Pillow image; what is transparent becomes white.

    Of several frames or pages it is the first. EXIF data turn the picture if they can be read.
    More than 8 bits a channel are scaled to 8: see :class:`lucid.data.transforms.Convert`. The
    size is checked before any pixel is decoded: at most 2^26 pixels and 2^16 on a side.

    Args:
        path: a JPEG, PNG, WebP, BMP, GIF, TIFF or PPM file, whatever its name. Other formats are
            not opened.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as an image, is too large, or if memory does not suffice
            for it; the message names it.
        ImportError: if Pillow is not installed.
    """
    image_module = pillow()
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        try:
            return _decode(path)
        except (ValueError, SyntaxError, OSError):
            # Damage to what a PNG says besides its pixels is none to them.
            if (pixels_alone := _png_without_extras(Path(path))) is None:
                raise
            return _decode(pixels_alone)
    except image_module.UnidentifiedImageError as error:
        raise ValueError(
            f"{path} cannot be read as an image: it is none of {', '.join(FORMATS)}, or damaged "
            "in its first part"
        ) from error
    except Exception as error:  # what damage leads to depends on the format
        reason = "it takes too much memory" if isinstance(error, MemoryError) else str(error)
        raise ValueError(
            f"{path} cannot be read as an image: {reason or type(error).__name__}"
        ) from error


def _decode(file: str | os.PathLike[str] | IO[bytes]) -> Any:
    with pillow().open(file, formats=tuple(FORMATS)) as image:
        _check_size(*image.size)
        image.load()
        return convert(_upright(image), "RGB")


def _png_without_extras(path: Path) -> IO[bytes] | None:
    """Return a PNG file with its pixels' chunks alone: the critical ones, and transparency.

    None if it is no PNG file, or has no other chunks. Critical ones have a capital first letter
    (PNG specification, 5.4).
    """
    with path.open("rb") as file:
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


def load_picture(path: str | os.PathLike[str], transform: Callable[[Any], Any]) -> Any:
    """Return a picture after a transform.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or the transform cannot be done; the message names it.
    """
    image = read_image(path)
    try:
        return transform(image)
    except (ValueError, MemoryError) as error:
        reason = str(error) or "it takes too much memory"
        raise ValueError(f"{path} cannot be used: {reason}") from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ValueError(
            f"it has {width}×{height} pixels, more than {MAX_PIXELS:,} in all or {MAX_SIDE:,} on "
            "a side; make it smaller"
        )


def _upright(image: Any) -> Any:
    """Return an image turned as its EXIF data say, if they can be read: its pixels are sound."""
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


# -- pixels -----------------------------------------------------------------------------------


def convert(image: Any, mode: str) -> Any:
    """Return a Pillow image in another mode; see :class:`lucid.data.transforms.Convert`."""
    if mode.startswith(("I", "F")):
        return image.convert(mode)
    if image.mode.startswith(("I", "F")):
        image = pillow().fromarray(np.rint(255 * pixels(image)).astype(np.uint8))
    elif image.mode == "LAB":
        image = _lab_to_rgb(image)
    elif image.mode.endswith("a"):  # multiplied by its transparency
        image = image.convert(image.mode.replace("a", "A"))
    is_transparent = "transparency" in image.info or image.getbands()[-1] == "A"
    if is_transparent and not mode.endswith(("A", "a")) and mode != "P":
        image = image.convert("RGBA")
        white = pillow().new("RGBA", image.size, "white")
        image = pillow().alpha_composite(white, image)
    return image if image.mode == mode else image.convert(mode)


def _lab_to_rgb(image: Any) -> Any:
    from PIL import ImageCms

    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, *profiles, outputMode="RGB")


def pixels(image: Any) -> Array:
    """Return the pixels of a Pillow image without a palette as float32 from 0 to 1.

    Of a mode without a highest value (32-bit integers, floating point) it is the least of 1 (for
    floating point), 255 and 65,535 that no pixel exceeds. Where one does, or one is negative,
    black is the lowest pixel and white the highest.
    """
    array = np.asarray(image)
    if array.dtype.kind == "b":
        return array.astype(np.float32)
    if array.dtype.kind == "u":
        return scaled(array)
    tags = getattr(image, "tag_v2", {})
    if array.dtype == np.int32 and _SAMPLE_FORMAT in tags and tags[_SAMPLE_FORMAT] in (1, (1,)):
        array = array.view(np.uint32)  # for which Pillow has no mode
    finite = array if array.dtype.kind in "iu" else array[np.isfinite(array)]
    if not finite.size:
        raise ValueError("none of its pixels is a finite number")
    low, high = float(finite.min()), float(finite.max())
    whites = (255, 65535) if array.dtype.kind in "iu" else (1, 255, 65535)
    white = next((white for white in whites if low >= 0 and high <= white), None)
    if white is None:
        result = (array.astype(np.float64) - low) / ((high - low) or 1)
    else:
        result = array / np.float64(white)
    return np.clip(np.nan_to_num(result, nan=0.0), 0, 1).astype(np.float32)


def scaled(array: Array) -> Array:
    """Return unsigned integers of 8 or 16 bits as float32 from 0 to 1, other numbers as they are.

    The result is an array of its own, in C order.
    """
    result = array.astype(np.float32, order="C")
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        result /= np.float32(np.iinfo(array.dtype).max)
    return result
