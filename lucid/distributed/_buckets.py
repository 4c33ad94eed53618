"""Gradients end to end in buckets, which are summed over the ranks while backward goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lucid import _ranks
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.distributed import _timeline

# How long the end of a program waits for reductions that nobody has waited for.
_LAST_SECONDS = 5.0


class Bucket:
    """The gradients of some parameters of one dtype, and their mean over the ranks.

    Behind the gradients there is a number for each parameter: how many ranks have one. A parameter
    without a gradient on any rank keeps none.

    Args:
        name: what the timeline calls it.
        params: the parameters.
        wire: ``"float16"`` to exchange numbers of half the length.
    """

    def __init__(self, name: str, params: Sequence[Tensor], wire: str | None) -> None:
        self.name = name
        self.params = list(params)
        ends = np.cumsum([0, *(param.data.size for param in params)])
        self.numbers = np.zeros(int(ends[-1]) + len(params), params[0].dtype)
        self.views = [
            self.numbers[start:end].reshape(param.shape)
            for start, end, param in zip(ends, ends[1:], params)
        ]
        self.having = self.numbers[ends[-1] :]
        is_half = wire == "float16" or self.numbers.dtype == np.float16
        self.wire = self.numbers.astype(np.float16) if is_half else None
        self.filled: set[int] = set()
        self.request: Any = None

    def fill(self, place: int) -> None:
        """Take the gradient of the parameter at ``place``, or note that there is none."""
        gradient = self.params[place].grad
        self.filled.add(place)
        self.having[place] = gradient is not None
        if gradient is None:
            self.views[place][...] = 0
        else:
            np.divide(gradient.data, _ranks.size(), out=self.views[place], casting="same_kind")

    def start(self, comm: Any) -> None:
        """Begin to sum over the ranks. All of them begin with the same bucket."""
        for place in range(len(self.params)):
            if place not in self.filled:
                self.fill(place)
        self.began = time.perf_counter()
        numbers: Any = self.numbers
        mpi, operation = _ranks.mpi(), _ranks.mpi().SUM
        if self.wire is not None:  # MPI does not know float16
            self.wire[...] = self.numbers
            numbers, operation = [self.wire, mpi.UINT16_T], _half_sum()
        self.request = comm.Iallreduce(mpi.IN_PLACE, numbers, operation)

    def is_done(self) -> bool:
        """Return whether the sum is there; asking moves it on."""
        if self.request is None:
            return False
        if self.request and self.request.Test():
            _timeline.add(self.name, self.began, track="reductions")
        return not self.request

    def finish(self) -> None:
        """Wait for the sum, and make it the gradients of the parameters."""
        if not self.is_done():
            self.request.Wait()
            _timeline.add(self.name, self.began, track="reductions")
        if self.wire is not None:
            self.numbers[...] = self.wire
        for place, param in enumerate(self.params):
            param.grad = wrap(self.views[place]) if self.having[place] else None
        self.request = None
        self.filled.clear()


_half: Any = None


def _half_sum() -> Any:
    """Return MPI's operation that adds float16, made once."""
    global _half
    if _half is None:

        def add(left: Any, right: Any, _: Any) -> None:
            total = np.frombuffer(right, np.float16)
            with np.errstate(all="ignore"):  # infinities arise silently, as in an operation
                np.add(np.frombuffer(left, np.float16), total, out=total)

        _half = _ranks.mpi().Op.Create(add, commute=True)
    return _half


class Buckets:
    """The buckets of some parameters, in the order in which backward finishes them.

    Args:
        size: of a bucket, in bytes, at least that of one parameter.
        wire: as :class:`Bucket` takes it.
    """

    def __init__(self, size: float, wire: str | None) -> None:
        self._size = size
        self._wire = wire
        # Of its own: layers exchange statistics between the starts of two buckets.
        self._comm = _ranks.communicator().Dup()
        self._buckets: list[Bucket] = []
        self._places: dict[int, tuple[Bucket, int]] = {}
        self._started = 0  # how many buckets are on their way

    def __contains__(self, param: Tensor) -> bool:
        return id(param) in self._places

    def add(self, params: Sequence[Tensor]) -> None:
        """Put more parameters into buckets, in this order, which is the same on all ranks."""
        waiting: list[Tensor] = []

        def close() -> None:
            if waiting:
                bucket = Bucket(f"bucket {len(self._buckets)}", waiting, self._wire)
                self._buckets.append(bucket)
                self._places.update({id(p): (bucket, i) for i, p in enumerate(bucket.params)})
                waiting.clear()

        for param in params:
            if waiting and (
                waiting[0].dtype != param.dtype
                or sum(p.data.nbytes for p in waiting) + param.data.nbytes > self._size
            ):
                close()
            waiting.append(param)
        close()

    def take(self, param: Tensor) -> None:
        """Take the gradient of a parameter that backward has just finished.

        Buckets are started in their order, as all ranks have to start them alike. Each call also
        moves on what is on its way: MPI works only while it is called.

        Raises:
            RuntimeError: if the gradient of an earlier backward is on its way already.
        """
        bucket, place = self._places[id(param)]
        if bucket.request is not None:
            raise RuntimeError(
                "DistributedOptimizer: backward a second time before step(), when the gradients "
                "of the first are being reduced: run all but the last under no_sync()"
            )
        bucket.fill(place)
        waiting = self._buckets[self._started :]
        for bucket in waiting:
            if len(bucket.filled) < len(bucket.params):
                break
            self._start(bucket)
        self._move_on()

    def _start(self, bucket: Bucket) -> None:
        bucket.start(self._comm)
        self._started += 1

    def _move_on(self) -> None:
        for bucket in self._buckets[: self._started]:
            if not bucket.is_done():
                break

    def finish(self) -> None:
        """Start what has not started yet, wait for all, and make the sums the gradients."""
        for bucket in self._buckets[self._started :]:
            self._start(bucket)
            self._move_on()
        for bucket in self._buckets:
            bucket.finish()
        self._started = 0

    @property
    def are_moving(self) -> bool:
        """Whether a reduction was started that nobody has waited for."""
        return self._started > 0

    def at_exit(self) -> Callable[[], None]:
        """Return what keeps the memory of reductions on their way until MPI is done with it."""
        buckets = self._buckets

        def wait() -> None:
            end = time.perf_counter() + _LAST_SECONDS
            moving = [bucket.request for bucket in buckets if bucket.request]
            while moving and time.perf_counter() < end:
                moving = [request for request in moving if not request.Test()]

        return wait
