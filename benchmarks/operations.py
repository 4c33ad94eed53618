"""Every operation of two commits beside each other in one process: did a change cost time?

    python -m benchmarks.operations HEAD~5                    # HEAD~5 and the working tree
    python -m benchmarks.operations v0.1.0 --backend numba --only sum softmax
    python -m benchmarks.operations HEAD HEAD                 # what is noise

Both are packages of one process, so each pair of timings sees the same memory and the same load: of
small arrays two processes tell nothing (they differ by 20 %). Each pair has new memory, and there
are so many that the interval of the median ratio new/old is above 1.02 or below it: what the mark
says is then no chance.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.between import WORKING_TREE, lay_out

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((64, 1000)).astype(np.float32)
MAPS = RNG.standard_normal((16, 32, 28, 28)).astype(np.float32)
KERNEL = RNG.standard_normal((32, 32, 3, 3)).astype(np.float32)
DEPTHWISE = RNG.standard_normal((32, 1, 3, 3)).astype(np.float32)
MATRIX = RNG.standard_normal((1000, 256)).astype(np.float32)
LABELS = RNG.integers(0, 1000, 64)
POSITIONS = RNG.integers(0, 64, ROWS.shape)

LIMIT = 1.02  # what is above counts as slower
LOOKS = (32, 64, 128, 256)  # pairs of timings after which there may be enough

# A call of lucid (or its older self) and of a tensor.
Call = Callable[[Any, Any], Any]


def of_functional(name: str, *args: Any, **kwargs: Any) -> Call:
    """Return the call of a function of ``nn.functional``."""
    return lambda lib, x: getattr(lib.nn.functional, name)(x, *args, **kwargs)


def of_lucid(name: str, *args: Any) -> Call:
    """Return the call of a function of ``lucid``; of values and indices, the values."""

    def call(lib: Any, x: Any) -> Any:
        y = getattr(lib, name)(x, *args)
        return y[0] if isinstance(y, tuple) else y

    return call


def against_zeros(name: str) -> Call:
    """Return the call of a loss with a target of zeros."""
    return lambda lib, x: getattr(lib.nn.functional, name)(x, lib.zeros(x.shape))


ACTIVATIONS = (
    "relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "sigmoid", "gelu", "tanh",
    "elu", "celu", "selu", "softplus", "mish", "logsigmoid", "leaky_relu",
)  # fmt: skip
ELEMENTWISE = ("exp", "abs", "sign", "sqrt", "square", "log1p", "sin", "reciprocal", "neg")
REDUCTIONS = ("sum", "mean", "var", "std", "max", "min", "amax", "prod", "cumsum", "logsumexp")

OPERATIONS: dict[str, tuple[Call, np.ndarray]] = {
    **{name: (of_functional(name), MAPS) for name in ACTIVATIONS},
    **{f"{name} rows": (of_functional(name), ROWS) for name in ACTIVATIONS},
    **{name: (of_lucid(name), MAPS) for name in ELEMENTWISE},
    **{f"{name} {dim}": (of_lucid(name, dim), MAPS) for name in REDUCTIONS for dim in (0, 1)},
    **{f"{name} rows {dim}": (of_lucid(name, dim), ROWS) for name in REDUCTIONS for dim in (0, 1)},
    "argmax": (of_lucid("argmax", 1), ROWS),
    "sort": (of_lucid("sort", 1), ROWS),
    "mean of images": (lambda lib, x: x.mean((2, 3)), MAPS),
    "mean of channels": (lambda lib, x: x.mean((0, 2, 3)), MAPS),
    "softmax": (of_functional("softmax", -1), ROWS),
    "softmax 0": (of_functional("softmax", 0), ROWS),
    "softmax of channels": (of_functional("softmax", 1), MAPS),
    "log_softmax": (of_functional("log_softmax", -1), ROWS),
    "cross_entropy": (
        lambda lib, x: lib.nn.functional.cross_entropy(x, lib.tensor(LABELS)),
        ROWS,
    ),
    **{
        name: (against_zeros(name), ROWS)
        for name in ("binary_cross_entropy_with_logits", "mse_loss", "l1_loss", "huber_loss")
    },
    "kl_div": (lambda lib, x: lib.nn.functional.kl_div(x, lib.ones(x.shape)), ROWS),
    "clamp": (lambda lib, x: x.clamp(-1, 1), MAPS),
    "where": (lambda lib, x: lib.where(x > 0, x, -x), MAPS),
    "cat": (lambda lib, x: lib.cat([x, x], 1), MAPS),
    "stack": (lambda lib, x: lib.stack([x, x], 1), MAPS),
    **{
        f"pad {mode}": (of_functional("pad", (1, 1, 1, 1), mode=mode), MAPS)
        for mode in ("constant", "reflect", "replicate", "circular")
    },
    "add": (lambda lib, x: x + x, MAPS),
    "add rows": (lambda lib, x: x + x[:1], ROWS),
    "mul": (lambda lib, x: x * x, MAPS),
    "div": (lambda lib, x: x / (x + 10), MAPS),
    "pow": (lambda lib, x: x**3, MAPS),
    "matmul": (lambda lib, x: x @ lib.tensor(MATRIX), ROWS),
    "linear": (lambda lib, x: lib.nn.functional.linear(x, lib.tensor(MATRIX.T)), ROWS),
    "conv2d": (lambda lib, x: lib.nn.functional.conv2d(x, lib.tensor(KERNEL), padding=1), MAPS),
    "conv2d depthwise": (
        lambda lib, x: lib.nn.functional.conv2d(x, lib.tensor(DEPTHWISE), padding=1, groups=32),
        MAPS,
    ),
    "max_pool2d": (of_functional("max_pool2d", 2), MAPS),
    "avg_pool2d": (of_functional("avg_pool2d", 2), MAPS),
    "adaptive_avg_pool2d": (of_functional("adaptive_avg_pool2d", 1), MAPS),
    "layer_norm": (of_functional("layer_norm", (1000,)), ROWS),
    "group_norm": (of_functional("group_norm", 4), MAPS),
    "instance_norm": (of_functional("instance_norm"), MAPS),
    "batch_norm": (of_functional("batch_norm", None, None, training=True), MAPS),
    "interpolate": (of_functional("interpolate", scale_factor=2.0, mode="bilinear"), MAPS),
    "interpolate nearest": (of_functional("interpolate", scale_factor=2.0), MAPS),
    "gather": (lambda lib, x: lib.gather(x, 0, lib.tensor(POSITIONS)), ROWS),
    "index": (lambda lib, x: x[LABELS % 64], ROWS),
    "scatter_add": (
        lambda lib, x: lib.zeros(64, 1000).scatter_add(0, lib.tensor(POSITIONS), x),
        ROWS,
    ),
    "einsum": (lambda lib, x: lib.einsum("bchw,bdhw->bcd", x, x), MAPS),
    "cosine_similarity": (lambda lib, x: lib.nn.functional.cosine_similarity(x, x), ROWS),
    "normalize": (of_functional("normalize"), ROWS),
    "glu": (of_functional("glu"), ROWS),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print, the slowest ratios first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operations")
    parser.add_argument("old", help="a commit")
    parser.add_argument("new", nargs="?", default=WORKING_TREE, help=f"default: {WORKING_TREE}")
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[""], help="how names begin")
    parser.add_argument(
        "--repeats", type=int, default=512, help="pairs of timings at most (default: 512)"
    )
    args = parser.parse_args(argv)
    keep_memory()
    with tempfile.TemporaryDirectory() as temporary:
        libs = [
            load(commit, Path(temporary), name)
            for commit, name in ((args.old, "older_lucid"), (args.new, "newer_lucid"))
        ]
        for lib in libs:
            lib.kernels.set_backend(args.backend)
        lines = []
        for name, (call, array) in OPERATIONS.items():
            if not name.startswith(tuple(args.only)):
                continue
            for gradient in (False, True):
                if gradient and name == "argmax":
                    continue
                what = f"{name}, with gradient" if gradient else name
                lines.append((*compare(libs, call, array, gradient, args.repeats), what))
    print(f"{args.new} / {args.old}, {args.backend}: median ratio, its interval, fastest ratio,")
    print(f"microseconds before; ! the interval is above {LIMIT}, ? {LIMIT} is in it")
    for median, low, high, fastest, before, what in sorted(lines, reverse=True):
        mark = "!" if low > LIMIT else "?" if high > LIMIT else " "
        ratios = f"{median:7.3f} {mark}{low:7.3f}{high:7.3f}{fastest:7.3f}"
        print(f"{what:50}{ratios}{1e6 * before:10.1f}")
    return 0


def keep_memory() -> None:
    """Have the C library keep what is freed, where it can be told so (glibc).

    It gives back to the system what lies at the end of its heap: whether a call's arrays do is
    chance, and costs 1536 page faults a call, or none.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 1 << 25)  # as much as it takes


