"""A model over many pictures, divided among processes: features or classes in parts of a table."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from lucid import nn
from lucid._check import is_whole, short
from lucid._files import FORMATS, Parts
from lucid.data import Source, open_source
from lucid.data._readable import READERS
from lucid.distributed._picture_model import Outcome, PictureModel, add_parts, outcomes
from lucid.distributed._ray import ray_outcomes
from lucid.distributed._tables import Classes, Features, class_names
from lucid.kernels._processors import processors
from lucid.models import load_model

PART_SIZE = 4096

Path = str | os.PathLike[str]


def map_images(
    source: Source | Path | Sequence[Path],
    model: nn.Module | Path,
    *,
    output: Path,
    what: str = "embed",
    top: int = 5,
    batch_size: int = 16,
    workers: int | None = None,
    part_size: int = PART_SIZE,
    format: str = "parquet",
    shard: tuple[int, int] = (0, 1),
    ray_address: str | None = None,
    after_each: Callable[[Outcome], Any] | None = None,
) -> Parts:
    """Compute features or classes of many pictures, and write them in parts.

    The result is that of ``lucid embed`` and ``lucid predict`` in a folder; Ray (extra ``ray``)
    divides the work. A task reads the source, actors hold the compiled model, and this process
    writes the parts, each whole or not at all. Ray holds the reader back, and has what a dead actor
    was at done again. Parts that are there are passed over. So each picture is in the result once,
    whatever was killed on the way.

    Args:
        source: what :func:`lucid.data.open_source` takes, or a source. On a cluster, all machines
            have to see it by the same name.
        model: a model, or the weights of one as for :func:`lucid.models.load_model`.
        output: the folder; it is made if it is missing.
        what: ``"embed"`` for the pooled features, or ``"predict"`` for the likeliest classes.
        top: how many classes.
        batch_size: pictures in a batch.
        workers: actors, with one thread each, by default one for each processor. 0 does without
            Ray, in this process.
        part_size: pictures in a part.
        format: of the files, ``"parquet"`` or ``"csv"``.
        shard: which share of the pictures, counted from 0, and of how many: for several processes
            that share the output.
        ray_address: of a Ray cluster, such as ``"auto"`` or ``"ray://head:10001"``. By default Ray
            is started on this machine, and ended again. A Ray that runs in this process already is
            used as it is.
        after_each: called with what became of each picture, in order.

    Returns:
        The parts: ``finished`` are their numbers, ``errors`` is how many pictures could not be
        read, and ``error_file`` lists them.

    Raises:
        ValueError: if an argument is out of range, a place of the source is empty, the weights do
            not fit, or the output holds parts of something else.
        FileNotFoundError: if there is no picture, or no weights are there.
        HeldElsewhereError: if another process writes this share.
        ImportError: if Ray, or pyarrow for Parquet, is not installed.
        RuntimeError: if Ray cannot be reached, or fails.

    Example:
        >>> from lucid import distributed
        >>> from PIL import Image
        >>> Image.new("RGB", (40, 30), "red").save("red.png")
        >>> model = models.mobilenetv4_conv_small_035(num_classes=10)
        >>> options = {"batch_size": 1, "format": "csv", "workers": 0}
        >>> parts = distributed.map_images("red.png", model, output="features", **options)
        >>> parts.finished, parts.errors
        ({0}, 0)
    """
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("part_size", part_size, 1),
        ("top", top, 1),
        ("workers", 0 if workers is None else workers, 0),
    ):
        if not is_whole(value) or value < least:
            raise ValueError(f"map_images: expected {name} of {least} or more, got {short(value)}")
    if what not in ("embed", "predict"):
        raise ValueError(f'map_images: expected what="embed" or "predict", got {short(what)}')
    if format not in FORMATS:
        raise ValueError(f"map_images: expected format {' or '.join(FORMATS)}, got {short(format)}")
    if not isinstance(source, Source):
        source = open_source(source)
    if source.missing:
        raise ValueError("; ".join(source.missing[:5]))
    if not isinstance(model, nn.Module):
        model = load_model(model)
    if what == "embed" and not hasattr(model, "forward_features"):
        raise ValueError(
            f"map_images: a {type(model).__name__} has no forward_features to embed by"
        )
    part = source.part(*shard)
    names = (getattr(model, "pretrained_cfg", None) or {}).get("classes")
    table = Features() if what == "embed" else Classes(top, partial(_names, names), names)
    pictures = PictureModel(model, table, batch_size)
    settings = {"source": source.fingerprint(), "part_size": part_size, **pictures.settings()}
    parts = Parts(output, settings, format, shard)
    with parts.held():
        ray = None if workers == 0 else ray_address or ""
        for outcome in fill(parts, part, pictures, part_size, workers or None, ray):
            if after_each is not None:
                after_each(outcome)
    return parts


def fill(
    parts: Parts,
    source: Source,
    pictures: PictureModel,
    size: int,
    workers: int | None = None,
    ray: str | None = None,
) -> Iterator[Outcome]:
    """Write the parts that are not there yet, and yield what becomes of each of their pictures.

    The parts that are there are passed over without reading their pictures.

    Args:
        parts: the folder, whose share is held.
        source: the pictures of this share.
        pictures: computes the rows.
        size: pictures in a part.
        workers: threads that decode ahead in this process; with Ray, actors. Of 0 this process
            does all. By default it is one for each processor, but not so many that read.
        ray: the address of a Ray cluster; "" starts Ray on this machine, None does without.
    """
    missing = partial(_is_missing, frozenset(parts.finished), size)
    if ray is None or workers == 0:
        threads = READERS if workers is None else workers
        found = outcomes(pictures, source.numbered(missing), threads)
    else:
        found = ray_outcomes(pictures, source, missing, workers or len(processors()), ray)
    with contextlib.closing(found):
        yield from add_parts(pictures, found, parts, size)


def _is_missing(finished: frozenset[int], size: int, number: int) -> bool:
    return number // size not in finished


def _names(names: list[str] | None, count: int) -> Sequence[str]:
    return class_names(count) if names is None else names
