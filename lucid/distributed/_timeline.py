"""What each rank does when: a trace that Chrome and Perfetto show."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lucid import _ranks
from lucid._files import atomic_path
from lucid.autograd import _graph

# The rows of a rank, from above; each reduction has one of its own below them.
_TRACKS = ("training", "operations of backward")


class _Timeline:
    """The events of this rank: name, row, start and end in seconds."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.events: list[tuple[str, str, float, float]] = []
        self.since = self.start  # when the last thing ended that forward comes after

    def operation(self, name: str, began: float) -> None:
        """Note an operation of backward, or all of it."""
        if name == "backward":
            self.events.append(("forward", "training", self.since, began))
            add(name, began)
            mark()
        else:
            add(name, began, track="operations of backward")


_active: _Timeline | None = None


def add(name: str, began: float, track: str = "training") -> None:
    """Note what has just ended."""
    if _active is not None:
        _active.events.append((name, track, began, time.perf_counter()))


def mark() -> None:
    """Note that forward may begin now."""
    if _active is not None:
        _active.since = time.perf_counter()


@contextlib.contextmanager
def span(name: str) -> Iterator[None]:
    """Note how long the block takes."""
    began = time.perf_counter()
    yield
    add(name, began)


@contextlib.contextmanager
def timeline(path: str | Path) -> Iterator[None]:
    """Write down what each rank does meanwhile, as a trace in Chrome's format.

    Open the file in ``chrome://tracing`` or https://ui.perfetto.dev. Each rank is a process with
    rows: forward (from ``zero_grad`` or the last backward on), backward, the wait for gradients
    and the step; the operations of backward; and the reduction of each bucket of a
    :class:`DistributedOptimizer`, from its start until it was seen to be done. All ranks have to
    enter and leave the block; an error in it leaves no file.

    Args:
        path: of the file, which rank 0 writes at the end.

    Example:
        >>> with distributed.timeline("trace.json"):
        ...     (lucid.ones(2, requires_grad=True) * 2).sum().backward()
        >>> import json, pathlib
        >>> events = json.loads(pathlib.Path("trace.json").read_text())["traceEvents"]
        >>> [event["name"] for event in events if event["ph"] == "X"]
        ['Sum', 'Mul', 'forward', 'backward']
    """
    global _active
    if _active is not None:
        raise RuntimeError("timeline: there is one already")
    _ranks.barrier()  # all clocks begin here
    _active = _Timeline()
    _graph.watch(_active.operation)
    try:
        yield
    finally:
        events, _active = _active, None
        _graph.watch(None)
    found = _ranks.gather(list(_as_trace(events)))
    if found is not None:
        trace = {"traceEvents": [event for of_rank in found for event in of_rank]}
        with atomic_path(Path(path)) as temporary:
            Path(temporary).write_text(json.dumps(trace), encoding="utf-8")


def _as_trace(timeline: _Timeline) -> Iterator[dict[str, Any]]:
    """Yield the events of this rank as Chrome has them, with times in microseconds."""
    rank = _ranks.rank()
    buckets = sorted({name for name, track, *_ in timeline.events if track == "reductions"})
    rows = {name: place for place, name in enumerate([*_TRACKS, *buckets])}
    yield {"ph": "M", "name": "process_name", "pid": rank, "args": {"name": f"rank {rank}"}}
    for name, place in rows.items():
        yield {
            "ph": "M",
            "name": "thread_name",
            "pid": rank,
            "tid": place,
            "args": {"name": f"reduction of {name}" if name in buckets else name},
        }
    for name, track, began, ended in timeline.events:
        yield {
            "ph": "X",
            "name": name,
            "cat": track,
            "pid": rank,
            "tid": rows[name if track == "reductions" else track],
            "ts": (began - timeline.start) * 1e6,
            "dur": (ended - began) * 1e6,
        }
