"""What was compared, and what came of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.peer.compare import Problem
from tests.peer.differences import DIFFERENCES, Difference


@dataclass(frozen=True)
class Case:
    """One call that both libraries make.

    Args:
        name: lucid's name, as it is called: ``lucid.add``, ``F.relu``, ``Tensor.add_``.
        sample: where the arguments come from: PyTorch's name of the operation, with its variant.
        dtype: PyTorch's name of the dtype.
        layout: how the arguments lie in memory.
        args: the arguments, PyTorch's.
        kwargs: those by name.
        finish: what PyTorch's sample makes of a result before it is compared.
    """

    name: str
    sample: str
    dtype: str = ""
    layout: str = ""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    finish: Callable[[Any], Any] = lambda value: value

    @cached_property
    def who(self) -> str:
        """The name without its home and the underscore of the form in place."""
        name = self.name.rpartition(".")[2]
        return name if name.startswith("_") else name.rstrip("_")

    def __str__(self) -> str:
        arguments = [brief(arg) for arg in self.args]
        arguments += [f"{key}={brief(value)}" for key, value in self.kwargs.items()]
        return f"{self.name}({', '.join(arguments)}) [{self.sample}, {self.dtype}, {self.layout}]"


def brief(value: Any) -> str:
    """Return an argument in a few words: small tensors with values, large ones by shape."""
    if hasattr(value, "detach"):
        kind = str(value.dtype).removeprefix("torch.")
        if value.numel() <= 3:
            return f"{kind}{value.tolist()}" if value.numel() else f"{kind}{tuple(value.shape)}"
        return f"{kind}{tuple(value.shape)}"
    if isinstance(value, (tuple, list)) and any(hasattr(item, "detach") for item in value):
        return "[" + ", ".join(map(brief, value)) + "]"
    text = repr(value).removeprefix("torch.")
    return text if len(text) < 80 else text[:77] + "..."


@dataclass
class Failures:
    """The failures of one name and kind: how many, and one example of each message."""

    names: Counter[str] = field(default_factory=Counter)
    dtypes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)


@dataclass
class Tally:
    """Counts the cases, and keeps the failures by kind."""

    backends: tuple[str, ...]
    names: set[str] = field(default_factory=set)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: dict[tuple[str, str], Failures] = field(default_factory=lambda: defaultdict(Failures))
    covered: Counter[int] = field(default_factory=Counter)
    found: Counter[int] = field(default_factory=Counter)

    def add(self, backend: str, case: Case, problem: Problem | None) -> None:
        """Count a case, as equal, as a documented difference, or as a failure."""
        self.names.add(case.name)
        documented = False
        for number, difference in enumerate(DIFFERENCES):
            if difference.covers(case):
                self.covered[number] += 1
                if problem is not None and difference.explains(problem):
                    self.found[number] += 1
                    documented = True
        if problem is None:
            self.counts[backend, "equal"] += 1
        elif documented:
            self.counts[backend, "documented"] += 1
        else:
            self.counts[backend, "failed"] += 1
            failures = self.failures[case.who, problem.kind]
            failures.names[case.name] += 1
            failures.dtypes[case.dtype] += 1
            begin = problem.text[:40]
            if begin not in failures.examples:
                failures.examples[begin] = f"    {case}\n        {backend}: {problem.text}"

    def stale(self, whole: bool) -> list[Difference]:
        """Return the entries of the table that no longer tell a difference."""
        return [
            difference
            for number, difference in enumerate(DIFFERENCES)
            if not self.found[number] and (whole or self.covered[number])
        ]

    def report(self, examples: int = 1) -> str:
        """Return the failures grouped by name and kind, with examples."""
        lines = []
        for (who, kind), failures in sorted(self.failures.items()):
            counts = ", ".join(f"{name} {count}" for name, count in failures.names.items())
            total = failures.names.total()
            lines.append(f"{who}: {kind}: {total} ({counts}; {', '.join(failures.dtypes)})")
            lines += list(failures.examples.values())[:examples]
        return "\n".join(lines)

    def totals(self) -> str:
        """Return the totals, one line a backend."""
        lines = [f"{len(self.names)} names of lucid"]
        for backend in self.backends:
            equal, documented, failed = (
                self.counts[backend, what] for what in ("equal", "documented", "failed")
            )
            lines.append(
                f"{backend}: {equal + documented + failed} comparisons, {equal} equal, "
                f"{documented} documented differences, {failed} failures"
            )
        return "\n".join(lines)
