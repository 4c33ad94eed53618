"""Real images: the handwritten digits of scikit-learn, and folders of pictures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lucid._extras import extra
from lucid.data._dataset import TensorDataset, check_index
from lucid.data._folders import describe_left_out, find_pictures, first_of, subfolders
from lucid.data._lists import read_list
from lucid.data._pillow import check_interpolation, pillow
from lucid.data._read_image import SUFFIXES, load_picture
from lucid.data._read_image import read_image as read_image
from lucid.data._split import stratified
from lucid.data.transforms import RandomAffine, Resize

Array = np.ndarray

# Of all pixels of the 1,797 images, scaled to 0 … 1.
DIGITS_MEAN = 0.305
DIGITS_STD = 0.376


class ImageArrays(TensorDataset):
    """Images in memory, with their labels.

    Attributes:
        images: ``(N, C, H, W)`` float32, channels-last in memory, normalised.
        labels: ``(N,)`` int64.
        classes: the names of the labels.
        mean: what was subtracted from the pixels, per channel.
        std: what they were divided by then.
    """

    def __init__(
        self,
        images: Array,
        labels: Array,
        classes: list[str],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__(images, labels)
        self.images, self.labels = self.arrays
        self.classes = classes
        self.mean = mean
        self.std = std

    def augmentation(self) -> RandomAffine:
        """Return a transform for batches of these images: small turns, shifts and changes of size.

        Give it to the loader: ``DataLoader(train, 64, shuffle=True,
        transform=train.augmentation())``. What comes in from outside is black.
        """
        black = -self.mean[0] / self.std[0]
        return RandomAffine(15, translate=(0.1, 0.1), scale=(0.85, 1.15), fill=black)


class Split(NamedTuple):
    """What to learn from, and what to be judged by.

    Args:
        train: to learn from.
        test: held out.
    """

    train: ImageArrays
    test: ImageArrays


def digits(
    size: int = 32,
    channels: int = 3,
    *,
    test_size: float = 0.2,
    interpolation: str = "bicubic",
) -> Split:
    """Load the 1,797 real handwritten digits that scikit-learn ships.

    They are the test part of "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak,
    1998, UCI Machine Learning Repository, CC BY 4.0): 8×8 pixels of 17 shades, by 13 writers.
    Here they are enlarged, scaled to 0 … 1 and normalised by the mean 0.305 and the standard
    deviation 0.376 of all pixels. Nothing is downloaded.

    The split is stratified (of each class the same part is held out) and always the same.

    Args:
        size: the new height and width.
        channels: 1, or 3 equal ones.
        test_size: the part that is held out: 0.2 gives 1,438 images for training and 359 for the
            test.
        interpolation: how to enlarge, ``"bicubic"``, ``"bilinear"`` or ``"nearest"``.

    Returns:
        The datasets ``train`` and ``test``, as a named tuple.

    Raises:
        ValueError: if an argument is out of range.
        ImportError: if scikit-learn or Pillow is not installed.

    Example:
        >>> train, test = data.datasets.digits(size=16, channels=1)
        >>> len(train), len(test)
        (1438, 359)
        >>> image, label = train[0]
        >>> image.shape
        (1, 16, 16)
    """
    if channels not in (1, 3):
        raise ValueError(f"digits: channels must be 1 or 3, got {channels}")
    if not 0 < test_size < 1:
        raise ValueError(f"digits: test_size must be between 0 and 1, got {test_size}")
    resize = Resize((size, size), check_interpolation(interpolation, "digits"))
    bunch = extra("sklearn.datasets", "data", "digits needs scikit-learn").load_digits()
    pixels = bunch.images.astype(np.float32)[:, None] / 16
    labels = bunch.target.astype(np.int64)

    images = np.clip(resize(pixels), 0, 1)  # bicubic curves overshoot
    images -= DIGITS_MEAN
    images /= DIGITS_STD
    nhwc = np.repeat(images.transpose(0, 2, 3, 1), channels, axis=3)
    images = nhwc.transpose(0, 3, 1, 2)

    classes = [str(digit) for digit in range(10)]
    mean, std = (DIGITS_MEAN,) * channels, (DIGITS_STD,) * channels
    return Split(
        *(
            ImageArrays(nhwc[part].transpose(0, 3, 1, 2), labels[part], classes, mean, std)
            for part in stratified(labels, test_size)
        )
    )


class _Pictures:
    """What ImageFolder and ImageList share: paths and labels, read when they are asked for."""

    root: Path
    transform: Callable[[Any], Any] | None
    classes: list[str]
    class_to_idx: dict[str, int]
    samples: list[tuple[Path, int]]
    labels: Array
    left_out: Counter[str]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return one image, transformed, and its label.

        Raises:
            FileNotFoundError: if the file is not there any more; the message names it.
            ValueError: if the file cannot be read as an image, or the transform raises it; the
                message names it.
        """
        path, label = self.samples[check_index(index, len(self), type(self).__name__)]
        image = read_image(path) if self.transform is None else load_picture(path, self.transform)
        return image, label


