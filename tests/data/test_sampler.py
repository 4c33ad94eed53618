"""Orders in which a loader goes over a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lucid
from lucid import data
from lucid.data import DataLoader


def test_without_replacement_each_sample_comes_once_an_order() -> None:
    lucid.manual_seed(0)
    drawn = list(data.RandomSampler(range(10), num_samples=25))
    assert len(drawn) == 25
    assert sorted(drawn[:10]) == sorted(drawn[10:20]) == list(range(10))
    assert len(set(drawn[20:])) == 5
    assert list(data.RandomSampler([])) == []


def test_with_replacement_samples_come_several_times() -> None:
    drawn = np.array(list(data.RandomSampler(range(10), True, 5000, np.random.default_rng(0))))
    counts = np.bincount(drawn, minlength=10)
    assert counts.sum() == 5000
    assert counts.min() > 400
    assert counts.max() < 600


def test_shuffling_is_a_random_sampler() -> None:
    dataset = data.TensorDataset(np.arange(20))
    lucid.manual_seed(2)
    shuffled = [x for (batch,) in DataLoader(dataset, 6, shuffle=True) for x in batch.tolist()]
    lucid.manual_seed(2)
    assert list(data.RandomSampler(dataset)) == shuffled


def test_weights_are_how_often_a_sample_comes() -> None:
    weights = np.array([1.0, 0, 3, 6])
    sampler = data.WeightedRandomSampler(weights, 20_000, generator=np.random.default_rng(0))
    share = np.bincount(list(sampler), minlength=4) / len(sampler)
    np.testing.assert_allclose(share, weights / weights.sum(), atol=0.01)
    assert share[1] == 0


def test_weights_without_replacement() -> None:
    sampler = data.WeightedRandomSampler([1, 5, 0, 1], 3, replacement=False)
    assert sorted(sampler) == [0, 1, 3]


def test_balanced_classes_come_equally_often() -> None:
    labels = np.repeat([0, 3, 7], [900, 90, 10])
    lucid.manual_seed(0)
    sampler = data.balanced(labels, 6000)
    counts = np.unique(labels[list(sampler)], return_counts=True)[1]
    np.testing.assert_allclose(counts / 6000, 1 / 3, atol=0.03)
    assert len(data.balanced(labels)) == 1000


def test_a_loader_goes_in_the_order_of_its_sampler() -> None:
    dataset = data.TensorDataset(np.arange(9) * 10)
    loader = DataLoader(dataset, 2, sampler=[8, 1, 1], drop_last=False)
    assert [batch.tolist() for (batch,) in loader] == [[80, 10], [10]]
    assert len(loader) == 2
    assert len(DataLoader(dataset, 2, sampler=[8, 1, 1], drop_last=True)) == 1


@pytest.mark.parametrize("name", ["SequentialSampler", "RandomSampler", "WeightedRandomSampler"])
def test_arguments_and_lengths_are_pytorchs(name: str) -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    calls: list[dict[str, Any]] = {
        "SequentialSampler": [{"data_source": range(7)}],
        "RandomSampler": [
            {"data_source": range(7)},
            {"data_source": range(7), "num_samples": 20},
            {"data_source": range(7), "num_samples": 3},
            {"data_source": range(7), "replacement": True, "num_samples": 20},
        ],
        "WeightedRandomSampler": [
            {"weights": [0.1, 0.9, 4], "num_samples": 5, "replacement": True},
            {"weights": [0.1, 0.9, 4], "num_samples": 3, "replacement": False},
        ],
    }[name]
    for arguments in calls:
        ours, theirs = (getattr(home, name)(**arguments) for home in (data, torch_data))
        assert len(ours) == len(theirs) == len(list(ours)) == len(list(theirs))
        if name == "SequentialSampler":
            assert list(ours) == list(theirs)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: DataLoader([1], shuffle=True, sampler=[0]),
            ValueError,
            "DataLoader: a sampler has an order of its own; leave out shuffle",
        ),
        (
            lambda: DataLoader([1], sampler=iter([0])),  # type: ignore[arg-type]
            TypeError,
            "DataLoader: a sampler needs __len__ and __iter__, which list_iterator does not have",
        ),
        (
            lambda: data.RandomSampler([1], num_samples=0),
            ValueError,
            "RandomSampler: num_samples must be at least 1, got 0",
        ),
        (
            lambda: data.WeightedRandomSampler([0, 0], 1),
            ValueError,
            "WeightedRandomSampler: expected a list of weights of at least 0, not all of them 0",
        ),
        (
            lambda: data.WeightedRandomSampler([1, -1], 1),
            ValueError,
            "WeightedRandomSampler: expected a list of weights of at least 0",
        ),
        (
            lambda: data.WeightedRandomSampler([1, 0, 2], 3, replacement=False),
            ValueError,
            "3 samples cannot be drawn without replacement from 2 of a weight above 0",
        ),
        (lambda: data.balanced([]), ValueError, "balanced: expected at least one label"),
    ],
)
def test_orders_that_cannot_be(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("length", "ranks"), [(10, 2), (11, 2), (11, 4), (3, 8), (1, 3), (16, 1)])
def test_the_order_is_divided_as_pytorch_divides_it(
    length: int, ranks: int, drop_last: bool
) -> None:
    theirs = pytest.importorskip("torch.utils.data").DistributedSampler
    for rank in range(ranks):
        settings: dict[str, Any] = {"num_replicas": ranks, "rank": rank, "drop_last": drop_last}
        ours = data.DistributedSampler(range(length), shuffle=False, **settings)
        expected = theirs(range(length), shuffle=False, **settings)
        assert list(ours) == list(expected)
        assert (len(ours), ours.total_size) == (len(expected), expected.total_size)


def test_each_epoch_has_an_order_of_its_own_that_the_ranks_share() -> None:
    samplers = [data.DistributedSampler(range(12), 3, rank, seed=5) for rank in range(3)]
    orders = []
    for epoch in (0, 0, 1):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        orders.append([list(sampler) for sampler in samplers])
        assert sorted(index for order in orders[-1] for index in order) == list(range(12))
    assert orders[0] == orders[1] != orders[2]
    assert list(data.DistributedSampler(range(4), shuffle=False)) == [0, 1, 2, 3]
    for rank, ranks in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=f"expected a rank from 0 to {ranks} - 1, got {rank}"):
            data.DistributedSampler(range(4), ranks, rank)


def test_some_samples_in_another_order() -> None:
    indices = [8, 1, 5, 3]
    sampler = data.SubsetRandomSampler(indices, np.random.default_rng(0))
    drawn = [list(sampler) for _ in range(20)]
    assert len(sampler) == 4
    assert all(sorted(order) == sorted(indices) for order in drawn)
    assert len(set(map(tuple, drawn))) > 5


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_a_sampler_of_batches(fast: bool, drop_last: bool) -> None:
    dataset: Any = data.TensorDataset(np.arange(7)) if fast else [(i,) for i in range(7)]
    batches = data.BatchSampler([6, 0, 3, 3, 1], 2, drop_last)
    loader = DataLoader(dataset, batch_sampler=batches)
    expected = [[6, 0], [3, 3], [1]][: 3 - drop_last]
    assert [x.tolist() for (x,) in loader] == expected == list(batches)
    assert len(loader) == len(batches) == len(expected)
    uneven = DataLoader(dataset, batch_sampler=[[1], [2, 3, 4]])
    assert [x.tolist() for (x,) in uneven] == [[1], [2, 3, 4]]
    with pytest.raises(ValueError, match="DataLoader: a batch_sampler makes the batches"):
        DataLoader(dataset, batch_size=2, batch_sampler=batches)


def test_arguments_of_pytorchs_loader() -> None:
    dataset = data.TensorDataset(np.arange(9))

    def order() -> list[int]:
        given = DataLoader(
            dataset, 9, True, generator=np.random.default_rng(3), pin_memory=True, num_workers=0
        )
        return next(iter(given))[0].tolist()

    assert order() == order()
    from lucid.utils.data import DataLoader as Same

    assert Same is DataLoader
