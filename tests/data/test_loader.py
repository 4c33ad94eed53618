"""Datasets of arrays, subsets, and the loader."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lucid
from lucid import _random
from lucid.autograd import Tensor
from lucid.data import DataLoader, Subset, TensorDataset, default_collate, random_split


class Squares:
    """A dataset without a method `batch`."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, float(index**2)


def images(n: int = 6) -> np.ndarray:
    return np.arange(n * 4 * 5 * 3, dtype=np.float32).reshape(n, 4, 5, 3).transpose(0, 3, 1, 2)


def is_channels_last(array: np.ndarray) -> bool:
    return array.transpose(0, 2, 3, 1).flags.c_contiguous


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(0, 30),
    batch_size=st.integers(1, 40),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    fast=st.booleans(),
)
def test_every_sample_comes_once(
    length: int, batch_size: int, shuffle: bool, drop_last: bool, fast: bool
) -> None:
    numbers = np.arange(length)
    dataset: Any = TensorDataset(numbers, numbers**2.0) if fast else Squares(length)
    loader = DataLoader(dataset, batch_size, shuffle, drop_last=drop_last)
    batches = list(loader)
    assert len(batches) == len(loader)
    seen = [int(i) for index, _ in batches for i in index.data]
    if drop_last:
        assert len(seen) == length // batch_size * batch_size
        assert len(set(seen)) == len(seen)
    else:
        assert sorted(seen) == list(range(length))
    if not shuffle:
        assert seen == list(range(len(seen)))
    sizes = [len(index) for index, _ in batches]
    assert all(size == batch_size for size in (sizes if drop_last else sizes[:-1]))
    for index, square in batches:
        assert index.dtype == np.int64
        assert square.dtype == np.float32
        np.testing.assert_array_equal(square.data, index.data.astype(np.float32) ** 2)


def orders(loader: DataLoader, epochs: int = 3) -> list[list[int]]:
    return [[int(i) for index, _ in loader for i in index.data] for _ in range(epochs)]


def test_shuffling_differs_between_epochs_and_repeats_with_the_seed() -> None:
    loader = DataLoader(Squares(50), 7, shuffle=True)
    lucid.manual_seed(3)
    first = orders(loader)
    assert len({tuple(order) for order in first}) == 3
    lucid.manual_seed(3)
    assert orders(loader) == first
    lucid.manual_seed(4)
    assert orders(loader) != first


def test_the_fast_and_the_slow_way_give_the_same() -> None:
    fast = TensorDataset(images(), np.arange(6))

    class Slow:
        def __len__(self) -> int:
            return len(fast)

        def __getitem__(self, index: int) -> Any:
            return fast[index]

    for one, two in zip(DataLoader(fast, 4), DataLoader(Slow(), 4)):
        assert isinstance(one, tuple)
        assert isinstance(two, tuple)
        for a, b in zip(one, two):
            np.testing.assert_array_equal(a.data, b.data, strict=True)
        assert is_channels_last(one[0].data)
        assert is_channels_last(two[0].data)


def test_channels_first_arrays_work_too() -> None:
    array = np.ascontiguousarray(images())
    (batch,) = next(iter(DataLoader(TensorDataset(array), 4)))
    np.testing.assert_array_equal(batch.data, array[:4])


def test_batches_are_copies_and_samples_are_views() -> None:
    dataset = TensorDataset(images())
    (batch,) = next(iter(DataLoader(dataset, 2)))
    batch.data[...] = -1
    assert dataset.arrays[0].min() == 0
    assert np.shares_memory(dataset[0][0].data, dataset.arrays[0])


def test_tensors_keep_their_dtype_and_arrays_become_float32() -> None:
    dataset = TensorDataset(Tensor(np.ones(2), dtype=np.float64), np.ones(2), np.ones(2, bool))
    assert [part.dtype for part in dataset[0]] == [np.float64, np.float32, np.bool_]


def test_transform_changes_the_inputs_alone() -> None:
    dataset = TensorDataset(images(), np.arange(6))
    loader = DataLoader(dataset, 4, transform=lambda array: array[:, :1] * 2)
    inputs, labels = next(iter(loader))
    np.testing.assert_array_equal(inputs.data, images()[:4, :1] * 2)
    assert labels.tolist() == [0, 1, 2, 3]
    alone = DataLoader(TensorDataset(images()), 4, transform=lambda array: Tensor(array + 1))
    assert next(iter(alone))[0].data.min() == 1


def test_collate_fn_is_given_the_samples() -> None:
    loader = DataLoader(Squares(3), 2, collate_fn=lambda samples: samples)
    assert list(loader) == [[(0, 0.0), (1, 1.0)], [(2, 4.0)]]


