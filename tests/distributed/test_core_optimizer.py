"""`DistributedOptimizer`: gradients of all ranks in each step of an optimiser."""

from __future__ import annotations

import pytest

import lucid
from lucid import distributed, nn, optim
from tests.distributed.launch import check_ranks


@pytest.mark.parametrize("ranks", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_gradients_are_means_over_ranks(ranks: int) -> None:
    assert check_ranks(ranks, "tests/distributed/reduce.py") == "done\n"


def test_one_rank_is_the_optimizer_alone() -> None:
    weight = nn.Parameter(lucid.tensor([1.0, 2.0]))
    inner = optim.SGD([weight], lr=0.5)
    optimizer = distributed.DistributedOptimizer(inner, bucket_mb=0, wire="float16")
    with optimizer.no_sync():
        (weight * weight).sum().backward()
    assert weight.grad is not None
    gradient = weight.grad
    optimizer.synchronize()
    assert weight.grad is gradient
    assert optimizer.step(lambda: "loss") == "loss"
    assert weight.tolist() == [0.0, 0.0]
    assert optimizer.param_groups is inner.param_groups
    optimizer.zero_grad()
    assert weight.grad is None
    assert isinstance(optimizer, optim.Optimizer)


def test_bad_arguments() -> None:
    weight = nn.Parameter(lucid.tensor([1.0]))
    with pytest.raises(TypeError, match="DistributedOptimizer: expected an Optimizer, got list"):
        distributed.DistributedOptimizer([weight])  # type: ignore[arg-type]
    optimizer = optim.SGD([weight], lr=0.1)
    with pytest.raises(ValueError, match="bucket_mb must be a number of at least 0, got -1"):
        distributed.DistributedOptimizer(optimizer, bucket_mb=-1)
    with pytest.raises(ValueError, match=r"wire must be one of \('float16',\), got 'int8'"):
        distributed.DistributedOptimizer(optimizer, wire="int8")
