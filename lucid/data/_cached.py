"""Pictures that stay in memory."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from lucid._check import count
from lucid.data._dataset import Dataset, check_index, transform_of, with_transform
from lucid.data._pillow import is_image, pillow
from lucid.data._shared import SharedMemory

_MODES = ("L", "RGB", "RGBA")  # of which pixels and information are all there is


class Cached:
    """Pictures from files that stay in memory once they are decoded, as far as it is allowed.

    What their transform draws is drawn anew each time: it is done after the cache. The processes
    of a loader have one cache together.

    Args:
        dataset: an :class:`ImageFolder` or :class:`ImageList`, or subsets of them.
        max_bytes: how much memory pictures may take, 3 bytes a pixel; what comes later is read
            each time.

    Raises:
        TypeError: if the pictures are not from files, or have no transform.
    """

    def __init__(self, dataset: Dataset, max_bytes: int = 2**32) -> None:
        self.transform = transform_of(dataset)
        if self.transform is None:
            raise TypeError(
                f"Cached: expected pictures from files, with a transform, got "
                f"{type(dataset).__name__}"
            )
        self.dataset = with_transform(dataset, _Decoded(self.transform))
        self.max_bytes = count(max_bytes, "max_bytes", "Cached", 0)
        self._kept = _Kept(len(dataset), self.max_bytes)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return one image, transformed, and its label."""
        index = check_index(index, len(self), "Cached")
        sample = self._kept.get(index)
        if sample is None:
            sample = self.dataset[index]
            self._kept.add(index, *sample)
        image, label = sample
        assert self.transform is not None
        return self.transform(image), label


class _Decoded:
    """In place of a transform: the image as it is decoded for that."""

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.draft = getattr(transform, "draft", None)

    def __call__(self, image: Any) -> Any:
        return image


class _Kept:
    """Decoded pictures with their labels, by their index; a copy of it is empty.

    In memory there are first how many bytes of it are used, and where each picture is, 8 bytes
    each. A picture is the length of its description, that, and its pixels.
    """

    def __init__(self, length: int, max_bytes: int) -> None:
        self._table_size = 8 * (1 + length)
        self._memory = SharedMemory(self._table_size + max_bytes)
        self.__setstate__(self.__dict__)

    def __getstate__(self) -> dict[str, Any]:
        return {"_table_size": self._table_size, "_memory": self._memory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bytes = memoryview(self._memory.memory)
        self._table = self._bytes[: self._table_size].cast("q")

    def get(self, index: int) -> tuple[Any, Any] | None:
        """Return an image and its label; None if they are not kept."""
        if not (start := self._table[1 + index]):
            return None
        described = start + 8
        pixels = described + int.from_bytes(self._bytes[start:described], "little")
        mode, size, info, label = pickle.loads(self._bytes[described:pixels])
        end = pixels + size[0] * size[1] * len(mode)
        image = pillow().frombytes(mode, size, self._bytes[pixels:end])
        image.info = info
        return image, label

    def add(self, index: int, image: Any, label: Any) -> None:
        """Keep an image and its label, if there is room."""
        if not is_image(image) or image.mode not in _MODES:
            return
        description = pickle.dumps((image.mode, image.size, image.info, label))
        record = len(description).to_bytes(8, "little") + description + image.tobytes()
        with self._memory.held():
            start = self._table[0] or self._table_size
            end = start + len(record)
            if end <= self._memory.size and not self._table[1 + index]:
                self._bytes[start:end] = record
                self._table[0], self._table[1 + index] = end, start
