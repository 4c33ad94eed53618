"""Rows of layers that the backend computes in one launch in inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lucid import kernels
from lucid.autograd import Tensor, is_grad_enabled
from lucid.autograd._function import is_observed
from lucid.kernels.prepared import Link
from lucid.nn._untouched import Untouched
from lucid.nn.modules._changes import last_change
from lucid.nn.modules._fusion import ConvNormAct, Norm, is_plain, run_kept, steps
from lucid.nn.modules._linear import Identity
from lucid.nn.modules._map_attention import MapAttention
from lucid.nn.modules._module import Module


class _Steps(list[Callable[[Any], Any]]):
    """What to call of some modules, and what inference calls as one, by the first step."""

    def __init__(self, modules: tuple[Any, ...]) -> None:
        super().__init__(steps(modules, alone=True))
        self.recorded = steps(modules, alone=False)  # holds no input until an activation is done
        self.modules = modules
        self.rows: dict[int, _InARow] = {}

    def are_of(self, modules: tuple[Any, ...]) -> bool:
        """Whether they are what to call of these modules."""
        mine = self.modules
        if [*map(id, mine)] == [*map(id, modules)]:
            return True
        return len(mine) == len(modules) and all(map(_is_same, mine, modules))


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (
        type(one) is type(other) is MapAttention and one.state() == other.state()
    )


class InSteps(Module):
    """A module that calls others one after the other, in inference several at once."""

    _steps: _Steps | None = None

    def _parts(self) -> tuple[Any, ...]:
        """Return what is called, in order."""
        raise NotImplementedError

    def _adds(self) -> bool | None:
        """Whether its input is added to the output; None if it does anything else beside."""
        raise NotImplementedError

    def _in_steps(self, input: Any) -> Any:
        """Return what the last one returns."""
        if not is_grad_enabled() and not is_observed():
            return self._infer(input)
        for step in self._found().recorded:
            input = step(input)
        return input

    def _found(self) -> _Steps:
        parts, found = self._parts(), self._steps
        if found is None or not found.are_of(parts):
            found = self.__dict__["_steps"] = _Steps(parts)
        return found

    def _infer(self, input: Any) -> Any:
        """Return the output, and call as one what the backend can compute in a row."""
        found = self._found()
        rows, position, used = found.rows, 0, set()
        while position < len(found):
            start, row = position, rows.get(position)
            if row is None or not row.holds():
                row = _find_row(found, start)
            if row is not None and row.fits(input):
                used.add(start)
                input, position = row(input), start + row.steps
            else:
                position = start + (1 if row is None else row.steps)
                for step in found[start:position]:
                    input = step(input)
        for start in rows.keys() - used:
            rows.pop(start, None)
        return input

    def _drop_kept(self) -> None:
        self.__dict__.pop("_steps", None)

    def __getstate__(self) -> dict[str, Any]:
        own = self.__dict__.copy()  # at once: another thread may be calling it
        return {name: value for name, value in own.items() if name != "_steps"}


class _InARow:
    """Kept layers one after the other, for inputs that fit: nobody could tell the difference."""

    def __init__(self, links: list[Link], steps: int, change: int) -> None:
        self.links = links
        self.steps = steps  # of the module
        self.change = change  # the last one of any module before the layers were looked at
        self._untouched = Untouched.of_all(kept.untouched for kept, *_ in links)
        self._backend = links[0].layer.backend
        self._run = self._backend.keep_row([link._replace(layer=link.layer.run) for link in links])
        self._fitting: Any = None  # shape and dtype of the last input that did

    def holds(self) -> bool:
        """Whether all is surely as it was; if not, it may still be."""
        same = self.change == last_change() and kernels.active() is self._backend
        return same and bool(self._untouched)

    def fits(self, input: Any) -> bool:
        """Whether no layer would refuse its input, or bring it into another form."""
        if not isinstance(input, Tensor) or input.ndim != 4 or 0 in input.shape:
            return False
        fitting = input.shape, input.dtype
        if fitting == self._fitting:
            return True
        n, c, h, w = input.shape
        maps: list[tuple[int, ...]] = [(n, h, w, c)]
        for kept, reads, adds in self.links:
            made = kept.made(input.dtype, *[maps[i] for i in reads])
            if made is None or (adds is not None and made != maps[adds]):
                return False
            maps.append(made)
        self._fitting = fitting
        return True

    def __call__(self, input: Tensor) -> Tensor:
        return run_kept(self._run, input)


def _find_row(found: _Steps, start: int) -> _InARow | None:
    """Return the row that begins with a step, if one does: a new one, or the one there is."""
    change, rows = last_change(), found.rows
    links: list[Link] = []
    count = at = 0
    for step in found[start:]:
        whole = len(links)
        made = _gather(step, links, at)
        if made is None:
            del links[whole:]
            break
        count, at = count + 1, made
    row = rows.get(start)
    if row is not None and (row.links, row.steps) == (links, count):
        row.change = change
        return row
    row = None
    rows.pop(start, None)  # its memory is free before there is more
    if links:
        row = rows[start] = _InARow(links, count, change)
    return row


def _gather(step: Any, links: list[Link], at: int) -> int | None:
    """Add the kept layers that a step consists of, of which the first reads the map ``at``.

    Returns:
        The map that they make; None if the step consists of anything else.
    """
    kind = type(step)
    if kind in (ConvNormAct, Norm, MapAttention):
        kept = step.held()
        reads = [at]
        if kept is not None and kind is MapAttention:
            found = [_gather(path, links, at) for path in step.paths]
            reads = [i for i in found if i is not None]
            kept = kept if len(reads) == len(found) else None
        if kept is None:
            return None
        links.append(Link(kept, tuple(reads)))
        return len(links)
    if not isinstance(step, InSteps):
        return at if kind is Identity and is_plain(step, kind) else None
    adds = step._adds() if is_plain(step, kind) else None
    if adds is None:
        return None
    start = at
    for part in step._found():
        made = _gather(part, links, at)
        if made is None:
            return None
        at = made
    if adds:
        if at == start or links[-1].adds is not None:
            return None
        links[-1] = links[-1]._replace(adds=start)
    return at
