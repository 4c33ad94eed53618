"""What a training step takes over many ranks: a model of its arithmetic, the wire, the overlap.

The step of one rank is measured (:func:`~lucid.distributed.measure_step`). The rest is computed:
when each bucket of gradients is full, how long its sum takes, and what of that backward hides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lucid._check import count, one_of
from lucid.distributed._step_times import StepTimes
from lucid.distributed._wire import Wire, all_reduce_seconds, bandwidth

_MOST_IMAGES = 1 << 16  # of the batches a rank that are tried


@dataclass(frozen=True)
class PlannedStep:
    """A training step over a number of ranks; times are in seconds.

    Attributes:
        ranks: how many.
        batch_size: images of a step, of all ranks together.
        seconds: of the step.
        efficiency: the step of one rank over this one, with as many images a rank.
        reductions: what the sums of gradients take.
        exposed: what a step is longer for them; backward hides the rest.
        batch_norm: what the statistics of ``SyncBatchNorm`` take. Nothing hides it.
        waiting: for the slowest rank, if each step's time is drawn from those that were measured.
        pays_from: the smallest batch a rank of which the efficiency is at least the plan's
            ``worth``; None if there is none.
    """

    ranks: int
    batch_size: int
    seconds: float
    efficiency: float
    reductions: float
    exposed: float
    batch_norm: float
    waiting: float
    pays_from: int | None

    @property
    def images_per_second(self) -> float:
        """Of all ranks together."""
        return self.batch_size / self.seconds


@dataclass(frozen=True)
class Plan:
    """A training step on 1, 2, 4 … ranks; printed, it is a table.

    Attributes:
        steps: by growing numbers of ranks.
        worth: the efficiency that ``pays_from`` asks for.
    """

    steps: tuple[PlannedStep, ...]
    worth: float

    def __iter__(self) -> Iterator[PlannedStep]:
        return iter(self.steps)

    def __str__(self) -> str:
        columns: dict[str, Callable[[PlannedStep], str]] = {
            "ranks": lambda step: f"{step.ranks}",
            "images": lambda step: f"{step.batch_size}",
            "ms": lambda step: f"{step.seconds * 1e3:.1f}",
            "images/s": lambda step: f"{step.images_per_second:.1f}",
            "efficiency": lambda step: f"{step.efficiency:.3f}",
            "sums": lambda step: f"{step.reductions * 1e3:.1f}",
            "exposed": lambda step: f"{step.exposed * 1e3:.1f}",
            "batch norm": lambda step: f"{step.batch_norm * 1e3:.1f}",
            "waiting": lambda step: f"{step.waiting * 1e3:.1f}",
            f"{self.worth:.0%} from": lambda step: str(step.pays_from or "never"),
        }
        for name in ("batch_norm", "waiting"):
            if not any(getattr(step, name) for step in self.steps):
                del columns[name.replace("_", " ")]
        rows = [list(columns), *([cell(step) for cell in columns.values()] for step in self.steps)]
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows
        )


def plan(
    step: StepTimes,
    ranks: int,
    network: str | Wire = "10Gbit",
    *,
    latency: float = 50e-6,
    ranks_per_machine: int = 1,
    batch_size: int | None = None,
    bucket_mb: float = 2.0,
    wire: str | None = None,
    sync_batch_norm: bool = False,
    overlap: bool = True,
    algorithm: str | None = None,
    worth: float = 0.9,
) -> Plan:
    """Return what a step takes on 1, 2, 4 … and ``ranks`` ranks, with as many images on each.

    A bucket of gradients is summed as soon as backward has filled it and the wire is free: within
    each machine, through its memory, then between the machines. The network works beside backward.
    What goes through memory takes the rank's own time, as does the copy into a bucket.

    Args:
        step: one rank's step, from :func:`~lucid.distributed.measure_step`, on as many threads as
            a rank will have.
        ranks: the largest number of ranks.
        network: between machines: ``"10Gbit"``, ``"800Mbit"``, ``"1.1GB"`` a second, or a
            :class:`Wire`.
        latency: the seconds of an empty message between machines: some 50e-6 by TCP, 2e-6 by
            InfiniBand. A :class:`Wire` has its own.
        ranks_per_machine: how many share a machine and its network.
        batch_size: images a rank (default: as measured). The times of other batches than the
            measured one lie on a line through two that were.
        bucket_mb: megabytes of a bucket, as in :class:`DistributedOptimizer`.
        wire: ``"float16"`` sends half of the bytes, for two conversions more.
        sync_batch_norm: whether batch norm has the statistics of all ranks.
        overlap: False: the sums begin when backward has ended.
        algorithm: see :func:`all_reduce_seconds`.
        worth: the efficiency from which on more ranks pay.

    Raises:
        ValueError: for a number that is not positive, or a text that is no bandwidth.

    Example:
        >>> from lucid.distributed import StepTimes, plan
        >>> step = StepTimes(16, 0.1, 0.2, 0.01, gradients=((0.1, 10_000_000), (0.2, 5_000_000)))
        >>> two = plan(step, ranks=2, network="1Gbit", latency=0, bucket_mb=1).steps[1]
        >>> two.reductions  # 15 MB, sent once by each of two ranks at 125 MB a second
        0.12
        >>> round(two.exposed, 3)  # the last 5 MB are there when backward has ended
        0.04
    """
    count(ranks, "ranks", "plan")
    for name, number in (("bucket_mb", bucket_mb), ("worth", worth)):
        if not number > 0:
            raise ValueError(f"plan: {name} must be over 0, got {number}")
    if not latency >= 0:
        raise ValueError(f"plan: latency must be at least 0 seconds, got {latency}")
    cluster = _Cluster(
        network=network if isinstance(network, Wire) else Wire(bandwidth(network), latency),
        ranks_per_machine=count(ranks_per_machine, "ranks_per_machine", "plan"),
        bucket_bytes=bucket_mb * 1e6,
        is_halved=wire is not None and bool(one_of(wire, ("float16",), "wire", "plan")),
        sync_batch_norm=sync_batch_norm,
        overlap=overlap,
        algorithm=algorithm,
    )
    wanted = step.at(step.batch_size if batch_size is None else batch_size)
    sizes = sorted({1 << power for power in range(ranks.bit_length())} | {ranks})
    return Plan(tuple(cluster.planned(wanted, size, worth) for size in sizes), worth)


@dataclass(frozen=True)
class _Cluster:
    """What a plan is for."""

    network: Wire
    ranks_per_machine: int
    bucket_bytes: float
    is_halved: bool
    sync_batch_norm: bool
    overlap: bool
    algorithm: str | None

    def planned(self, step: StepTimes, ranks: int, worth: float) -> PlannedStep:
        reductions, exposed = self.gradients(step, ranks)
        batch_norm = self.batch_norm(step, ranks)
        waiting = step.waiting(ranks)
        seconds = step.seconds + exposed + batch_norm + waiting

        def pays(batch: int) -> bool:
            other = step.at(batch)
            lost = self.gradients(other, ranks)[1] + self.batch_norm(other, ranks)
            lost += other.waiting(ranks)
            return other.seconds >= worth * (other.seconds + lost)

        return PlannedStep(
            ranks=ranks,
            batch_size=ranks * step.batch_size,
            seconds=seconds,
            efficiency=step.seconds / seconds,
            reductions=reductions,
            exposed=exposed,
            batch_norm=batch_norm,
            waiting=waiting,
            pays_from=_smallest(pays),
        )

    def gradients(self, step: StepTimes, ranks: int) -> tuple[float, float]:
        """Return the seconds of all gradients' sums, and what backward becomes longer by them."""
        if ranks == 1:
            return 0.0, 0.0
        own = sent = free = 0.0  # the rank's own work so far; the network's; when that is free
        for full, nbytes in filled(step.gradients, self.bucket_bytes):
            memory, network = self.reduction(step, ranks, nbytes / (2 if self.is_halved else 1))
            # Into its bucket; with float16 to half the bytes and back.
            own += memory + nbytes * step.copy * (3 if self.is_halved else 1)
            sent += network
            free = max(free, (full if self.overlap else step.backward) + own) + network
        return own + sent, max(own, free - step.backward)

    def batch_norm(self, step: StepTimes, ranks: int) -> float:
        """Return the seconds of the sums of statistics: a count and two a channel, then two."""
        if not self.sync_batch_norm:
            return 0.0
        return sum(
            sum(self.reduction(step, ranks, 4 * numbers))
            for channels in step.batch_norms
            for numbers in (2 * channels + 1, 2 * channels)
        )

    def reduction(self, step: StepTimes, ranks: int, nbytes: float) -> tuple[float, float]:
        """Return the seconds of a sum within the machines, and of that between them."""
        within = min(ranks, self.ranks_per_machine)
        machines = math.ceil(ranks / self.ranks_per_machine)
        return (
            all_reduce_seconds(within, nbytes, step.memory, step.copy, self.algorithm),
            all_reduce_seconds(machines, nbytes, self.network, step.copy, self.algorithm),
        )


def filled(gradients: Iterable[tuple[float, int]], limit: float) -> Iterator[tuple[float, int]]:
    """Yield for each bucket of at most so many bytes, or one gradient, when it is full, and its
    bytes.
    """
    full, total = 0.0, 0
    for there, nbytes in gradients:
        if total and total + nbytes > limit:
            yield full, total
            total = 0
        full, total = there, total + nbytes
    if total:
        yield full, total


def _smallest(pays: Callable[[int], bool]) -> int | None:
    """Return the smallest batch that pays, where larger ones do too; None if none does."""
    if not pays(_MOST_IMAGES):
        return None
    low, high = 0, _MOST_IMAGES  # high pays, low does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if pays(middle) else (middle, high)
    return high
