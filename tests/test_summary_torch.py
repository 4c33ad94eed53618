"""lucid.summary beside PyTorch's parameter counts and its own counter of operations."""

from __future__ import annotations

import pytest

import lucid
from lucid import nn

torch = pytest.importorskip("torch")


def convolutions(n):
    return n.Sequential(
        n.Conv2d(3, 12, 3, stride=2, padding=1),
        n.BatchNorm2d(12),
        n.ReLU(),
        n.Conv2d(12, 24, (3, 5), padding=(1, 2), groups=4, bias=False),
        n.Conv2d(24, 24, 3, dilation=2, groups=24),
        n.Conv2d(24, 7, 1),
        n.AdaptiveAvgPool2d(1),
        n.Flatten(),
        n.Linear(7, 10),
    )


def linears(n):
    return n.Sequential(n.Linear(6, 20), n.GELU(), n.LayerNorm(20), n.Linear(20, 3, bias=False))


def theirs(model, *shapes):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*(torch.zeros(shape) for shape in shapes))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("build", "shape"),
    [(convolutions, (2, 3, 33, 20)), (convolutions, (1, 3, 16, 16)), (linears, (4, 5, 6))],
)
def test_counts_equal_pytorchs(build, shape):
    model = build(torch.nn).eval()
    result = lucid.summary(build(nn), shape)
    assert result.total_params == sum(p.numel() for p in model.parameters())
    assert result.total_macs == theirs(model, shape)


@pytest.mark.parametrize(("length", "source"), [(5, 5), (5, 7)])
def test_attention_equals_pytorchs(length, source):
    # In training mode without weights PyTorch takes the products one by one, where they count.
    model = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    result = lucid.summary(
        nn.MultiheadAttention(16, 4, batch_first=True),
        [(2, length, 16), (2, source, 16), (2, source, 16)],
    )
    assert result.total_params == sum(p.numel() for p in model.parameters())
    expected = theirs(model, (2, length, 16), (2, source, 16), (2, source, 16))
    assert result.total_macs == expected
