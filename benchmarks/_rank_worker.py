"""One rank of ``benchmarks.ranks``: ``mpiexec -n N python -m benchmarks._rank_worker SETTINGS``.

Rank 0 prints what was measured as JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import asdict, replace
from typing import Any

import numpy as np

import lucid
from lucid import _ranks, distributed, models, nn, optim
from lucid.autograd import Tensor
from lucid.distributed._step_times import StepRun, of_runs, on_a_line, time_steps
from lucid.distributed._wire import Wire, all_reduce_seconds, bandwidth
from lucid.nn import functional

LATENCY = 50e-6  # of the slower wires, in seconds
_STEPS = 3  # of a turn
_POLL = 2e-3  # seconds between two looks of an idle rank, which leaves its processor alone


class Slowed:
    """Has a rank sleep after each layer, so that it is so many times slower.

    Eight such ranks fit on two processors: each computes for an eighth of the time.
    """

    def __init__(self, model: nn.Module, factor: float) -> None:
        self.factor = factor
        self.go_on()
        for module in model.modules():
            if not list(module.children()):
                module.register_forward_hook(self.rest)
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(self.rest)

    def rest(self, *_: Any) -> None:
        """Sleep for what was computed since the last time."""
        time.sleep((self.factor - 1) * (time.process_time() - self._since))
        self.go_on()

    def go_on(self, *_: Any) -> None:
        """Count from here: what went before was no work of the model."""
        self._since = time.process_time()


class SlowWire:
    """Stands for a communicator of which every sum takes as long as it would on a slower wire.

    The wire takes one after another. The sum itself is the communicator's own.
    """

    def __init__(self, world: Any) -> None:
        self._world = world.Dup()
        self._free = 0.0
        self.wire: Wire | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def Dup(self) -> SlowWire:
        """Return itself: all sums of a rank share one wire."""
        return self

    def Iallreduce(self, send: Any, receive: Any, *args: Any, **kwargs: Any) -> Any:
        """Begin a sum."""
        request = self._world.Iallreduce(send, receive, *args, **kwargs)
        if self.wire is None:
            return request
        seconds = all_reduce_seconds(self._world.Get_size(), receive.nbytes, self.wire)
        self._free = max(self._free, time.perf_counter()) + seconds
        return _SlowRequest(request, self._free)


class _SlowRequest:
    """A sum that is not there before its time."""

    def __init__(self, request: Any, there: float) -> None:
        self._request = request
        self._there = there

    def __bool__(self) -> bool:
        return bool(self._request) or time.perf_counter() < self._there

    def Test(self) -> bool:
        """Return whether it is there."""
        self._request.Test()
        return not self

    def Wait(self) -> None:
        """Wait for it."""
        time.sleep(max(0.0, self._there - time.perf_counter()))
        self._request.Wait()


class Worker:
    """A rank: a model that trains by itself, and one that trains with those of the others."""

    def __init__(self, settings: dict[str, Any]) -> None:
        distributed.init()
        self.world = _ranks.communicator()
        self.wire = _ranks._world = SlowWire(self.world)
        self.settings = settings
        side = settings["size"]
        rng = np.random.default_rng(self.world.rank)
        self.images = rng.standard_normal((settings["batch"], 3, side, side), np.float32)
        self.slowed: list[Slowed] = []
        self.runs: dict[str, list[StepRun]] = {}
        self.alone = self._model(together=False)
        self.together = self._model(together=True)

    def _model(self, together: bool) -> tuple[nn.Module, Any]:
        lucid.manual_seed(0)
        model = models.create_model(self.settings["model"]).train()
        optimizer: Any = optim.SGD(model.parameters(), 1e-3, momentum=0.9)
        slowed = Slowed(model, self.settings["slow"]) if self.settings["slow"] > 1 else None
        if together:
            optimizer = distributed.DistributedOptimizer(optimizer, model)
        if slowed is not None:
            self.slowed.append(slowed)
            for parameter in model.parameters():  # behind the hooks of the buckets
                parameter.register_post_accumulate_grad_hook(slowed.go_on)
        return model, optimizer

    def train(self, model: nn.Module, optimizer: Any, steps: int = 1 + _STEPS) -> list[float]:
        """Return the seconds of some training steps with all ranks, without the first."""
        labels = Tensor(np.zeros(len(self.images), np.int64))
        times = []
        for _ in range(steps):
            begun = time.perf_counter()
            optimizer.zero_grad()
            functional.cross_entropy(model(Tensor(self.images)), labels).backward()
            optimizer.synchronize()
            for slowed in self.slowed:
                slowed.go_on()
            optimizer.step()
            times.append(time.perf_counter() - begun)
        return times[1:]

    def meet(self) -> None:
        """Wait for the other ranks, asleep: they have the processors to themselves."""
        request = self.world.Ibarrier()
        while not request.Test():
            time.sleep(_POLL)

    def turn(self, kind: str) -> float:
        """Return the seconds of a step on the slowest rank.

        ``one``: the first rank alone, with ``few`` a quarter of the batch; ``beside``: all ranks,
        each by itself; otherwise all ranks with the sums of their gradients, over the machine's
        memory or a wire that is named.
        """
        self.meet()
        times = [0.0]
        if kind in ("one", "few", "beside"):
            if kind == "beside" or self.world.rank == 0:
                images = self.images[: max(2, len(self.images) // 4) if kind == "few" else None]
                runs = time_steps(self.alone[0], images, 0.0)
                self.runs.setdefault(kind, []).extend(runs)
                times = [run.seconds for run in runs]
        else:
            self.wire.wire = None if kind == "memory" else Wire(bandwidth(kind), LATENCY)
            times = self.train(*self.together)
        self.meet()
        return max(self.world.allgather(statistics.median(times)))

    def measure(self) -> dict[str, Any]:
        """Return the turns, and the parts of a step of one rank and of one beside others."""
        kinds = ("one", "few", "beside", "memory", *self.settings["wires"])
        for kind in ("memory", "beside"):  # compiles kernels, fills pools
            self.turn(kind)
        self.runs.clear()
        turns: dict[str, list[float]] = {kind: [] for kind in kinds}
        for turn in range(self.settings["rounds"]):
            for place in range(len(kinds)):
                kind = kinds[(turn + place) % len(kinds)]
                turns[kind].append(self.turn(kind))
        self.meet()
        if self.settings["timeline"] is not None:
            with distributed.timeline(self.settings["timeline"]):
                self.train(*self.together, steps=1)
        if self.world.rank > 0:
            return {}
        few, one, beside = (
            of_runs(self.alone[0], len(self.images), self.runs[kind])
            for kind in ("few", "one", "beside")
        )
        few = replace(few, batch_size=max(2, len(self.images) // 4))
        parts = {"one": asdict(on_a_line(one, few)), "beside": asdict(beside)}
        return {"ranks": self.world.size, "parts": parts, "turns": turns}


def main() -> None:
    """Measure; rank 0 prints."""
    worker = Worker(json.loads(sys.argv[1]))
    measured = worker.measure()
    if worker.world.rank == 0:
        print(json.dumps(measured))


if __name__ == "__main__":
    main()
