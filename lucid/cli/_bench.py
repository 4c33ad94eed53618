"""``lucid bench``: how fast this machine runs a model, and what takes the time."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import lucid
from lucid import kernels, models, nn
from lucid._compile import compile as compile_model
from lucid.autograd import Tensor, no_grad
from lucid.cli._arguments import (
    AddCommand,
    add_input,
    input_shape,
    model_name,
    positive_float,
    positive_int,
)
from lucid.cli._errors import CommandError
from lucid.cli._output import add_format, add_overwrite, check_new, write
from lucid.cli._step_layers import clocked
from lucid.distributed._step_times import time_steps
from lucid.graph import evaluation
from lucid.training._environment import processor
from lucid.visual import summary
from lucid.visual._summary import table

_PEAK_SIZE = 2048
_FEWEST_RUNS = 3
_LAYER_RUNS = 5
_SMALL = 1e-3  # of the whole: steps without products below it share a row


@dataclass
class Layer:
    """A step of a plan, or a layer of a model."""

    name: str
    kind: str
    shape: tuple[int, ...]
    ms: float
    macs: int
    forward_ms: float = 0.0  # of a training step
    backward_ms: float = 0.0
    products: int = 1  # how often it multiplies so much


@dataclass
class Measurement:
    """One backend in one way of running: ``runs_ms`` in order, ``layers`` where asked for."""

    backend: str
    how: str
    macs: int
    images: int
    runs_ms: list[float]
    phases_ms: dict[str, float] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)

    @property
    def median_ms(self) -> float:
        """The median of the runs."""
        return statistics.median(self.runs_ms)

    @property
    def gflops(self) -> float:
        """Thousand million floating-point operations a second; a multiply-add is two."""
        return _gflops(self.macs, self.median_ms)


def add_parsers(add_command: AddCommand) -> None:
    """Add the command."""
    parser = add_command(
        "bench",
        bench,
        "Measure how fast this machine runs a model. Inference layer by layer (eager) and "
        "compiled, or a training step, with each backend there is; beside them the time that the "
        "multiply-adds alone would take at the speed of a large matrix product.",
        "  lucid bench\n"
        "  lucid bench --model mobilenet_v4_hybrid_medium --batch-size 16 --layers\n"
        "  lucid bench --training --batch-size 16 --backend numpy",
    )
    parser.add_argument(
        "--model",
        default="mobilenet_v4_conv_small",
        help="a name that `lucid models` lists (default: mobilenet_v4_conv_small)",
    )
    add_input(parser)
    parser.add_argument(
        "--backend",
        choices=("numpy", "numba", "both"),
        default="both",
        help="both measures what is installed (default: both)",
    )
    parser.add_argument(
        "--threads", type=positive_int, help="default: OMP_NUM_THREADS, or one a processor"
    )
    parser.add_argument(
        "--training",
        action="store_true",
        help="a step of training (forward, cross-entropy, backward, SGD) instead of inference",
    )
    parser.add_argument(
        "--layers",
        action="store_true",
        help="time each layer too: of the compiled plan; with --training, forward and backward, as "
        "operations run in the step",
    )
    parser.add_argument(
        "--seconds",
        type=positive_float,
        default=2.0,
        help=f"for each measurement, at least {_FEWEST_RUNS} runs (default: 2)",
    )
    add_format(parser, "--json")
    add_overwrite(parser)


def bench(args: argparse.Namespace) -> int:
    """Run ``lucid bench``."""
    name = model_name(args.model)
    if args.json not in (None, "-"):
        check_new(Path(args.json), "--json", args.overwrite)
    lucid.manual_seed(0)
    model = models.create_model(name, in_channels=args.channels)
    rng = np.random.default_rng(0)
    images = rng.standard_normal(input_shape(args)).astype(np.float32)
    try:
        counted = summary(model, images.shape)
    except ValueError as error:
        raise CommandError(f"--size {'x'.join(map(str, args.size))}: {error}") from error

    before = kernels.get_backend()
    try:
        kernels.set_backend("numpy")
        threads = args.threads or kernels.get_num_threads()
        kernels.set_num_threads(threads)
        peak = _peak_gflops()
        measured: list[Measurement] = []
        for backend in _backends(args.backend):
            kernels.set_backend(backend)
            kernels.set_num_threads(threads)
            kernels.warm_up()
            if args.training:
                measured.append(_training(model, images, counted.total_macs, backend, args))
            else:
                measured += _inference(model, images, counted.total_macs, backend, args)
    finally:
        kernels.set_backend(before)

    # A step's backward pass has two products for each of the forward pass.
    floor = _ms(counted.total_macs * (3 if args.training else 1), peak)
    facts = {
        "model": name,
        "input_shape": list(images.shape),
        "mode": "training" if args.training else "inference",
        "processor": processor(),
        "threads": threads,
        "lucid": lucid.__version__,
        "numpy": np.__version__,
        "multiply_adds": counted.total_macs,
        "peak_gflops": peak,
        "arithmetic_ms": floor,
    }
    if args.json is not None:
        rows = [
            {**asdict(one), "median_ms": one.median_ms, "gflops": one.gflops} for one in measured
        ]
        write(json.dumps({**facts, "measurements": rows}, indent=1) + "\n", args.json)
    if args.json != "-":
        print(_text(facts, measured))
    return 0


def _backends(wanted: str) -> list[str]:
    """Return the backends to measure; with "both" those that are installed."""
    if wanted != "both":
        return [wanted]
    found = []
    for name in kernels.available_backends():
        try:
            kernels.set_backend(name)
        except ImportError as error:
            print(f"lucid bench: {name} is left out: {error}", file=sys.stderr)
        else:
            found.append(name)
    return found


# -- measuring --------------------------------------------------------------------------------


def _times(run: Callable[[], Any], seconds: float) -> list[float]:
    """Return the ms of each run but the first, which warms up."""
    run()
    runs: list[float] = []
    while len(runs) < _FEWEST_RUNS or sum(runs) < seconds * 1e3:
        start = time.perf_counter()
        run()
        runs.append((time.perf_counter() - start) * 1e3)
    return runs


def _peak_gflops() -> float:
    """Return the best speed of a large float32 matrix product on the same threads."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((_PEAK_SIZE, _PEAK_SIZE), dtype=np.float32) for _ in range(2))
    out = np.empty_like(a)
    best = min(_times(lambda: np.matmul(a, b, out=out), 0.3))
    return _gflops(_PEAK_SIZE**3, best)


