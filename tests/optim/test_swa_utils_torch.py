"""Averaged weights against PyTorch's swa_utils, and their warm-up against timm's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid
from lucid import nn, optim
from lucid.autograd import Tensor
from lucid.optim import swa_utils as ours

torch = pytest.importorskip("torch")
theirs = torch.optim.swa_utils

from tests.timm_import import import_timm  # noqa: E402


def pair() -> tuple[Any, Any]:
    """The same layers in lucid and in PyTorch, with a batch norm whose statistics are not fresh."""
    lucid.manual_seed(0)
    mine = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    other = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU())
    copy_into(other, mine)
    return mine, other


def copy_into(other: Any, mine: Any) -> None:
    other.load_state_dict(
        {name: torch.tensor(np.array(value.data)) for name, value in mine.state_dict().items()}
    )


def steps(mine: Any, other: Any, count: int) -> Any:
    """Change both models in the same way, so often, as a training would."""
    generator = np.random.default_rng(1)
    for _ in range(count):
        images = generator.normal(size=(4, 2, 6, 6)).astype(np.float32)
        mine(lucid.tensor(images))
        for parameter in mine.parameters():
            parameter.data += generator.normal(size=parameter.shape).astype(np.float32)
        copy_into(other, mine)
        yield


def assert_same(mine: Any, other: Any) -> None:
    expected = other.state_dict()
    assert set(mine.state_dict()) == set(expected)
    for name, value in mine.state_dict().items():
        np.testing.assert_allclose(
            value.data, expected[name].numpy(), rtol=2e-6, atol=2e-6, err_msg=name
        )


CASES = {
    "swa": lambda m: {},
    "swa_multi": lambda m: {"multi_avg_fn": m.get_swa_multi_avg_fn()},
    "swa_one": lambda m: {"avg_fn": m.get_swa_avg_fn()},
    "ema": lambda m: {"multi_avg_fn": m.get_ema_multi_avg_fn(0.9)},
    "ema_slow": lambda m: {"multi_avg_fn": m.get_ema_multi_avg_fn(0.25)},
    "ema_one": lambda m: {"avg_fn": m.get_ema_avg_fn(0.8)},
}


@pytest.mark.parametrize(
    ("case", "use_buffers"),
    # PyTorch's swa_multi cannot average the counts of batches.
    [(case, buffers) for case in CASES for buffers in (False, True)[: 1 + (case != "swa_multi")]],
)
def test_averages(case: str, use_buffers: bool) -> None:
    mine, other = pair()
    a = ours.AveragedModel(mine, use_buffers=use_buffers, **CASES[case](ours))
    b = theirs.AveragedModel(other, use_buffers=use_buffers, **CASES[case](theirs))
    for _ in steps(mine, other, 6):
        a.update_parameters(mine)
        b.update_parameters(other)
        assert_same(a, b)
    assert a.n_averaged.item() == 6
    images = np.random.default_rng(3).normal(size=(4, 2, 6, 6)).astype(np.float32)
    given = a.eval()(lucid.tensor(images)).detach().numpy()
    with torch.no_grad():
        np.testing.assert_allclose(given, b.eval()(torch.tensor(images)).numpy(), atol=1e-5)


def test_the_warm_up_of_timm() -> None:
    import_timm()
    from timm.utils import ModelEmaV3

    mine, other = pair()
    a = ours.AveragedModel(
        mine, multi_avg_fn=ours.get_ema_multi_avg_fn(0.7, warmup=True), use_buffers=True
    )
    b = ModelEmaV3(other, decay=0.7, use_warmup=True)
    for step, _ in enumerate(steps(mine, other, 12), start=1):
        a.update_parameters(mine)
        b.update(other, step=step)
        for name, value in a.module.state_dict().items():
            if not name.endswith("num_batches_tracked"):  # timm copies counts
                expected = b.module.state_dict()[name].numpy()
                np.testing.assert_allclose(value.data, expected, rtol=1e-5, atol=1e-6)


def test_statistics_of_a_loader() -> None:
    mine, other = pair()
    generator = np.random.default_rng(2)
    batches = [generator.normal(size=(5, 2, 6, 6)).astype(np.float32) for _ in range(3)]
    mine.eval()
    ours.update_bn([(lucid.tensor(batch), None) for batch in batches], mine)
    theirs.update_bn([torch.tensor(batch) for batch in batches], other)
    assert_same(mine, other)
    assert not any(module.training for module in mine.modules())
    assert mine[1].momentum == 0.1
    ours.update_bn([], nn.Linear(2, 2))


def test_a_saved_average_goes_on() -> None:
    mine, other = pair()
    averaged = ours.AveragedModel(mine, multi_avg_fn=ours.get_ema_multi_avg_fn(0.9))
    again = ours.AveragedModel(mine, multi_avg_fn=ours.get_ema_multi_avg_fn(0.9))
    for number, _ in enumerate(steps(mine, other, 4)):
        averaged.update_parameters(mine)
        if number == 1:
            again.load_state_dict(averaged.state_dict())
        elif number > 1:
            again.update_parameters(mine)
    for name, value in averaged.state_dict().items():
        np.testing.assert_array_equal(value.data, again.state_dict()[name].data, err_msg=name)


def test_wrong_use() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="AveragedModel: expected a module, got int"):
        ours.AveragedModel(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give avg_fn or multi_avg_fn, not both"):
        ours.AveragedModel(
            layer, avg_fn=ours.get_swa_avg_fn(), multi_avg_fn=ours.get_swa_multi_avg_fn()
        )
    with pytest.raises(ValueError, match="expected device None or 'cpu', got 'cuda'"):
        ours.AveragedModel(layer, "cuda")
    with pytest.raises(ValueError, match="decay must be between 0 and 1, got 2"):
        ours.get_ema_multi_avg_fn(2)
    with pytest.raises(ValueError, match="the parameters of the one that was copied"):
        ours.AveragedModel(layer).update_parameters(nn.Linear(3, 2))
    assert isinstance(optim.swa_utils.AveragedModel(layer).n_averaged, Tensor)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 1, 5])
def test_the_rate_goes_over_to_the_averages(strategy: Any, epochs: int) -> None:
    found = []
    for averages, optimizers, start in (
        (ours, lucid.optim, lambda: lucid.ones(1, requires_grad=True)),
        (theirs, torch.optim, lambda: torch.ones(1, requires_grad=True)),
    ):
        groups = [{"params": [start()], "lr": 0.2}, {"params": [start()], "lr": 0.4}]
        optimizer = optimizers.SGD(groups)
        before = optimizers.lr_scheduler.ExponentialLR(optimizer, 0.9)
        after = averages.SWALR(optimizer, [0.05, 0.5], epochs, strategy)
        rates = []
        for step in range(12):
            optimizer.step()
            (before if step < 4 else after).step()
            rates.append([group["lr"] for group in optimizer.param_groups])
        found.append(rates)
    np.testing.assert_allclose(*found, rtol=1e-12)
