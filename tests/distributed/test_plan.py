"""The model of a step over many ranks: values computed by hand, limits, and what it must not do."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid import models
from lucid.distributed import DistributedOptimizer, StepTimes, Wire, measure_step, plan
from lucid.distributed._plan import filled
from lucid.distributed._wire import ALGORITHMS, all_reduce_seconds, bandwidth

MB = 10**6
# Three gradients: 8 MB when backward (0.2 s) is at 0.05 s, 4 MB at 0.1, 2 MB at its end.
STEP = StepTimes(
    batch_size=16,
    forward=0.1,
    backward=0.2,
    optimizer=0.02,
    gradients=((0.05, 8 * MB), (0.1, 4 * MB), (0.2, 2 * MB)),
    batch_norms=(8, 16),
)
SMALL = 1e-6  # MB: each gradient is a bucket of its own
GIGA = Wire(bandwidth=1e9, latency=0.0)


# -- the sum over all ranks ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "ranks", "expected"),
    [
        # Of n = 8 MB at 1 GB/s with 1 ms a message and 0.25 ns to add a byte.
        ("ring", 2, 2 * 1e-3 + 2 * 4e-3 + 4 * MB * 0.25e-9),
        ("ring", 4, 6 * 1e-3 + 6 * 2e-3 + 3 * 2 * MB * 0.25e-9),
        ("ring", 5, 8 * 1e-3 + 8 * 1.6e-3 + 4 * 1.6 * MB * 0.25e-9),
        ("recursive_doubling", 4, 2 * (1e-3 + 8e-3 + 8 * MB * 0.25e-9)),
        # Two hand over before, and get the sum back.
        ("recursive_doubling", 6, 4 * (1e-3 + 8e-3) + 3 * 8 * MB * 0.25e-9),
        # Halves, quarters there, the same back.
        ("halving_doubling", 4, 4 * 1e-3 + 2 * (4e-3 + 2e-3) + 6 * MB * 0.25e-9),
        ("halving_doubling", 5, 6 * 1e-3 + 2 * (4e-3 + 2e-3) + 16e-3 + 14 * MB * 0.25e-9),
    ],
)
def test_messages_one_by_one(algorithm, ranks, expected):
    found = all_reduce_seconds(ranks, 8 * MB, Wire(1e9, 1e-3), 0.25e-9, algorithm)
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_fastest_is_chosen():
    wire = Wire(1e9, 1e-5)
    for ranks in (2, 3, 8, 13, 64):
        for nbytes in (0, 100, 10 * MB):
            each = [all_reduce_seconds(ranks, nbytes, wire, 1e-10, name) for name in ALGORITHMS]
            assert all_reduce_seconds(ranks, nbytes, wire, 1e-10) == min(each)
    # Few bytes: as few messages as there can be. Many: as few bytes.
    assert all_reduce_seconds(64, 4, wire) == pytest.approx(6 * (1e-5 + 4e-9))
    assert all_reduce_seconds(64, 1e9, Wire(1e9, 0.0)) == pytest.approx(2 * 63 / 64)


def test_one_rank_sends_nothing():
    assert all_reduce_seconds(1, 10**9, Wire(1.0, 1.0), 1.0) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10Gbit", 1.25e9), ("800 Mbit/s", 1e8), ("1.5GB", 1.5e9), ("56kbit", 7e3), ("8bit", 1.0)],
)
def test_bandwidths(text, expected):
    assert bandwidth(text) == expected


@pytest.mark.parametrize("text", ["", "10", "fast", "-1Gbit", "0Gbit", "10gbit", "10 Gbit an hour"])
def test_no_bandwidth(text):
    with pytest.raises(ValueError, match="network: expected a bandwidth such as 10Gbit"):
        bandwidth(text)


# -- buckets and what hides them ----------------------------------------------------------------


def test_a_bucket_is_full_with_its_last_gradient():
    gradients = [(0.1, 10), (0.2, 10), (0.3, 25), (0.4, 3)]
    assert list(filled(gradients, 20)) == [(0.2, 20), (0.3, 25), (0.4, 3)]
    assert list(filled(gradients, 30)) == [(0.2, 20), (0.4, 28)]
    assert list(filled(gradients, 1)) == gradients
    assert list(filled(gradients, 1000)) == [(0.4, 48)]
    assert list(filled([], 20)) == []


def test_buckets_are_as_large_as_the_optimisers():
    sizes = [
        inspect.signature(function).parameters["bucket_mb"].default
        for function in (plan, DistributedOptimizer)
    ]
    assert sizes[0] == sizes[1]


def test_the_wire_takes_one_bucket_after_another():
    # Two ranks at 40 MB/s, no latency: a byte each way, so 0.2, 0.1 and 0.05 s. The first is sent
    # from 0.05 to 0.25, when the others have been waiting: 0.35 and 0.4, 0.2 after backward.
    one, two = plan(STEP, 2, Wire(40e6, 0.0), bucket_mb=SMALL)
    assert (one.seconds, one.efficiency, one.exposed) == (pytest.approx(0.32), 1, 0)
    assert two.reductions == pytest.approx(0.35)
    assert two.exposed == pytest.approx(0.2)
    assert two.seconds == pytest.approx(0.52)
    assert two.efficiency == pytest.approx(0.32 / 0.52)
    assert two.images_per_second == pytest.approx(32 / 0.52)
    # At 1 GB/s the first two are hidden, and the last one is 2 MB.
    assert plan(STEP, 2, GIGA, bucket_mb=SMALL).steps[1].exposed == pytest.approx(2e-3)
    # One bucket for all is there with the last gradient.
    assert plan(STEP, 2, GIGA, bucket_mb=100).steps[1].exposed == pytest.approx(14e-3)


def test_without_overlap_it_is_the_sum():
    for step in plan(STEP, 8, Wire(1e8, 1e-3), bucket_mb=SMALL, overlap=False):
        assert step.seconds == pytest.approx(STEP.seconds + step.reductions)
        assert step.exposed == pytest.approx(step.reductions)


def test_a_wire_without_limits_costs_nothing():
    for step in plan(STEP, 1024, Wire(math.inf, 0.0), sync_batch_norm=True):
        assert step.efficiency == 1
        assert step.pays_from == 1


def test_copies_take_the_ranks_own_time():
    # 14 MB into the buckets at 1 ns: 14 ms, and the network is free.
    step = StepTimes(16, 0.1, 0.2, 0.02, STEP.gradients, copy=1e-9)
    (_, two) = plan(step, 2, Wire(math.inf, 0.0), algorithm="ring", bucket_mb=SMALL)
    # The last bucket's adding (half of it: 1 ms) is behind all that.
    assert two.exposed == pytest.approx(14e-3 + 1e-3)


def test_the_ranks_of_a_machine_share_its_memory_and_its_network():
    step = StepTimes(16, 0.1, 0.2, 0.02, ((0.2, 8 * MB),), copy=1e-9)
    rows = plan(step, 4, GIGA, ranks_per_machine=2, algorithm="ring", bucket_mb=SMALL)
    _, two, four = rows
    # Both halves of 8 MB go through memory at 0.5 GB/s, 4 MB are added, 8 MB copied; the latency
    # of memory is 2 microseconds.
    within = 2 * (4 * MB / 0.5e9 + 2e-6) + 4e-3 + 8e-3
    assert two.exposed == pytest.approx(within)
    # Two machines: 8 MB from each over the network, and 4 MB added.
    assert four.exposed == pytest.approx(within + 8e-3 + 4e-3)


def test_float16_sends_half_and_converts():
    step = StepTimes(16, 0.1, 0.2, 0.02, ((0.2, 8 * MB),))
    full = plan(step, 2, GIGA).steps[1]
    half = plan(step, 2, GIGA, wire="float16").steps[1]
    assert half.reductions == pytest.approx(full.reductions / 2)


def test_statistics_of_all_ranks_are_never_hidden():
    # Two layers, forward and backward: 17, 16, 33 and 32 numbers of 4 bytes, 1 ms a message.
    network = Wire(1e6, 1e-3)
    plain = plan(STEP, 4, network, bucket_mb=SMALL)
    sync = plan(STEP, 4, network, bucket_mb=SMALL, sync_batch_norm=True)
    expected = sum(all_reduce_seconds(4, 4 * n, network) for n in (17, 16, 33, 32))
    assert expected == pytest.approx(4 * 2e-3 + 2 * 4 * 98 / 1e6)
    assert sync.steps[2].batch_norm == pytest.approx(expected)
    assert sync.steps[2].seconds == pytest.approx(plain.steps[2].seconds + expected)
    assert [step.batch_norm for step in plain] == [0, 0, 0]


def test_a_step_ends_with_the_slowest_rank():
    # Of two draws from 0.9, 1.0 and 1.4 of 0.32 s the larger is one of them in 1, 3, 5 of 9 cases.
    step = replace(STEP, runs=(1.4, 0.9, 1.0))
    expected = 0.32 * ((0.9 + 3 * 1.0 + 5 * 1.4) / 9 - (0.9 + 1.0 + 1.4) / 3)
    one, two, *_, many = plan(step, 1024, Wire(math.inf, 0.0))
    assert one.waiting == 0
    assert two.waiting == pytest.approx(expected)
    assert two.seconds == pytest.approx(0.32 + expected)
    assert many.waiting == pytest.approx(0.32 * (1.4 - 1.1))
    assert "waiting" in str(plan(step, 2))


# -- batches ------------------------------------------------------------------------------------


def test_another_batch_is_on_the_line():
    step = StepTimes(16, 0.1, 0.2, 0.02, ((0.1, 4), (0.2, 8)), fixed=0.06)
    larger = step.at(32)  # 0.24 of 0.3 grow
    assert larger.forward + larger.backward == pytest.approx(0.06 + 2 * 0.24)
    assert larger.optimizer == 0.02
    assert larger.gradients[-1][0] == pytest.approx(larger.backward)
    assert larger.at(16).forward == pytest.approx(0.1)
    assert plan(step, 1, batch_size=32).steps[0].batch_size == 32


def test_the_batch_from_which_it_pays():
    for step in plan(STEP, 64, Wire(2e7, 1e-3), worth=0.8):
        if step.ranks == 1:
            assert step.pays_from == 1
            continue
        found = [
            plan(STEP, step.ranks, Wire(2e7, 1e-3), batch_size=batch).steps[-1].efficiency
            for batch in (step.pays_from - 1, step.pays_from)
        ]
        assert found[0] < 0.8 <= found[1]


def test_it_may_never_pay():
    # The step does not grow with the batch, and the wire is slow.
    step = StepTimes(16, 0.1, 0.2, 0.0, STEP.gradients, fixed=0.3)
    rows = plan(step, 2, Wire(1e6, 0.0))
    assert rows.steps[1].pays_from is None
    assert "never" in str(rows)


numbers = st.floats(1e-6, 1e3)


@settings(deadline=None)
@given(
    ranks=st.integers(2, 300),
    first=numbers,
    second=numbers,
    machine=st.integers(1, 8),
    sync=st.booleans(),
)
def test_a_better_wire_is_never_slower(ranks, first, second, machine, sync):
    low, high = sorted((first, second))
    options = {"ranks_per_machine": machine, "sync_batch_norm": sync, "bucket_mb": 5}
    by_bandwidth = [
        plan(STEP, ranks, Wire(number * 1e6, 1e-4), **options).steps[-1].seconds
        for number in (high, low)
    ]
    assert by_bandwidth[0] <= by_bandwidth[1]
    by_latency = [
        plan(STEP, ranks, Wire(1e8, number * 1e-6), **options).steps[-1].seconds
        for number in (low, high)
    ]
    assert by_latency[0] <= by_latency[1]


def test_ranks_up_to_the_one_asked_for():
    assert [step.ranks for step in plan(STEP, 1)] == [1]
    assert [step.ranks for step in plan(STEP, 8)] == [1, 2, 4, 8]
    assert [step.ranks for step in plan(STEP, 12)] == [1, 2, 4, 8, 12]
    assert [step.batch_size for step in plan(STEP, 4)] == [16, 32, 64]


def test_the_table_has_a_row_a_step():
    lines = str(plan(STEP, 64, "10Gbit")).splitlines()
    assert len(lines) == 8
    assert lines[0].split()[:3] == ["ranks", "images", "ms"]
    assert lines[1].split() == ["1", "16", "320.0", "50.0", "1.000", "0.0", "0.0", "1"]
    assert "batch norm" not in lines[0]
    assert "batch norm" in str(plan(STEP, 2, sync_batch_norm=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ranks": 0}, "plan: ranks must be"),
        ({"ranks_per_machine": 0}, "plan: ranks_per_machine must be"),
        ({"bucket_mb": 0}, "plan: bucket_mb must be over 0, got 0"),
        ({"latency": -1.0}, "plan: latency must be at least 0 seconds, got -1.0"),
        ({"latency": float("nan")}, "plan: latency must be at least 0 seconds, got nan"),
        ({"network": "quick"}, "network: expected a bandwidth"),
        ({"wire": "int8"}, "plan: wire must be one of"),
        ({"algorithm": "tree"}, "algorithm must be one of"),
        ({"batch_size": 0}, "batch_size must be"),
    ],
)
def test_wrong_use(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan(STEP, **{"ranks": 2, **arguments})


# -- measuring ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_measured_step():
    model = models.mobilenet_v4_conv_small(num_classes=4)
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    step = measure_step(model, (4, 3, 32, 32), seconds=0.05)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    assert all(parameter.grad is None for parameter in model.parameters())
    parameters = list(model.parameters())
    assert (step.batch_size, len(step.gradients)) == (4, len(parameters))
    assert step.nbytes == sum(4 * parameter.data.size for parameter in parameters)
    moments = [there for there, _ in step.gradients]
    assert moments == sorted(moments)
    assert 0 <= moments[0] < moments[-1] <= step.backward
    assert 0 <= step.fixed <= step.forward + step.backward
    assert len(step.batch_norms) > 20
    assert np.median(step.runs) == pytest.approx(1)
    # The last layer's gradients come first: the classifier's bias has a number a class.
    assert 4 * 4 in [nbytes for _, nbytes in step.gradients[:2]]