def load(commit: str, folder: Path, name: str) -> Any:
    """Return the ``lucid`` of a commit, imported under another name."""
    package = lay_out(commit, folder / "of" / name) / "lucid"
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"\blucid\b", name, text), encoding="utf-8")
    package.rename(folder / name)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # to stay: processes that compile kernels import it from there
    return importlib.import_module(name)


def compare(
    libs: Sequence[Any], call: Call, array: np.ndarray, gradient: bool, most: int
) -> tuple[float, float, float, float, float]:
    """Return the median ratio, its interval, the fastest timings' ratio, and the first's seconds.

    There are as many pairs as tell on which side of the limit the interval is, up to ``most``.
    """
    rng = np.random.default_rng(0)
    times: list[list[float]] = [[], []]
    ratios: list[float] = []
    calls = 1
    while len(ratios) < most:
        # Where arrays begin is worth some per cent, for the inputs as for what malloc gives next.
        gap = np.empty(rng.integers(1 << 16), np.uint8)
        memory = np.empty(array.size + 1024, array.dtype)
        start = 16 * rng.integers(64)
        values = memory[start : start + array.size].reshape(array.shape)
        values[...] = array
        runs = [timing(lib, call, values, gradient) for lib in libs]
        first = len(ratios) % 2
        pair = [0.0, 0.0]
        for which in (first, 1 - first):
            pair[which] = seconds(runs[which], calls)
        if calls == 1 and 2 * pair[1] < 1e-3:
            calls = int(1e-3 / pair[1])
            continue
        ratios.append(pair[1] / pair[0])
        for which in (0, 1):
            times[which].append(pair[which])
        del gap
        low, high = interval(ratios)
        # A look after every pair would find chance sooner or later.
        if len(ratios) in LOOKS and not low < LIMIT < high:
            break
    fastest = [min(of_one) for of_one in times]
    return statistics.median(ratios), low, high, fastest[1] / fastest[0], fastest[0]


def timing(lib: Any, call: Call, values: np.ndarray, gradient: bool) -> Callable[[], None]:
    """Return what is timed: the operation, and with ``gradient`` the way back from its sum."""
    x = lib.from_numpy(values).requires_grad_(gradient)  # both read the same memory

    def run() -> None:
        y = call(lib, x)
        if gradient:
            x.grad = None
            y.sum().backward()

    run()  # compiles where the backend does
    return run


def seconds(run: Callable[[], None], calls: int) -> float:
    """Return how long a call takes."""
    gc.collect(0)
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls
    finally:
        gc.enable()


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Return the ratios between which the true median is, all but 3 times in a thousand."""
    ordered, count = sorted(ratios), len(ratios)
    aside = 1.5 * count**0.5
    low, high = int(count / 2 - aside), int(count / 2 + aside)
    return ordered[max(0, low)], ordered[min(count - 1, high)]


if __name__ == "__main__":
    sys.exit(main())
