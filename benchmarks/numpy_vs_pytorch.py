"""NumPy backend beside PyTorch eager: conv_small at 224×224, inference and training.

Both run in this process in alternation, each measurement beside its counterpart, so that a noisy
machine disturbs both alike; medians and their ratio are printed. The threads of OpenBLAS and of
PyTorch are set alike.

    python -m benchmarks.numpy_vs_pytorch [--threads 2] [--repeats 15]
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import statistics
import time
from collections.abc import Callable


def alternate(
    ours: Callable[[], object], theirs: Callable[[], object], repeats: int
) -> tuple[list[float], list[float]]:
    """Return the times of both in ms, run in turn after two rounds of warming up."""
    times: tuple[list[float], list[float]] = ([], [])
    for round_ in range(repeats + 2):
        for index, run in enumerate((ours, theirs)):
            start = time.perf_counter()
            run()
            if round_ >= 2:
                times[index].append((time.perf_counter() - start) * 1e3)
            time.sleep(0.05)  # lets the other's idle threads stop spinning
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)

    import numpy as np
    import torch

    import lucid
    from lucid import models, nn, optim
    from tests.reference_torch import build_conv_small

    torch.set_num_threads(arguments.threads)
    lucid.set_backend("numpy")
    lucid.manual_seed(0)
    model = models.mobilenet_v4_conv_small()
    other = build_conv_small()
    other.load_state_dict(
        {key: torch.from_numpy(np.array(value)) for key, value in model.state_dict().items()}
    )
    rng = np.random.default_rng(0)
    print(
        f"{platform.processor() or platform.machine()}, {arguments.threads} threads, "
        f"NumPy {np.__version__}, PyTorch {torch.__version__}"
    )
    print(f"{'conv_small, 224×224, float32':34}{'lucid ms':>10}{'torch ms':>10}{'ratio':>8}")

    def report(label: str, times: tuple[list[float], list[float]]) -> None:
        ours, theirs = map(statistics.median, times)
        print(f"{label:34}{ours:10.1f}{theirs:10.1f}{ours / theirs:8.2f}", flush=True)

    model.eval()
    other.eval()
    for batch in (1, 16):
        images = rng.standard_normal((batch, 3, 224, 224)).astype(np.float32)
        x, t = lucid.tensor(images), torch.from_numpy(images)
        with lucid.no_grad(), torch.inference_mode():
            difference = np.abs(model(x).numpy() - other(t).numpy()).max()
            assert difference < 1e-3, difference
            repeats = arguments.repeats * (4 if batch == 1 else 1)
            ours, theirs = functools.partial(model, x), functools.partial(other, t)
            report(f"inference, batch {batch}", alternate(ours, theirs, repeats))

    model.train()
    other.train()
    labels = rng.integers(0, 1000, 16)
    y, u = lucid.tensor(labels), torch.from_numpy(labels)
    ours_optimizer = optim.SGD(model.parameters(), 0.01, momentum=0.9)
    their_optimizer = torch.optim.SGD(other.parameters(), 0.01, momentum=0.9)

    def our_step() -> None:
        ours_optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        ours_optimizer.step()

    def their_step() -> None:
        their_optimizer.zero_grad()
        torch.nn.functional.cross_entropy(other(t), u).backward()
        their_optimizer.step()

    report(
        "training step, batch 16", alternate(our_step, their_step, max(3, arguments.repeats // 2))
    )


if __name__ == "__main__":
    main()
