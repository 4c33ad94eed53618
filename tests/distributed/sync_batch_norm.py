"""Run on several ranks by ``test_core_sync_batch_norm.py``: layers against those of one rank."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import lucid
from lucid import distributed, models, nn
from lucid.autograd import grad

distributed.init()
rank, size = distributed.rank(), distributed.size()
draw = np.random.default_rng(3)


def check_layers(*layers: nn.Module, shape: tuple[int, ...], parts: list[int], dtype: str) -> None:
    """Run layers on unequal parts of a batch, and on all of it; compare all that comes out."""
    tolerance = 1e-11 if dtype == "float64" else 2e-4
    x = (3 + 2 * draw.normal(size=shape)).astype(dtype)
    starts = np.cumsum([0, *parts])
    own = slice(starts[rank], starts[rank + 1])
    model = nn.Sequential(*layers).to(dtype)
    for p in model.parameters():
        p.data[...] = 1 + 0.3 * draw.normal(size=p.shape)
    alone = copy.deepcopy(model)
    kept = dict(model.named_parameters()), dict(model.named_buffers())
    found = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert found is model
    assert all(p is kept[0][name] for name, p in model.named_parameters())
    assert all(b is kept[1][name] for name, b in model.named_buffers())
    assert model.state_dict().keys() == alone.state_dict().keys()

    for _ in range(2):  # the running statistics move twice
        mine, whole = (lucid.tensor(part, dtype=dtype, requires_grad=True) for part in (x[own], x))
        y, expected = model(mine), alone(whole)
        factor = np.cos(np.arange(expected.data.size)).reshape(expected.shape).astype(dtype)
        (y * lucid.tensor(factor[own], dtype=dtype)).sum().backward()
        (expected * lucid.tensor(factor, dtype=dtype)).sum().backward()
        np.testing.assert_allclose(y.data, expected.data[own], rtol=tolerance, atol=tolerance)
        scale = np.abs(whole.grad.data).max()
        np.testing.assert_allclose(
            mine.grad.data / scale, whole.grad.data[own] / scale, atol=tolerance
        )
    for (name, p), q in zip(model.named_parameters(), alone.parameters()):
        total, wanted = distributed.all_reduce(p.grad.data), q.grad.data
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(total / scale, wanted / scale, atol=tolerance, err_msg=name)
    for (name, b), c in zip(model.named_buffers(), alone.buffers()):
        np.testing.assert_allclose(b.data, c.data, rtol=tolerance, err_msg=name)
    y, expected = model.eval()(mine), alone.eval()(whole)
    np.testing.assert_allclose(y.data, expected.data[own], rtol=tolerance, atol=tolerance)


equal, unequal = [2] * size, [1, *range(2, size + 1)]
for dtype in ("float64", "float32"):
    for parts in (equal, unequal):
        n = sum(parts)
        settings = {"parts": parts, "dtype": dtype}
        check_layers(nn.BatchNorm2d(5), shape=(n, 5, 4, 3), **settings)
        check_layers(nn.BatchNorm1d(5, momentum=None), shape=(n, 5, 4), **settings)
        check_layers(nn.BatchNorm2d(5, affine=False), shape=(n, 5, 4, 3), **settings)
        check_layers(nn.BatchNorm2d(5, bias=False), shape=(n, 5, 4, 3), **settings)
        for act in ([], [nn.ReLU()], [nn.ReLU6()]):
            conv = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), *act
            check_layers(*conv, shape=(n, 3, 9, 9), **settings)
        conv = nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        check_layers(*conv, shape=(n, 16, 6, 6), **settings)
    # Each rank may have one value a channel, or none.
    check_layers(nn.BatchNorm1d(4), shape=(size, 4), parts=[1] * size, dtype=dtype)
    check_layers(
        nn.BatchNorm1d(4), shape=(2 * size - 2, 4), parts=[0, *[2] * (size - 1)], dtype=dtype
    )

norm = nn.SyncBatchNorm(2, dtype="float64")
with pytest.raises(ValueError, match="more than one value a channel on all ranks together, got 1"):
    norm(lucid.zeros(int(rank == 0), 2, dtype="float64"))
x = lucid.randn(3, 2, dtype="float64")
x.requires_grad = True
with pytest.raises(RuntimeError, match="no second derivatives over several ranks"):
    grad((norm(x) ** 3).sum(), [x], create_graph=True)

# The model's own blocks run convolution, batch norm and clip as one operation.
model = nn.SyncBatchNorm.convert_sync_batchnorm(
    models.create_model("mobilenetv4_conv_small", num_classes=3)
)
assert not any(type(m) is nn.BatchNorm2d for m in model.modules())
y = model.train()(lucid.randn(2, 3, 32, 32)).sum()
operations, waiting = set(), [y.grad_fn]
while waiting:
    node = waiting.pop()
    operations.add(node.name)
    waiting += [e[0] for e in node.next_functions if e and not isinstance(e[0], lucid.Tensor)]
assert "ConvNormAct" in operations
assert "Conv2d" not in operations or "BatchNormTraining" in operations
if rank == 0:
    print("done")
