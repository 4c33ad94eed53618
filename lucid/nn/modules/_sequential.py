"""Sequential, and the rows of its layers that the backend computes in one launch in inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, overload

from lucid import kernels
from lucid.autograd import Tensor, is_grad_enabled
from lucid.autograd._function import is_observed
from lucid.nn._untouched import Untouched
from lucid.nn.modules._changes import last_change
from lucid.nn.modules._container import Row, check_modules
from lucid.nn.modules._fusion import ConvNormAct, KeptLayer, is_plain, run_kept, steps
from lucid.nn.modules._linear import Identity
from lucid.nn.modules._module import Module
from lucid.nn.modules._residual import Residual

__all__ = ["Sequential"]

# What is kept of a layer, and the map that is added to its output, if any: 0 is the row's input, 1
# the first layer's output.
_Link = tuple[KeptLayer, int | None]


class _Steps(list[Callable[[Any], Any]]):
    """What to call of some modules, and what inference calls as one, by the first step."""

    def __init__(self, modules: tuple[Any, ...]) -> None:
        super().__init__(steps(modules, alone=True))
        self.recorded = steps(modules, alone=False)  # holds no input until an activation is done
        self.modules = modules
        self.rows: dict[int, _InARow] = {}


class Sequential(Row):
    """Modules called one after the other, each on what the one before returned.

    Args:
        *args: modules, named ``"0"``, ``"1"``, …; or one mapping from names to modules.

    An index or a name gives a module, a slice a Sequential of the same modules.

    In evaluation under ``no_grad()`` a convolution with the batch norm and the ReLU or ReLU6 behind
    it is one operation, and such operations in a row are one call of the backend. Their weights are
    kept in the form that it computes with, one more copy of them, until somebody asks one of these
    parameters or statistics for its array, as every change does, or calls :meth:`train`.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.ReLU())
        >>> model(lucid.zeros(5, 3, 2, 2)).shape
        (5, 3)
        >>> model[:2]
        Sequential(
          (0): Flatten(start_dim=1, end_dim=-1)
          (1): Linear(in_features=12, out_features=3, bias=True)
        )
    """

    _steps: _Steps | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            check_modules("Sequential", args)
            for index, module in enumerate(args):
                self.add_module(str(index), module)

    def forward(self, input: Any) -> Any:
        """Return the last module's output."""
        if not is_grad_enabled() and not is_observed():
            return self._infer(input)
        for step in self._found().recorded:
            input = step(input)
        return input

    def _found(self) -> _Steps:
        modules = tuple(map(self.__dict__.get, self._members))  # other threads wait for all of it
        found = self._steps
        if found is None or [*map(id, found.modules)] != [*map(id, modules)]:
            found = self.__dict__["_steps"] = _Steps(modules)
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

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    @overload
    def __getitem__(self, index: int | str) -> Module: ...
    def __getitem__(self, index: int | str | slice) -> Module:
        if isinstance(index, slice):
            return type(self)({name: self.__dict__[name] for name in self._names()[index]})
        if isinstance(index, str):
            return self.get_submodule(index)
        return self._values()[self._position(index)]

    def __add__(self, other: Sequential) -> Sequential:
        if not isinstance(other, Sequential):
            raise TypeError(f"Sequential: can only add a Sequential, got {type(other).__name__}")
        return Sequential(*self, *other)


class _InARow:
    """Kept layers one after the other, for inputs that fit: nobody could tell the difference."""

    def __init__(self, links: list[_Link], steps: int, change: int) -> None:
        self.links = links
        self.steps = steps  # of the Sequential
        self.change = change  # the last one of any module before the layers were looked at
        self._untouched = Untouched.of_all(kept.untouched for kept, _ in links)
        self._backend = links[0][0].backend
        convs, adds = zip(*[(kept.run, add) for kept, add in links])
        self._run = self._backend.keep_sequence(convs, adds)
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
        for kept, add in self.links:
            made = kept.made(maps[-1], input.dtype)
            if made is None or (add is not None and made != maps[add]):
                return False
            maps.append(made)
        self._fitting = fitting
        return True

    def __call__(self, input: Tensor) -> Tensor:
        return run_kept(self._run, input)


def _find_row(found: _Steps, start: int) -> _InARow | None:
    """Return the row that begins with a step, if one does: a new one, or the one there is."""
    change, position, rows = last_change(), start, found.rows
    links: list[_Link] = []
    while position < len(found) and _gather(found[position], links):
        position += 1
    row = rows.get(start)
    if row is not None and (row.links, row.steps) == (links, position - start):
        row.change = change
        return row
    row = None
    rows.pop(start, None)  # its memory is free before there is more
    if links:
        row = rows[start] = _InARow(links, position - start, change)
    return row


def _gather(step: Any, links: list[_Link]) -> bool:
    """Add the kept layers that a step consists of; False if it consists of anything else."""
    kind = type(step)
    if kind is ConvNormAct:
        kept = step.held()
        if kept is not None:
            links.append((kept, None))
        return kept is not None
    if not is_plain(step, kind):
        return False
    if kind is Sequential:
        parts, adds = step._found(), False
    elif kind.forward is Residual.forward and not step.training:
        parts, adds = step.branch(), step.use_residual
    else:
        return kind is Identity
    start = len(links)
    if all(_gather(part, links) for part in parts):
        if not adds:
            return True
        if len(links) > start and links[-1][1] is None:
            links[-1] = links[-1][0], start
            return True
    del links[start:]
    return False