def _inference(
    model: Any, images: np.ndarray, macs: int, backend: str, args: argparse.Namespace
) -> list[Measurement]:
    x = Tensor(images)
    plan = compile_model(model, images.shape)
    with evaluation(model), no_grad():
        eager = _times(lambda: model(x), args.seconds)
    compiled = _times(lambda: plan(images), args.seconds)
    result = [
        Measurement(backend, "eager", macs, len(images), eager),
        Measurement(backend, "compiled", macs, len(images), compiled),
    ]
    if args.layers:
        runs = [plan.timed(images) for _ in range(_LAYER_RUNS)]
        result[1].layers = [
            Layer(
                info.name,
                info.kind,
                info.shape,
                statistics.median(run[position][1] for run in runs) * 1e3,
                info.macs,
            )
            for position, (info, _) in enumerate(runs[0])
        ]
    return result


def _training(
    model: Any, images: np.ndarray, macs: int, backend: str, args: argparse.Namespace
) -> Measurement:
    runs = time_steps(model, images, args.seconds)
    times = [run.seconds * 1e3 for run in runs]
    result = Measurement(backend, "training step", 3 * macs, len(images), times)
    result.phases_ms = {
        part: statistics.median(getattr(run, part) for run in runs) * 1e3
        for part in ("forward", "backward", "optimizer")
    }
    if args.layers:
        result.layers = _layers_of_step(model, images, args.seconds)
    return result


def _layers_of_step(model: nn.Module, images: np.ndarray, seconds: float) -> list[Layer]:
    """Return the operations of a training step, and what is none, with medians of their times."""
    with clocked(model) as steps:
        runs = time_steps(model, images, seconds)
    del steps[0]  # which warmed up
    rests = [
        (
            run.forward - sum(ran.forward for ran in step),
            run.backward - sum(ran.backward for ran in step),
        )
        for run, step in zip(runs, steps)
    ]

    def layer(name: str, kind: str, forward: list[float], backward: list[float]) -> Layer:
        there, back = (statistics.median(part) * 1e3 for part in (forward, backward))
        return Layer(name, kind, (), there + back, 0, there, back)

    layers = []
    for same in zip(*steps):  # the operations at one place of each step
        first = same[0]
        name = "(behind the model)" if first.name is None else first.name
        one = layer(name, first.kind, [r.forward for r in same], [r.backward for r in same])
        layers.append(replace(one, shape=first.shape, macs=first.macs, products=first.products))
    layers.append(layer("(between operations)", "", *map(list, zip(*rests))))
    update = statistics.median(run.optimizer for run in runs) * 1e3
    layers.append(Layer("(optimizer)", "", (), update, 0))
    return layers


