"""A model over many pictures: they are decoded ahead in threads, and run in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from lucid import kernels, nn
from lucid._check import one_line
from lucid._compile import CompiledModel, compile
from lucid._files import Parts
from lucid.autograd import no_grad
from lucid.autograd._tensor import wrap
from lucid.data import Item
from lucid.data._read_image import load_picture
from lucid.data._readable import READERS, each
from lucid.data.transforms._presets import evaluation, expected
from lucid.distributed._tables import Table

Array = np.ndarray

_MOST_WAITING = 1000  # pictures, all but some of them broken, before a batch runs that is not full


class PictureModel:
    """A model that computes a table's row of each picture, in batches of one size.

    Args:
        model: one whose pictures :func:`lucid.data.transforms.for_model` knows how to prepare.
        table: what is computed.
        batch_size: pictures in a batch.
        compiled: run on a compiled plan, which is faster but takes as long to make as ten to
            thirty batches save.

    Raises:
        ValueError: if the model cannot compute such a table, or its images are of another kind.
    """

    def __init__(
        self, model: nn.Module, table: Table, batch_size: int = 16, *, compiled: bool = True
    ) -> None:
        images = expected(model)
        self.table = table
        self.batch_size = batch_size
        self.transform = evaluation(**images)
        self._model = model
        self._compiled = compiled
        self._plain = table.network(model).eval()
        # Channels last, and filled again for each batch.
        shape = (batch_size, images["size"], images["size"], images["channels"])
        self._images = np.zeros(shape, np.float32).transpose(0, 3, 1, 2)
        self._plan: CompiledModel | None = None

    def load(self, item: Item) -> Array:
        """Return a picture as the model takes it, ``(C, H, W)``; this may run in any thread.

        Raises:
            ValueError, OSError: naming it, if it cannot be read.
        """
        if isinstance(item.content, Exception):
            raise item.content
        name = item.name if isinstance(item.content, bytes) else None
        image: Array = load_picture(item.content, self.transform, name).data
        return image

    def __call__(self, images: Sequence[Array]) -> Array:
        """Return a row for each image, of which there may be as many as a batch has, or fewer."""
        for place, image in enumerate(images):
            self._images[place] = image
        if self._compiled:
            if self._plan is None:
                kernels.warm_up()  # the same rows, whatever was compiled before
                self._plan = compile(self._plain, self._images.shape, keep_module=False)
            # The whole batch always: a plan for another number would take long to make.
            return self._plan(self._images)[: len(images)]
        # A few pictures are not worth waiting for.
        with no_grad(), nullcontext() if kernels.is_ready() else kernels.standing_in():
            rows: Array = self._plain(wrap(self._images[: len(images)])).data
        kernels.warm_up(wait=False)
        return rows

    def no_rows(self) -> Array:
        """Return the rows of no images, ``(0, D)``."""
        return self([self._images[0]])[:0]

    def settings(self) -> dict[str, Any]:
        """Return what the rows follow from beside the pictures, as JSON can say it."""
        digest = hashlib.blake2b(repr(self._model).encode(), digest_size=16)
        for name, value in self._model.state_dict().items():
            digest.update(f"{name} {value.dtype} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value.data).tobytes())
        return {
            **self.table.settings(),
            "model": getattr(self._model, "name", None) or type(self._model).__name__,
            "weights": digest.hexdigest(),
            "transform": repr(self.transform),
        }


class Outcome(NamedTuple):
    """What became of a picture.

    Args:
        number: its number.
        item: the picture.
        row: what the model computed, ``(D,)``; the error if it could not be read.
    """

    number: int
    item: Item
    row: Array | Exception


def outcomes(
    model: PictureModel, numbered: Iterable[tuple[int, Item]], workers: int = READERS
) -> Generator[Outcome, None, None]:
    """Yield what becomes of each picture, in their order.

    Two batches are decoded ahead of the one that the model computes, and no more are in memory.

    Args:
        model: computes the rows.
        numbered: pictures with their numbers, as :meth:`Source.numbered` yields them.
        workers: threads that decode; 0 decodes in this one.
    """
    waiting: list[tuple[int, Item, Array | Exception]] = []
    good = 0
    ahead = 2 * model.batch_size
    for (number, item), image in each(lambda pair: model.load(pair[1]), numbered, workers, ahead):
        waiting.append((number, item, image))
        good += not isinstance(image, Exception)
        if good in (0, model.batch_size) or len(waiting) == _MOST_WAITING:
            yield from _run(model, waiting)
            waiting, good = [], 0
    yield from _run(model, waiting)


def _run(
    model: PictureModel, waiting: Sequence[tuple[int, Item, Array | Exception]]
) -> Iterator[Outcome]:
    images = [image for _, _, image in waiting if not isinstance(image, Exception)]
    rows = iter(model(images)) if images else iter(())
    for number, item, image in waiting:
        yield Outcome(number, item, image if isinstance(image, Exception) else next(rows))


def add_parts(
    model: PictureModel, found: Iterable[Outcome], parts: Parts, size: int
) -> Iterator[Outcome]:
    """Write parts, and yield what became of each of their pictures.

    Args:
        model: computed the rows.
        found: the pictures of parts that are not there yet, in order. Picture ``n`` is in part
            ``n // size``.
        parts: the folder, whose share is held.
        size: pictures in a part.
    """
    part: list[Outcome] = []
    for outcome in found:
        if part and part[0].number // size != outcome.number // size:
            _add_part(model, parts, size, part)
            part = []
        part.append(outcome._replace(item=outcome.item._replace(content=b"")))
        yield outcome
    if part:
        _add_part(model, parts, size, part)


def _add_part(model: PictureModel, parts: Parts, size: int, found: Sequence[Outcome]) -> None:
    names = [outcome.item.name for outcome in found if not isinstance(outcome.row, Exception)]
    rows = [outcome.row for outcome in found if not isinstance(outcome.row, Exception)]
    errors = [
        (outcome.item.name, one_line(outcome.row))
        for outcome in found
        if isinstance(outcome.row, Exception)
    ]
    table = np.stack(rows) if rows else model.no_rows()
    parts.write(found[0].number // size, model.table.columns(names, table), errors)