def test_bad_loaders() -> None:
    with pytest.raises(TypeError, match="needs __len__ and __getitem__, which generator does not"):
        DataLoader(i for i in range(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        DataLoader([1], 0)
    with pytest.raises(TypeError, match=r"batch_size must be an integer, got 2\.0"):
        DataLoader([1], 2.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="transform must be a function, got 3"):
        DataLoader([1], transform=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="begin with one, got str"):
        list(DataLoader(["a"], transform=abs))


def test_collate() -> None:
    batch = default_collate([{"x": np.ones(2), "name": "a", "ok": True}] * 3)
    assert batch["x"].shape == (3, 2)
    assert batch["x"].dtype == np.float32
    assert batch["name"] == ["a"] * 3
    assert batch["ok"].dtype == np.bool_
    assert default_collate([np.int64(3), np.int64(4)]).dtype == np.int64
    assert default_collate([Tensor(1.5), Tensor(2.5)]).tolist() == [1.5, 2.5]
    nested = default_collate([(1, [2.0, (3,)])] * 2)
    assert nested[1][1][0].tolist() == [3, 3]


Point = namedtuple("Point", ["x", "y"])


@pytest.mark.parametrize(
    "samples",
    [
        [1, 2.5],
        [1.5, 2],
        [True, 2],
        [2, True],
        [True, 2.5],
        [2.5, True],
        [2**40, True],
        [1.5, np.float32(2)],
        [np.int64(2), np.float32(1.5)],
        [np.float32(1.5), 2**40],
        [np.uint8(200), np.int8(-1)],
        [np.bool_(True), np.bool_(False)],
        [np.ones(2, np.int64), np.full(2, 0.5, np.float32)],
        [np.ones(2, bool), np.array([2, 3])],
        [np.array([2, 3]), [1.5, 2.5]],
        [[1, 2], np.array([1.5, 2.5], np.float32)],
        [{"a": 1, "b": 2.5}, {"a": 2.5, "b": True}],
        [Point(1, 2.5), Point(2.5, (True))],
        [(1, {"p": Point(True, "x")}), (2, {"p": Point(2, "y")})],
        [range(2), range(3, 5)],
        [b"a", b"b"],
        ["a", None],
    ],
    ids=repr,
)
def test_mixed_samples_are_pytorchs(samples: list[Any]) -> None:
    """Values, dtypes (where PyTorch says float64, float32) and structure (tuples for lists)."""
    torch_data = pytest.importorskip("torch.utils.data")

    def check(ours: Any, theirs: Any) -> None:
        if isinstance(ours, Tensor):
            dtype = str(theirs.dtype).removeprefix("torch.")
            assert ours.dtype == dtype.replace("float64", "float32")
            assert ours.tolist() == theirs.tolist()
        elif isinstance(ours, dict):
            assert ours.keys() == theirs.keys()
            for key, value in ours.items():
                check(value, theirs[key])
        elif isinstance(ours, tuple):
            assert hasattr(ours, "_fields") == hasattr(theirs, "_fields")
            for one, other in zip(ours, theirs, strict=True):
                check(one, other)
        else:
            assert ours == list(theirs)

    check(default_collate(samples), torch_data.default_collate(samples))


def test_mixed_tensors_have_the_dtype_that_holds_both() -> None:
    for first, second, expected in [
        (Tensor([1, 2]), Tensor([0.5, 1.5]), np.float32),
        (Tensor([True, False]), Tensor([3, 4]), np.int64),
    ]:
        for samples in ([first, second], [second, first]):
            batch = default_collate(samples)
            assert batch.dtype == expected
            assert batch.tolist() == [samples[0].tolist(), samples[1].tolist()]


def test_samples_of_different_kinds() -> None:
    for samples, message in [
        ([1, None], "expected real numbers, integers or booleans, got NoneType"),
        ([1, "a"], "expected real numbers, integers or booleans, got str"),
        ([1, {"a": 1}], "expected real numbers, integers or booleans, got dict"),
        ([{"a": 1}, 1], "expected mappings, got int"),
        ([(1,), 1], "expected sequences, got int"),
        ([None, None], "got NoneType; images need"),
        ([2**70, 1], "expected real numbers, integers or booleans, got int of dtype object"),
    ]:
        with pytest.raises(TypeError, match=f"default_collate: .*{message}"):
            default_collate(samples)


def test_bad_samples() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \[\(1, 2, 2\), \(1, 3, 2\)\].*Resize"):
        default_collate([Tensor(np.ones((1, 2, 2))), Tensor(np.ones((1, 3, 2)))])
    with pytest.raises(TypeError, match=r"got object; images need transforms\.ToTensor"):
        default_collate([object()])
    with pytest.raises(ValueError, match=r"different lengths \[1, 2\]"):
        default_collate([(1,), (1, 2)])
    with pytest.raises(ValueError, match="different keys"):
        default_collate([{"a": 1}, {"b": 1}])
    with pytest.raises(TypeError, match="expected tensors, got int"):
        default_collate([Tensor(1), 2])
    with pytest.raises(ValueError, match="at least one sample"):
        default_collate([])


class Noise:
    """Samples that are drawn."""

    def __len__(self) -> int:
        return 11

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, float(_random.generator().random())


def _noisy(images: np.ndarray) -> np.ndarray:
    return images + _random.generator().random(images.shape)


@pytest.mark.parametrize("ranks", [2, 3, 8])
@pytest.mark.parametrize("transform", [None, _noisy], ids=["plain", "transform"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "dataset", [Noise(), TensorDataset(np.arange(11.0), np.arange(11))], ids=["samples", "arrays"]
)
def test_the_parts_of_ranks_are_what_one_loader_gives(
    dataset: Any, workers: int, transform: Any, ranks: int
) -> None:
    def epoch(part: tuple[int, int] | None) -> tuple[list[Any], float]:
        lucid.manual_seed(3)
        loader = DataLoader(
            dataset, 5, shuffle=True, transform=transform, num_workers=workers, part=part
        )
        batches = [
            [] if batch is None else list(zip(*(column.tolist() for column in batch)))
            for batch in loader.all_batches()
        ]
        drawn = float(_random.generator().random())
        assert len(batches) == len(loader) == 3
        assert [len(batch[0]) for batch in loader] == [len(batch) for batch in batches if batch]
        return batches, drawn

    whole, drawn = epoch(None)
    parts = [epoch((rank, ranks)) for rank in range(ranks)]
    assert {state for _, state in parts} == {drawn}
    for number, batch in enumerate(whole):
        found: list[Any] = [part[number] for part, _ in parts]
        assert sorted(sample for part in found for sample in part) == sorted(batch)
        for part in found:  # with each sample the one that it is mixed with
            places = [batch.index(sample) for sample in part]
            assert [len(batch) - 1 - place for place in reversed(places)] == places
    with pytest.raises(ValueError, match="DataLoader: expected a rank from 0 to 2 - 1, got 2"):
        DataLoader(dataset, part=(2, 2))


def test_tensor_dataset() -> None:
    dataset = TensorDataset(np.arange(6).reshape(3, 2), Tensor([1.0, 2.0, 3.0]))
    assert len(dataset) == 3
    assert [part.tolist() for part in dataset[-1]] == [[4, 5], 3.0]
    with pytest.raises(IndexError, match="TensorDataset: index 3 is out of range for 3 samples"):
        dataset[3]
    with pytest.raises(TypeError, match="index must be an integer, got str"):
        dataset["a"]  # type: ignore[index]
    with pytest.raises(ValueError, match=r"one length, got \(3,\), \(2,\)"):
        TensorDataset(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="first axes of one length"):
        TensorDataset(np.ones(()))
    with pytest.raises(ValueError, match="at least one tensor"):
        TensorDataset()


def test_subset() -> None:
    dataset = TensorDataset(np.arange(10) * 10)
    subset = Subset(Subset(dataset, [9, 3, 5, 1]), [2, 0, -1])
    assert [subset[i][0].item() for i in range(3)] == [50, 90, 10]
    assert subset[-1][0].item() == 10
    assert next(iter(DataLoader(subset, 3)))[0].tolist() == [50, 90, 10]
    assert len(Subset(dataset, [])) == 0
    slow = next(iter(DataLoader(Subset(Squares(5), np.array([4, 2])), 2)))
    assert slow[1].tolist() == [16, 4]
    with pytest.raises(IndexError, match="out of range for 10 samples"):
        Subset(dataset, [10])
    with pytest.raises(TypeError, match="expected a list of integers"):
        Subset(dataset, [0.5])  # type: ignore[list-item]
    with pytest.raises(IndexError, match="Subset: index 3 is out of range"):
        subset[3]


@settings(max_examples=40, deadline=None)
@given(length=st.integers(0, 40), cuts=st.lists(st.integers(0, 40), max_size=4))
def test_random_split_shares_all_samples_out(length: int, cuts: list[int]) -> None:
    edges = sorted([0, *(min(cut, length) for cut in cuts), length])
    lengths = np.diff(edges).tolist()
    parts = random_split(Squares(length), lengths)
    assert [len(part) for part in parts] == lengths
    assert sorted(part[i][0] for part in parts for i in range(len(part))) == list(range(length))


def test_random_split_takes_fractions_and_a_generator() -> None:
    parts = random_split(Squares(10), [0.45, 0.45, 0.1])
    assert [len(part) for part in parts] == [5, 4, 1]
    lucid.manual_seed(0)
    first = random_split(Squares(10), [5, 5])[0].indices.tolist()
    lucid.manual_seed(0)
    assert random_split(Squares(10), [5, 5])[0].indices.tolist() == first
    fixed = [
        random_split(Squares(10), [5, 5], np.random.default_rng(1))[0].indices.tolist()
        for _ in range(2)
    ]
    assert fixed[0] == fixed[1]
    with pytest.raises(ValueError, match=r"add up to 10, or fractions .*, got \[5, 4\]"):
        random_split(Squares(10), [5, 4])
    with pytest.raises(ValueError, match="must not be negative"):
        random_split(Squares(10), [11, -1])