# -- showing ----------------------------------------------------------------------------------


def _gflops(macs: int, ms: float) -> float:
    return 2e-6 * macs / ms if ms else 0.0


def _ms(macs: int, gflops: float) -> float:
    return 2e-6 * macs / gflops


def _text(facts: dict[str, Any], measured: list[Measurement]) -> str:
    shape = "×".join(str(size) for size in facts["input_shape"])
    lines = [
        f"{facts['model']}, {facts['mode']}, {shape}, float32",
        f"{facts['processor']}, {facts['threads']} thread{'s' * (facts['threads'] != 1)}, "
        f"lucid {facts['lucid']}, NumPy {facts['numpy']}",
        f"a large matrix product runs at {facts['peak_gflops']:.0f} GFLOP/s: "
        f"the multiply-adds alone would take {facts['arithmetic_ms']:.2f} ms",
        "",
    ]
    header = ("backend", "how", "median ms", "fastest", "images/s", "GFLOP/s", "× arithmetic")
    rows = [
        (
            one.backend,
            one.how,
            f"{one.median_ms:.2f}",
            f"{min(one.runs_ms):.2f}",
            f"{one.images / one.median_ms * 1e3:.1f}",
            f"{one.gflops:.1f}",
            f"{one.median_ms / facts['arithmetic_ms']:.2f}",
        )
        for one in measured
    ]
    lines.append(table([header, *rows], left=2))
    for one in measured:
        if one.phases_ms:
            parts = ", ".join(f"{name} {ms:.2f} ms" for name, ms in one.phases_ms.items())
            lines.append(f"{one.backend}: {parts}")
    for one in measured:
        if one.layers:
            lines += ["", f"{one.backend}, {one.how}", _layer_table(one.layers)]
            lines += ["", _kind_table(one.layers)]
    return "\n".join(lines)


def _layer_table(layers: list[Layer]) -> str:
    total = sum(layer.ms for layer in layers) or 1.0
    of_step = any(layer.forward_ms for layer in layers)
    header = ("layer", "what ran", *(() if of_step else ("output shape",)), *_header(layers))
    rows, small = [], []
    for layer in layers:
        if layer.ms < _SMALL * total and not layer.macs:
            small.append(layer)
            continue
        shape = () if of_step else ("×".join(str(size) for size in layer.shape),)
        rows.append((layer.name or "(the model)", layer.kind, *shape, *_numbers([layer], layers)))
    nothing = ("",) * (1 if of_step else 2)
    if small:
        rows.append((f"({len(small)} smaller steps)", *nothing, *_numbers(small, layers)))
    rows.append(("total", *nothing, *_numbers(layers, layers)))
    return table([header, *rows], left=2 if of_step else 3)


def _kind_table(layers: list[Layer]) -> str:
    kinds: dict[str, list[Layer]] = {}
    for layer in layers:
        kinds.setdefault(layer.kind.partition(" + ")[0] or layer.name, []).append(layer)
    ordered = sorted(kinds.items(), key=lambda item: -sum(layer.ms for layer in item[1]))
    rows = [(kind, str(len(same)), *_numbers(same, layers)) for kind, same in ordered]
    return table([("kind", "steps", *_header(layers)), *rows], left=1)


def _header(layers: list[Layer]) -> tuple[str, ...]:
    of_step = any(layer.forward_ms for layer in layers)
    return *(("forward ms", "backward ms") if of_step else ()), "ms", "share", "GFLOP/s"


def _numbers(some: list[Layer], layers: list[Layer]) -> tuple[str, ...]:
    """Return what :func:`_header` names, for some of the layers."""
    forward, backward, ms = (
        sum(getattr(layer, part) for layer in some) for part in ("forward_ms", "backward_ms", "ms")
    )
    done = sum(layer.macs * layer.products for layer in some)
    parts: tuple[str, ...] = ()
    if any(layer.forward_ms for layer in layers):
        parts = (f"{forward:.3f}", f"{backward:.3f}") if forward or backward else ("", "")
    share = 100 * ms / (sum(layer.ms for layer in layers) or 1.0)
    return *parts, f"{ms:.3f}", f"{share:.1f} %", f"{_gflops(done, ms):.1f}" if done else ""
