"""One case: a model, its weights and its input, written to a folder that all workers read.

Run as ``python -m benchmarks._case FOLDER`` it reads ``case.json`` there and adds

- ``state.npz``: the weights, after a pass of calibration, so that maps have the usual sizes;
- ``images.npy``, ``labels.npy``: the input, normally distributed;
- ``expected.json`` or ``expected.npy``: what lucid computes with NumPy, one layer at a time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

VARIANTS = ("conv_small", "conv_medium", "conv_large", "hybrid_medium", "hybrid_large")
MODES = ("inference", "training")
#: A new process until its first logits, or until its first training step: with what lucid compiled
#: before, or with an empty cache.
STARTS = ("start", "cold start", "cold training")
CHECKED_STEPS = 2  # the second loss tells whether gradients and update were right


@dataclass(frozen=True)
class Case:
    """What is measured: of the documentation page's ``form`` ("paper") or the released ("timm")."""

    variant: str
    mode: str
    batch: int
    size: int = 224
    form: str = "paper"
    optimizer: str = "sgd"

    def __str__(self) -> str:
        return f"{self.variant} {self.mode} batch {self.batch}"

    @property
    def trains(self) -> bool:
        """Whether training steps are measured, or inference."""
        return self.mode in ("training", "cold training")


def write_case(case: Case, folder: Path) -> None:
    """Write what describes the case; :func:`main` adds the arrays."""
    (folder / "case.json").write_text(json.dumps(asdict(case)))


def read_case(folder: Path) -> Case:
    """Return the case of a folder."""
    return Case(**json.loads((folder / "case.json").read_text()))


def configuration(case: Case) -> dict[str, dict[str, Any]]:
    """Return the configuration of the case's model."""
    from lucid.models import configs

    cfg: dict[str, dict[str, Any]] = getattr(configs, case.variant)()
    act = "gelu" if case.variant == "hybrid_large" else "relu"
    return configs.timm(cfg, act) if case.form == "timm" else cfg


def lucid_model(case: Case, folder: Path) -> Any:
    """Return lucid's model with the case's weights."""
    import lucid

    # As ``create_model`` builds what it loads weights into, and has it take their memory: the
    # other libraries draw none either.
    model = lucid.nn.utils.skip_init(lucid.models.MobileNet_V4, configuration(case))
    model.load_state_dict(lucid.load(folder / "state.npz"), assign=True)
    return model.train(case.trains)


def lucid_optimizer(case: Case, model: Any) -> Any:
    """Return the optimiser that PyTorch's side has too."""
    from lucid import optim

    if case.optimizer == "adamw":
        return optim.AdamW(model.parameters(), 1e-3)
    return optim.SGD(model.parameters(), 1e-2, momentum=0.9)


def lucid_step(case: Case, folder: Path) -> Callable[[], float]:
    """Return a training step, which returns the loss."""
    import lucid
    from lucid import nn

    model = lucid_model(case, folder)
    optimizer = lucid_optimizer(case, model)
    x = lucid.tensor(np.load(folder / "images.npy"))
    y = lucid.tensor(np.load(folder / "labels.npy"))

    def step() -> float:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _calibrate(model: Any, images: np.ndarray, rng: np.random.Generator) -> None:
    """Give batch norms and layer scales values that matter, and statistics that fit."""
    import lucid
    from lucid import nn

    for module in model.modules():
        gamma = getattr(module, "gamma", None)  # a layer scale
        if gamma is not None:
            gamma.data[...] = rng.uniform(0.1, 0.5, gamma.shape)
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data[...] = rng.uniform(0.5, 1.5, module.weight.shape)
            module.bias.data[...] = 0.1 * rng.standard_normal(module.bias.shape)
            module.momentum = 1.0
    with lucid.no_grad():
        model.train()(lucid.tensor(images[:8]))


def main(folder: Path) -> None:
    """Write the arrays of the case in ``folder``."""
    import lucid

    lucid.set_backend("numpy")
    lucid.manual_seed(0)
    case, rng = read_case(folder), np.random.default_rng(0)
    count = max(case.batch, 8)
    images = rng.standard_normal((count, 3, case.size, case.size)).astype(np.float32)
    model = lucid.models.MobileNet_V4(configuration(case))
    _calibrate(model, images, rng)
    lucid.save(model.state_dict(), folder / "state.npz")
    np.save(folder / "images.npy", images[: case.batch])
    np.save(folder / "labels.npy", rng.integers(0, 1000, case.batch))
    if case.trains:
        step = lucid_step(case, folder)
        expected = [step() for _ in range(CHECKED_STEPS)]
        (folder / "expected.json").write_text(json.dumps(expected))
    else:
        with lucid.no_grad():
            output = model.eval()(lucid.tensor(images[: case.batch]))
        np.save(folder / "expected.npy", output.data)
    layers = lucid.summary(model.eval(), (1, 3, case.size, case.size))
    facts = {"parameters": layers.total_params, "multiply_adds": layers.total_macs}
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
