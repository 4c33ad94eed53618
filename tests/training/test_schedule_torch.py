"""The schedule of runs against PyTorch's, and stochastic depth against timm's."""

from __future__ import annotations

import numpy as np
import pytest

import lucid
from lucid import models, training
from lucid.nn.functional import dropout
from lucid.nn.modules._residual import joined

torch = pytest.importorskip("torch")

from tests.timm_import import import_timm  # noqa: E402


@pytest.mark.parametrize(("total", "warmup"), [(40, 4), (25, 10), (12, 2)])
def test_warm_up_and_cosine(total: int, warmup: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rising = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, total_iters=warmup - 1)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - warmup)
    both = torch.optim.lr_scheduler.SequentialLR(optimizer, [rising, falling], [warmup])
    for step in range(total):
        factor = training.warmup_cosine(step, total, warmup)
        assert factor == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step
        optimizer.step()
        both.step()


def test_drop_path(monkeypatch: pytest.MonkeyPatch) -> None:
    import_timm()
    from timm.layers import drop_path

    model = models.mobilenetv4_conv_small_035(num_classes=2, drop_path_rate=0.6)
    block = model.layers[2][2]
    assert block.use_residual
    assert 0 < block.drop_path < 0.6
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, 16, 3, 4, 4)).astype(np.float32)
    lucid.manual_seed(1)
    ours = joined(block, lucid.tensor(x), lucid.tensor(y)).numpy()
    lucid.manual_seed(1)  # the numbers that were drawn, for timm
    kept = dropout(lucid.ones(16, 1, 1, 1), block.drop_path).numpy() > 0
    assert 0 < kept.sum() < 16

    def drawn(tensor: torch.Tensor, chance: float) -> torch.Tensor:
        assert chance == pytest.approx(1 - block.drop_path)
        return tensor.copy_(torch.tensor(kept))

    monkeypatch.setattr(torch.Tensor, "bernoulli_", drawn)
    theirs = torch.tensor(x) + drop_path(torch.tensor(y), block.drop_path, training=True)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-6)