class ImageFolder(_Pictures):
    """Pictures in one folder per class: ``root/cat/1.jpg``, ``root/dog/deep/er/2.png``.

    JPEG, PNG, WebP, BMP, GIF, TIFF and PPM files are read when they are asked for, by
    :func:`read_image`: turned upright as their EXIF data say, and converted to RGB. Linked
    folders are searched too. Hidden files and folders are left out.

    Args:
        root: the folder of the classes.
        transform: what is done to each image; without one, a sample is a Pillow image, and a
            loader needs a ``collate_fn``. Usually ``Compose([Resize(256), CenterCrop(224),
            ToTensor(), Normalize(...)])``.
        classes: the names of the classes, in the order of the labels, such as those of the
            training for a folder to test with; not each needs a folder then. The names of the
            folders, sorted, if left out.

    Attributes:
        classes: the names of the classes.
        class_to_idx: from those names to labels.
        samples: path and label of each image, sorted.
        labels: those labels, ``(N,)`` int64.
        left_out: how many files are no pictures, by suffix.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no folders, one without pictures, or one that is not among
            ``classes``.
        ImportError: if Pillow is not installed.

    Example:
        >>> import os
        >>> from PIL import Image
        >>> for name in ("cat", "dog"):
        ...     os.makedirs(f"pets/{name}")
        ...     Image.new("RGB", (8, 6)).save(f"pets/{name}/1.png")
        >>> dataset = data.datasets.ImageFolder("pets", data.transforms.ToTensor())
        >>> dataset.classes
        ['cat', 'dog']
        >>> image, label = dataset[1]
        >>> image.shape, int(label)
        ((3, 6, 8), 1)
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[Any], Any] | None = None,
        *,
        classes: Sequence[str] | None = None,
    ) -> None:
        pillow()
        self.root = Path(root)
        self.transform = transform
        if not self.root.is_dir():
            raise FileNotFoundError(f"ImageFolder: there is no folder {self.root}")
        found = [folder.name for folder in subfolders(self.root)]
        if not found:
            raise ValueError(f"ImageFolder: {self.root} holds no folders; expected one per class")
        self.classes = found if classes is None else list(classes)
        unknown = [name for name in found if name not in self.classes]
        if unknown:
            raise ValueError(
                f"ImageFolder: {self.root} has folders of other classes: {first_of(unknown)}; "
                f"expected {first_of(self.classes)}"
            )
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        self.samples: list[tuple[Path, int]] = []
        # Files beside the folders are of no class.
        self.left_out = Counter(
            entry.suffix.lower() or "no suffix"
            for entry in self.root.iterdir()
            if not entry.name.startswith(".") and not entry.is_dir()
        )
        for name in found:
            pictures, left_out = find_pictures(self.root / name)
            if not pictures:
                rest = f" but {describe_left_out(left_out)}" if left_out else ""
                raise ValueError(
                    f"ImageFolder: {self.root / name} holds no pictures{rest}; expected files "
                    f"ending in {', '.join(SUFFIXES)}"
                )
            self.left_out += left_out
            self.samples += [(path, self.class_to_idx[name]) for path in pictures]
        self.samples.sort(key=lambda sample: sample[1])
        self.labels = np.array([label for _, label in self.samples], np.int64)


class ImageList(_Pictures):
    r"""Pictures that a file lists, each with its class: ``photos.csv`` or ``photos.json``.

    A CSV file has a first line that names its columns, ``path`` and ``label`` among them; a JSON
    file is a list of objects with these keys. Paths count from the folder of the file. Pictures
    are read as :class:`ImageFolder` reads them.

    Args:
        file: the list, UTF-8.
        transform: what is done to each image; as of an image folder.
        classes: the names of the classes, in the order of the labels, such as those of the
            training. What the file names, sorted, if left out; as numbers if all are whole ones.
        split: take the entries alone whose column ``split`` says this.

    Attributes:
        classes: the names of the classes.
        class_to_idx: from those names to labels.
        samples: path and label of each image, in the order of the file.
        labels: those labels, ``(N,)`` int64.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such list, is empty, or has a class that is not among ``classes``;
            the message names the entry.
        ImportError: if Pillow is not installed.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("birds.csv").write_text("path,label\na.jpg,owl\nb.jpg,kite\nc.jpg,owl\n")
        >>> dataset = data.datasets.ImageList("birds.csv")
        >>> dataset.classes, dataset.labels
        (['kite', 'owl'], array([1, 0, 1]))
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        transform: Callable[[Any], Any] | None = None,
        *,
        classes: Sequence[str] | None = None,
        split: str | None = None,
    ) -> None:
        pillow()
        self.root = Path(file)
        self.transform = transform
        entries = read_list(self.root)
        if split is not None:
            entries = [entry for entry in entries if entry.split == split]
        if not entries:
            of_split = "" if split is None else f" whose split is {split!r}"
            raise ValueError(f"ImageList: {self.root} lists no pictures{of_split}")
        found = {entry.label for entry in entries}
        numbers = all(name.isdecimal() for name in found)
        self.classes = sorted(found, key=int if numbers else str) if classes is None else [*classes]
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        for entry in entries:
            if entry.label not in self.class_to_idx:
                raise ValueError(
                    f"ImageList: {self.root}, {entry.place}: {entry.label!r} is none of the "
                    f"classes {first_of(self.classes)}"
                )
        folder = self.root.parent
        self.samples = [(folder / entry.path, self.class_to_idx[entry.label]) for entry in entries]
        self.labels = np.array([label for _, label in self.samples], np.int64)
        self.left_out = Counter()
