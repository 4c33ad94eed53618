"""A training from its recipe, kept on disk so that nothing that ends it loses what was done."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from lucid import _ranks, nn, optim
from lucid._files import READABLE, SUFFIXES
from lucid._random import manual_seed
from lucid.data import DataLoader, Images, load_images
from lucid.data._dataset import paths_of
from lucid.training import _loop, _on_ranks
from lucid.training._batches_on_ranks import of_whole_batch
from lucid.training._description import Description
from lucid.training._distillation import Taught, check_answers
from lucid.training._diverged import DivergedError
from lucid.training._evaluation import Evaluation
from lucid.training._find_lr import LRCurve, find_lr
from lucid.training._from_recipe import (
    Mixed,
    Start,
    build_average,
    build_fitting,
    build_loss,
    build_mix,
    build_model,
    build_teacher,
    check_input,
    open_weights,
    set_frozen,
)
from lucid.training._loop import Batches, Epoch, LossFunction, Score, finite
from lucid.training._on_ranks import from_first
from lucid.training._pictures import Pictures
from lucid.training._progress import Progress
from lucid.training._recipe import SIZE, Recipe
from lucid.training._run_files import RunFiles
from lucid.training._run_state import RunState


class Run:
    """A training of an image classifier: what ``lucid train`` does, step by step.

    The best weights, chosen on a validation part of the training images, are kept on disk with
    their description and the state to go on from. The test images play no part before the end.
    The run's name is held, so that no other process trains into its files.

    After an interrupt or a kill, ``training.Run.resume("digits")`` in place of :meth:`create`
    goes on from the last state, which is written after each epoch and within one after so many
    minutes (``save_minutes``). It ends with the weights of a run that was never interrupted.

    Args:
        files: what is on disk; :meth:`create` and :meth:`resume` hold it and make the run.
        held: lets go of the files when it is closed.
        recipe: how the model is trained.
        description: of a run that goes on.
        start: the weights that a new run starts from.
        accept_changes: whether a run goes on if its pictures have changed.

    Attributes:
        resumed: whether there was something to go on from.
        images: the images in their parts; after :meth:`prepare` those that can be read. All below
            are there after it too.
        model: the model.
        optimizer: holds its parameters.
        scheduler: takes a step after each of the optimiser's.
        averaged: the moving average of the model, if the recipe asks for one (``ema``): it is what
            is judged and kept.
        teacher: the model that is learned from, if the recipe names one.
        loader: the batches of training images.
        batch_size: how many images a batch has.
        steps: how many steps an epoch has.
        state: what the files of the run are made of.
        evaluation: of the best weights on the test images; after :meth:`finish`.

    Example:
        >>> recipe = training.Recipe(data="digits", epochs=1, size=32, limit=40)
        >>> with training.Run.create("digits", recipe) as run:
        ...     run.prepare()
        ...     for epoch in run.fit():
        ...         print(epoch.number, epoch.train.count)
        ...     print(run.finish())
        1 40
        loss ..., accuracy ... %
        >>> training.Run.resume("digits")
        Traceback (most recent call last):
        lucid.training._run_files.FinishedError: digits: the run is finished; ...
    """

    images: Images
    model: nn.Module
    optimizer: optim.Optimizer
    scheduler: optim.lr_scheduler.LRScheduler
    averaged: optim.swa_utils.AveragedModel | None
    teacher: nn.Module | None
    loader: DataLoader
    batch_size: int
    steps: int
    state: RunState
    evaluation: Evaluation

    def __init__(
        self,
        files: RunFiles,
        held: contextlib.ExitStack,
        recipe: Recipe,
        description: Description | None = None,
        start: Start | None = None,
        accept_changes: bool = False,
    ) -> None:
        self.files = files
        self.recipe = recipe
        self.resumed = False
        self._stop = False
        self._goes_on = description is not None
        self._accept_changes = accept_changes
        self._description = description
        self._start = start
        self._held = held

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        recipe: Recipe | None = None,
        *,
        overwrite: bool = False,
        numbered: bool = False,
    ) -> Run:
        """Return a new run, which holds its files until it is closed.

        Args:
            path: the run's folder, which is made if it is missing; or the name of weights, ending
                in ``.npz`` or ``.safetensors``, beside which the other files will stand.
            recipe: how the model is trained.
            overwrite: whether to replace files of that name, which stay until there are new
                weights to put in their place.
            numbered: whether to add a number to the name if there are such files, or another
                process is training into them.

        Raises:
            FileExistsError: if there are such files, and they are not to be replaced.
            HeldElsewhereError: if another process is training into them.
            ValueError: if it is a folder with other files in it, or the name of something else.
            OSError: if the folder cannot be made or written to, or there are no such weights to
                start from.
        """
        recipe = recipe or Recipe()
        if recipe.data != "digits":  # the run may be resumed from another folder
            recipe = replace(recipe, data=str(Path(recipe.data).resolve()))
        recipe = replace(recipe, weights=_whole(recipe.weights), teacher=_whole(recipe.teacher))
        start = from_first(partial(open_weights, recipe))
        if start is not None:
            recipe = replace(
                recipe, size=recipe.size or start.size, bn_eps=recipe.bn_eps or start.bn_eps
            )
        recipe = recipe.settled()
        _check_name(Path(path))
        with contextlib.ExitStack() as held:
            files = from_first(lambda: held.enter_context(_held(path, overwrite, numbered)))
            return cls(_on_ranks.shared(files), held.pop_all(), recipe, start=start)

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        *,
        max_unreadable: float | None = None,
        accept_changes: bool = False,
    ) -> Run:
        """Return a run that did not come to its end, to go on with under its own recipe.

        Args:
            path: its folder, or the name of its weights.
            max_unreadable: another share of pictures that may be unreadable.
            accept_changes: whether to go on if pictures are gone, new or of another size since the
                run began, which :meth:`build` refuses otherwise. Each stays in the part in which
                it was, as they would be divided anew without that, and the test would be of
                pictures that were learned from; new ones are learned from (not with a ``limit``),
                and an epoch that was under way begins again.

        Raises:
            FileNotFoundError: if there is no such run, or no state to go on from.
            FinishedError: if it came to its end.
            HeldElsewhereError: if another process is training into its files.
            ValueError: if its files are damaged, or are of several runs.
        """
        _check_name(Path(path))
        with contextlib.ExitStack() as held:
            files, description = from_first(lambda: held.enter_context(_held_unfinished(path)))
            if max_unreadable is not None:
                description.recipe = replace(description.recipe, max_unreadable=max_unreadable)
            return cls(
                _on_ranks.shared(files),
                held.pop_all(),
                description.recipe,
                description,
                accept_changes=accept_changes,
            )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Run cannot be pickled or copied, since it holds its files: copy run.model, or go on "
            f"with Run.resume({str(self.files.path)!r}) elsewhere, after close()"
        )

    def close(self) -> None:
        """Let go of the files; those of a new run that finished no epoch are removed."""
        with self._held:
            if self._description is not None and not self.resumed:
                self.files.forget(self._description)

    @property
    def description(self) -> Description:
        """What the weights are, and the history of the epochs; in a new run after prepare()."""
        if self._description is None:
            raise RuntimeError("Run: call prepare() first")
        return self._description

    @property
    def done(self) -> int:
        """How many epochs are finished."""
        return len(self._description.history) if self._description else 0

    @property
    def stopped(self) -> bool:
        """Whether it was stopped, or so many epochs as its ``patience`` were not the best."""
        patience, best = self.recipe.patience, self.description.best_epoch
        return self._stop or (
            patience is not None and best is not None and self.done - best >= patience
        )

    # -- the steps of a run -------------------------------------------------------------------

    def load_images(self) -> Images:
        """Return the images that the recipe names; raises as :func:`lucid.data.load_images`."""
        expected = self._description or self._start
        # Which they are of all is known then, and others would be taken if some were gone.
        whole = self._goes_on and self.description.pictures and self.files.pictures.is_file()
        return from_first(
            lambda: load_images(
                self.recipe.data,
                self.recipe.size or SIZE,
                augment=self.recipe.augment,
                mean=expected and expected.mean,
                std=expected and expected.std,
                validation=self.recipe.validation,
                limit=None if whole else self.recipe.limit,
            )
        )

    def build(
        self, images: Images | None = None, *, tell: Callable[[str], Any] = warnings.warn
    ) -> None:
        """Build the model, and check that it can take the images; their pictures are not read.

        lucid's generator is seeded from the recipe.

        Args:
            images: what to train on, with a validation part; as :meth:`load_images` returns them
                if left out.
            tell: called with what one should know of the weights to start from; a warning if left
                out.

        Raises:
            ValueError: if the images are not of the run's classes, or the model cannot take their
                size or so few at a time.
        """
        self.images = images = images or self.load_images()
        if images.validation is None:
            raise ValueError("Run: the images have no validation part to choose the weights by")
        if self._description is None:
            entries = images.classes, images.in_channels, images.mean, images.std
            self._description = from_first(partial(Description, self.recipe, *entries))
        recipe, description = self.recipe, self._description
        images.check_classes(description.classes, len(description.classes))
        if self._goes_on:
            self.images = images = from_first(partial(self._as_they_were, images))
        digest = from_first(partial(self._list, images))
        if description.pictures not in ("", digest):
            description.batch = 0
        description.pictures = digest
        tell = _on_ranks.told_by_first(tell)
        manual_seed(recipe.seed)
        self.model = build_model(
            recipe, description.classes, description.in_channels, self._start, tell
        )
        if recipe.sync_bn and _ranks.is_initialized():
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        if self._start is not None:  # lucid's name takes weights of the other form too
            name = getattr(self.model, "name", None) or recipe.model
            recipe = self.recipe = description.recipe = replace(recipe, model=name)
        set_frozen(recipe, self.model, recipe.epochs)  # whether there are so many stages
        self.averaged = build_average(recipe, self.model)
        self.teacher = from_first(partial(build_teacher, recipe, description))
        if recipe.teacher is not None and recipe.is_taught_by_file:
            check_answers(images.train, recipe.teacher, description.classes)
        least = _on_ranks.least_part(recipe.batch_size)
        count, size = min(least, len(images.train)), recipe.size or SIZE
        check_input(self.model, (count, description.in_channels, size, size))

    def _list(self, images: Images) -> str:
        """Note the pictures for their file, and return what tells them from others."""
        pictures = Pictures.of(images)
        self.files.listed = pictures.csv if pictures.rows else b""
        return pictures.digest

    def _as_they_were(self, images: Images) -> Images:
        """Return images whose pictures are those that the run began with, or ValueError."""
        expected = self.description.pictures
        if expected in ("", Pictures.of(images).digest):
            return images
        before, limited = Pictures.read(self.files.pictures), self.recipe.limit is not None
        changes = f"which, is no longer known, as {self.files.pictures} is not of this run"
        if before.digest == expected:
            changes = before.changes(images, limited=limited)
        if before.rows and (self._accept_changes or not changes):
            return before.placed(images, new=not limited)
        raise ValueError(
            f"{self.recipe.data}: the pictures are not those that the run began with ({changes}); "
            "put them back, or go on with accept_changes (--accept-changes): those that are left "
            "stay in their parts, new ones are learned from, an epoch under way begins again"
        )

    def prepare(
        self,
        images: Images | None = None,
        *,
        tell: Callable[[str], Any] = warnings.warn,
        after_each: Callable[[int, int], Any] | None = None,
    ) -> None:
        """Read all pictures once, and load the state of a run that goes on.

        Args:
            images: as :meth:`build` takes them, which is called unless it was.
            tell: called with what one should know of the images, a line each; warnings if left
                out.
            after_each: called with the number of pictures read so far and of all.

        Raises:
            ValueError: as :meth:`build` does, or if the state does not fit.
            UnreadableError: if too many pictures cannot be read.
        """
        if images is not None or not hasattr(self, "model"):
            self.build(images, tell=tell)
        recipe, description, images = self.recipe, self.description, self.images
        assert images.validation is not None
        for note in images.notes:
            _on_ranks.told_by_first(tell)(note)
        train, validation, test = _on_ranks.readable(
            [images.train, images.validation, images.test], recipe.max_unreadable, tell, after_each
        )
        self.images = replace(images, train=train, validation=validation, test=test)
        recipe = self.recipe = description.recipe = recipe.settled(len(train))
        self.loader, self.batch_size, self.steps, self.optimizer, self.scheduler = build_fitting(
            recipe, self.model, train, description.classes, images.augmentation
        )
        self.loader.part = _on_ranks.part()
        self._held_out = DataLoader(  # one for all epochs, as its workers stay
            validation, self.batch_size, num_workers=recipe.workers, part=_on_ranks.part()
        )
        self._progress = Progress(self.loader, _on_ranks.least_part(self.batch_size), description)
        self.resumed = from_first(lambda: self.files.saved(description) is not None)
        self.state = RunState(
            self.model, self.optimizer, self.scheduler, description, self.averaged, self._progress
        )
        if self.resumed:
            self.files.load_state(self.state)
            if self._accept_changes:
                self.files.write_state(self.state)  # of these pictures, from now on
        self._stepped = _on_ranks.distributed(self.optimizer, self.model)

    def fit(self, callbacks: Iterable[Callback] = ()) -> Iterator[Epoch]:
        """Train, and yield each epoch as soon as it is on disk.

        Args:
            callbacks: watch the training.

        Raises:
            DivergedError: as soon as a loss is not finite.
            OSError: if the files cannot be written.
            UnreadableError: if too many pictures cannot be read any more.
        """
        callbacks = list(callbacks)
        if not self.resumed and not self.description.history:
            self.files.begin(self.state)
        self._saved = time.monotonic()
        try:
            for callback in callbacks:
                callback.on_start(self)
            while self.done < self.recipe.epochs and not _on_ranks.any_of(self.stopped):
                epoch = self._epoch(callbacks)
                for callback in callbacks:
                    callback.on_epoch(self, epoch)
                yield epoch
        finally:
            for callback in callbacks:
                callback.on_end(self)

    def find_lr(self, low: float = 1e-6, high: float = 1.0, steps: int = 100) -> LRCurve:
        """Return the losses at rising rates, as :func:`find_lr` finds them; nothing is changed."""
        batches, loss = self._changed(self.loader), self._loss()
        return find_lr(
            self.model,
            batches,
            self._stepped,
            criterion=loss,
            low=low,
            high=high,
            steps=steps,
            accumulate=self.recipe.accumulate,
            clip_grad=self.recipe.clip_grad,
        )

    def stop(self) -> None:
        """Let the epoch that is under way be the last."""
        self._stop = True

    def _epoch(self, callbacks: list[Callback]) -> Epoch:
        """Train for one epoch and write it."""

        def step(score: Score) -> None:
            self.scheduler.step()
            if time.monotonic() - self._saved >= 60 * recipe.save_minutes:
                self.description.batch = progress.done
                meter.seconds = time.perf_counter() - began
                self.files.write_state(self.state)
                self._saved = time.monotonic()
            for callback in callbacks:
                callback.on_step(self, score)

        recipe, progress = self.recipe, self._progress
        meter = progress.begin()
        began = time.perf_counter() - meter.seconds
        set_frozen(recipe, self.model, self.done + 1)
        try:
            score = _loop.train_epoch(
                self.model,
                self._changed(progress),
                self._stepped,
                criterion=self._loss(),
                after_step=step,
                accumulate=recipe.accumulate,
                clip_grad=recipe.clip_grad,
                averaged=self.averaged,
                meter=meter,
            )
        except DivergedError as error:
            raise self._located(error) from error
        if not recipe.sync_bn:
            _on_ranks.average_statistics(self.model, self.averaged)
        judged = self.model if self.averaged is None else self.averaged
        held_out = _on_ranks.score_of_all(_loop.evaluate(judged, self._held_out))
        seconds = time.perf_counter() - began
        epoch = from_first(lambda: Epoch(self.done + 1, score, held_out, seconds))
        self.description.add(epoch.record())
        self.files.write(self.state)
        self._saved = time.monotonic()
        return epoch

    def _changed(self, batches: Batches) -> Batches:
        """Return batches as the model and the loss are given them."""
        mix = build_mix(self.recipe, len(self.description.classes))
        if mix is not None:
            batches = Mixed(batches, mix)
        return batches if self.teacher is None else Taught(batches, self.teacher)

    def _loss(self) -> LossFunction:
        classes = len(self.description.classes)
        return of_whole_batch(build_loss(self.recipe, self.images.train, classes))

    def _located(self, error: DivergedError) -> DivergedError:
        """Return the error with what only the run knows: the step, and the pictures."""
        paths = paths_of(self.images.train)
        files = [str(paths[index]) for index in self._progress.samples(error.batch) if paths]
        step = self.scheduler.last_epoch + 1
        return DivergedError(f"step {step}: {error}", error.layer, error.batch, step, files)

    def finish(self) -> Score:
        """Measure the best weights, as they are on disk, on the test images, and end the run."""
        description = self.description
        self.files.load_weights(self.model, description)
        self.evaluation = _on_ranks.measure(
            self.model,
            self.images.test,
            description.classes,
            batch_size=self.batch_size,
            num_workers=self.recipe.workers,
        )
        score = self.evaluation.score
        description.test = {**asdict(score), "loss": finite(score.loss), "accuracy": score.accuracy}
        self.files.write_description(description)
        self.files.remove_states()
        return score


class Callback:
    """Watches a run, and may stop it; a subclass overrides what it needs.

    Example::

        class Goal(training.Callback):
            def on_epoch(self, run, epoch):
                if epoch.validation.accuracy > 0.98:
                    run.stop()

        recipe = training.Recipe(data="digits", epochs=2, size=32, limit=40)
        with training.Run.create("runs/digits", recipe) as run:
            run.prepare()
            for epoch in run.fit([Goal()]):
                print(epoch.validation)
    """

    def on_start(self, run: Run) -> None:
        """Called before the first step; of a run that goes on, before its next one.

        Args:
            run: has its images, model and optimiser by now.
        """

    def on_step(self, run: Run, score: Score) -> None:
        """Called after each step of the optimiser and of the schedule.

        Args:
            run: the run.
            score: that of the epoch so far.
        """

    def on_epoch(self, run: Run, epoch: Epoch) -> None:
        """Called after each epoch, when it is on disk.

        Args:
            run: the run.
            epoch: what it did.
        """

    def on_end(self, run: Run) -> None:
        """Called after the last epoch, and when an error or the caller ends the training.

        Args:
            run: the run.
        """


def _whole(given: Any) -> Any:
    """Return the name of a file as seen from any folder; what is none as it is."""
    return str(Path(given).resolve()) if isinstance(given, str) and Path(given).exists() else given


@contextlib.contextmanager
def _held(path: str | os.PathLike[str], overwrite: bool, numbered: bool) -> Iterator[RunFiles]:
    """Hold the files of a new run."""
    if numbered:
        with RunFiles.free(path) as files:
            yield files
        return
    files = RunFiles(path)
    with files.held():
        if not files.is_free() and not files.exist():
            raise ValueError(f"{path} is a folder with other files in it; name another")
        if files.exist() and not overwrite:
            raise FileExistsError(f"{path} is there already")
        yield files


@contextlib.contextmanager
def _held_unfinished(path: str | os.PathLike[str]) -> Iterator[tuple[RunFiles, Description]]:
    """Hold the files of a run that did not come to its end."""
    files = RunFiles(path)
    if not files.exist():
        kind = "run in the folder" if Path(path).is_dir() else "file"
        raise FileNotFoundError(f"there is no {kind} {path}")
    with files.held():
        yield files, files.read_unfinished()


def _check_name(path: Path) -> None:
    if path.suffix in READABLE and path.suffix not in SUFFIXES and not path.is_dir():
        raise ValueError(f"expected weights ending in {' or '.join(SUFFIXES)}, got {path}")
