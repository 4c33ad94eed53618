"""A training on several ranks: what they divide, what they agree upon, what rank 0 does alone.

On one rank all of it does nothing: the functions return what they are given, or make of it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from lucid import _ranks
from lucid._check import one_line
from lucid.data import Dataset, Subset
from lucid.data._dataset import paths_of
from lucid.data._readable import Tell, find_unreadable, without
from lucid.distributed import DistributedOptimizer
from lucid.nn import Module
from lucid.nn._parameter import overwrite
from lucid.optim import Optimizer
from lucid.training._batches_on_ranks import add_up
from lucid.training._evaluation import Evaluation
from lucid.training._loop import Score
from lucid.training._run_files import RunFiles
from lucid.training._run_state import RunState

Made = TypeVar("Made")


def is_first() -> bool:
    """Return whether this is the rank that prints, and writes files."""
    return _ranks.rank() == 0


def part() -> tuple[int, int] | None:
    """Return the part of each batch that this rank loads, as a loader takes it."""
    return (_ranks.rank(), _ranks.size()) if _ranks.is_initialized() else None


# -- what they agree upon ---------------------------------------------------------------------


def from_first(make: Callable[[], Made]) -> Made:
    """Return on all ranks what rank 0 makes; what it raises is raised on all.

    The error has an attribute ``on_all_ranks`` then.
    """
    if not _ranks.is_initialized():
        return make()
    made: Any = None
    error: Exception | None = None
    if is_first():
        try:
            made = make()
        except Exception as raised:
            error = _pickled(raised)
    sent, error = _ranks.broadcast((made, error))
    if error is not None:
        error.on_all_ranks = True  # type: ignore[attr-defined]
        raise error
    return made if is_first() else sent


def _pickled(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(one_line(error))
    return error


def any_of(flag: bool) -> bool:
    """Return whether one of the ranks says so."""
    return any(_ranks.all_gather(flag))


def least_of(number: int) -> int:
    """Return the smallest number that a rank has."""
    return min(_ranks.all_gather(number))


def told_by_first(tell: Tell) -> Tell:
    """Return what tells a line that all ranks know of."""
    return tell if is_first() else lambda line: None


def score_of_all(score: Score) -> Score:
    """Return the score on all images, of which each rank had a part."""
    if not _ranks.is_initialized():
        return score
    loss, correct, count = add_up(score.loss * score.count, score.correct, score.count)
    return replace(score, loss=loss / count, correct=int(correct), count=int(count))


# -- what they divide -------------------------------------------------------------------------


def readable(
    parts: Sequence[Dataset],
    max_unreadable: float,
    tell: Tell,
    after_each: Callable[[int, int], Any] | None,
) -> list[Dataset]:
    """Return as :func:`lucid.data.readable` the parts that can be read: each rank reads a part."""
    found = find_unreadable(parts, _ranks.rank(), _ranks.size(), after_each=after_each)
    found = {place: text for one in _ranks.all_gather(found) for place, text in one.items()}
    return without(found, parts, max_unreadable, tell=told_by_first(tell), tell_of_one=tell)


def least_part(batch_size: int | None) -> int:
    """Return with how few images of a batch a rank goes on: two, unless its part is smaller.

    Args:
        batch_size: of all ranks together; None if it is not known yet.

    Raises:
        ValueError: if there are not enough for all ranks.
    """
    ranks = _ranks.size()
    if batch_size is None:
        return 2
    if batch_size < ranks:
        raise ValueError(
            f"batch_size: expected an image or more for each of {ranks} ranks, got {batch_size} "
            "for all together"
        )
    return min(2, batch_size // ranks)


def distributed(optimizer: Optimizer, model: Module) -> Optimizer:
    """Return an optimiser whose gradients are those of all ranks, and let all begin alike."""
    return DistributedOptimizer(optimizer, model=model) if _ranks.is_initialized() else optimizer


def average_statistics(*models: Module | None) -> None:
    """Let all ranks have the mean of what their batch norms found, as timm's training does it."""
    for model in models if _ranks.is_initialized() else ():
        for _, buffer in model.named_buffers() if model is not None else ():
            if buffer.dtype.kind == "f":
                overwrite(buffer, _ranks.all_reduce(buffer.data, "mean"))


def measure(
    model: Module, dataset: Dataset, classes: Sequence[str], *, batch_size: int, num_workers: int
) -> Evaluation:
    """Return as :meth:`Evaluation.measure` what a model says of images: each rank asks for some."""
    ranks, n = _ranks.size(), len(dataset)
    settings: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers}
    if ranks == 1 or n < ranks:
        return Evaluation.measure(model, dataset, classes, **settings)
    mine = np.arange(_ranks.rank(), n, ranks)
    own = Evaluation.measure(model, Subset(dataset, mine), classes, **settings)
    found = _ranks.all_gather((own.logits, own.labels, mine[own.indices]))
    logits, labels, indices = (np.concatenate(column) for column in zip(*found))
    order, paths = np.argsort(indices), paths_of(dataset)
    files = [str(paths[index]) for index in indices[order]] if paths else ()
    return Evaluation(logits[order], labels[order], classes, indices[order], files)


# -- files ------------------------------------------------------------------------------------


def _by_first(method: Callable[..., None]) -> Callable[..., None]:
    def call(self: RunFiles, *args: Any) -> None:
        if is_first():
            method(self, *args)

    return call


class SharedFiles(RunFiles):
    """The files of a run that rank 0 writes, and reads for all.

    Args:
        files: those that it holds.
    """

    def __init__(self, files: RunFiles) -> None:
        vars(self).update(vars(files))

    begin = _by_first(RunFiles.begin)
    write = _by_first(RunFiles.write)
    write_state = _by_first(RunFiles.write_state)
    write_description = _by_first(RunFiles.write_description)
    remove_states = _by_first(RunFiles.remove_states)
    forget = _by_first(RunFiles.forget)

    def load_state(self, state: RunState) -> None:
        """Put everything back on all ranks."""

        def load() -> dict[str, Any]:
            RunFiles.load_state(self, state)
            return state.state_dict()

        found = from_first(load)
        if not is_first():
            state.load_state_dict(found)

    def load_weights(self, model: Module, description: Any) -> None:
        """Load the weights on all ranks."""

        def load() -> dict[str, Any]:
            RunFiles.load_weights(self, model, description)
            return model.state_dict()

        found = from_first(load)
        if not is_first():
            model.load_state_dict(found)


def shared(files: RunFiles) -> RunFiles:
    """Return the files of a run as all ranks have them."""
    return SharedFiles(files) if _ranks.is_initialized() else files
