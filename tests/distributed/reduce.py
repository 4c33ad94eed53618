"""Run on several ranks by ``test_core_optimizer.py``: what reaches the optimiser."""

from __future__ import annotations

import numpy as np
import pytest

import lucid
from lucid import distributed, nn, optim
from lucid.optim.lr_scheduler import StepLR

distributed.init()
rank, size = distributed.rank(), distributed.size()


def same_everywhere(tensors: list[lucid.Tensor]) -> bool:
    return len(set(distributed.all_gather(b"".join(t.data.tobytes() for t in tensors)))) == 1


def wrapped(model: nn.Module, **settings) -> distributed.DistributedOptimizer:
    return distributed.DistributedOptimizer(
        optim.SGD(model.parameters(), lr=0.01, momentum=0.5), model, **settings
    )


def a_gradient_is_the_mean(**settings) -> None:
    lucid.manual_seed(rank)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    optimizer = wrapped(model, **settings)
    assert same_everywhere([*model.parameters(), *model.buffers()])
    for step in range(4):
        optimizer.zero_grad()
        (model(lucid.randn(6, 3)) ** 2).sum().backward()
        if step:  # now there are buckets, and backward may have moved them on already
            with pytest.raises(RuntimeError, match="run all but the last under no_sync"):
                (model(lucid.randn(6, 3)) ** 2).sum().backward()
            continue
        own = [p.grad.data.copy() for p in model.parameters()]
        expected = [np.mean(distributed.all_gather(grad), 0) for grad in own]
        optimizer.synchronize()
        for p, mean in zip(model.parameters(), expected):
            rounding = 1e-2 if settings.get("wire") else 1e-5
            np.testing.assert_allclose(p.grad.data, mean, rtol=rounding, atol=rounding)
        optimizer.step()
        assert same_everywhere(list(model.parameters()))


def gradients_of_some_ranks_only() -> None:
    """What one rank alone uses counts as 0 on the others; what none uses has no gradient."""
    used, some, none = (nn.Parameter(lucid.ones(3)) for _ in range(3))
    frozen = nn.Parameter(lucid.ones(3), requires_grad=False)
    optimizer = distributed.DistributedOptimizer(
        optim.SGD([used, some, none, frozen], lr=1.0, weight_decay=0.5), bucket_mb=0
    )
    for step in range(3):
        optimizer.zero_grad()
        loss = (used * 2).sum()
        if rank == step % size:
            loss = loss + some.sum()
        loss.backward()
        optimizer.synchronize()
        assert used.grad.tolist() == [2.0] * 3
        assert some.grad.tolist() == [np.float32(1) / np.float32(size)] * 3
        assert none.grad is None
        optimizer.step()
        assert same_everywhere([used, some])
    assert none.tolist() == frozen.tolist() == [1.0] * 3  # not decayed
    frozen.requires_grad_()
    optimizer.zero_grad()
    (frozen * rank).sum().backward()
    optimizer.step()
    assert frozen.tolist() == [0.5 - (size - 1) / 2] * 3
    optimizer.zero_grad()
    if rank == 0:  # the others have no backward at all
        (frozen * size).sum().backward()
    optimizer.step()
    assert same_everywhere([frozen])


def steps_that_are_left_out() -> None:
    weight = nn.Parameter(lucid.zeros(2, 2))
    optimizer = distributed.DistributedOptimizer(optim.SGD([weight], lr=1.0))
    for _ in range(3):
        (weight * rank).sum().backward()
        optimizer.zero_grad()  # no step
    with optimizer.no_sync():
        (weight * rank).sum().backward()
        (weight * rank).sum().backward()
    assert weight.grad.tolist() == [[2.0 * rank] * 2] * 2
    optimizer.step()  # averages nevertheless
    assert weight.tolist() == [[-(size - 1.0)] * 2] * 2
    optimizer.zero_grad()

    def closure() -> float:
        (weight * size).sum().backward()
        return 3.0

    assert optimizer.step(closure) == 3.0
    assert weight.tolist() == [[-(size - 1.0) - size] * 2] * 2


def settings_and_state_are_the_optimisers() -> None:
    lucid.manual_seed(rank)
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    inner = optim.AdamW(first.parameters(), lr=0.25)
    optimizer = distributed.DistributedOptimizer(inner, first)
    optimizer.add_param_group({"params": list(second.parameters()), "lr": 0.5})
    schedule = StepLR(optimizer, 1, gamma=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        second(first(lucid.randn(4, 2))).sum().backward()
        optimizer.step()
        schedule.step()
    assert same_everywhere([*first.parameters(), *second.parameters()])
    assert [group["lr"] for group in inner.param_groups] == [0.25 / 8, 0.5 / 8]
    assert optimizer.state is inner.state
    state = optimizer.state_dict()
    assert state.keys() == inner.state_dict().keys()
    optimizer.load_state_dict(state)
    assert optimizer.param_groups is inner.param_groups


a_gradient_is_the_mean()
a_gradient_is_the_mean(bucket_mb=0)
a_gradient_is_the_mean(wire="float16", bucket_mb=5e-5)
gradients_of_some_ranks_only()
steps_that_are_left_out()
settings_and_state_are_the_optimisers()
if rank == 0:
    print("done")
