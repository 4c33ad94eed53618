"""Layers without PyTorch: gradients by differences, edges, and what they refuse."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lucid
from lucid import nn
from lucid.autograd import gradcheck

ONES = lucid.ones

CHECKED: list[tuple[Any, tuple[int, ...]]] = [
    (lambda: nn.Linear(4, 3), (2, 4)),
    (lambda: nn.Conv2d(2, 4, 3, padding=1, groups=2), (2, 2, 3, 4)),
    (lambda: nn.BatchNorm1d(3), (4, 3)),
    (lambda: nn.BatchNorm2d(2), (2, 2, 3, 2)),
    (lambda: nn.BatchNorm2d(2).eval(), (2, 2, 3, 2)),
    (lambda: nn.LayerNorm((3, 2)), (2, 3, 2)),
    (lambda: nn.GroupNorm(2, 4), (2, 4, 3)),
    (lambda: nn.InstanceNorm2d(2, affine=True), (2, 2, 3, 2)),
    (lambda: nn.InstanceNorm1d(2, track_running_stats=True).eval(), (2, 2, 3)),
    (lambda: nn.PReLU(3), (2, 3)),
    (lambda: nn.AdaptiveAvgPool2d((2, 1)), (1, 2, 3, 5)),
    (lambda: nn.MaxPool2d(2), (1, 2, 4, 4)),
    (lambda: nn.AvgPool2d(2, padding=1), (1, 2, 3, 3)),
]


@pytest.mark.parametrize(("build", "shape"), CHECKED)
def test_gradients_of_input_and_parameters(build: Any, shape: tuple[int, ...]) -> None:
    layer = build().double()
    rng = np.random.default_rng(0)
    x = lucid.tensor(rng.standard_normal(shape), dtype=np.float64, requires_grad=True)
    parameters = list(layer.parameters())
    for p in parameters:
        p.data += rng.uniform(0.1, 0.3, p.shape)
    assert gradcheck(lambda x, *_: layer(x), (x, *parameters))


def test_attention_gradients() -> None:
    layer = nn.MultiheadAttention(4, 2, add_bias_kv=True).double()
    rng = np.random.default_rng(0)
    q, k = (
        lucid.tensor(rng.standard_normal(s), dtype=np.float64, requires_grad=True)
        for s in ((2, 1, 4), (3, 1, 4))
    )
    assert gradcheck(lambda q, k, *_: layer(q, k, k), (q, k, *layer.parameters()))


# -- batch norm ---------------------------------------------------------------------------------


def test_batch_norm_counts_and_averages() -> None:
    norm = nn.BatchNorm1d(2, momentum=None)
    rng = np.random.default_rng(0)
    batches = rng.standard_normal((3, 8, 2)).astype(np.float32)
    for batch in batches:
        norm(lucid.tensor(batch))
    assert norm.num_batches_tracked.item() == 3
    np.testing.assert_allclose(
        norm.running_mean.numpy(), batches.mean((0, 1)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        norm.running_var.numpy(), batches.var(1, ddof=1).mean(0), rtol=1e-4, atol=1e-6
    )
    norm.eval()(lucid.tensor(batches[0]))
    assert norm.num_batches_tracked.item() == 3
    norm.reset_running_stats()
    assert norm.running_mean.tolist() == [0, 0]
    assert norm.running_var.tolist() == [1, 1]
    assert norm.num_batches_tracked.item() == 0


def test_batch_norm_of_one_value_changes_nothing() -> None:
    norm = nn.BatchNorm2d(2)
    with pytest.raises(
        ValueError, match="BatchNorm2d: in training there must be more than one value"
    ):
        norm(ONES(1, 2, 1, 1))
    assert norm.num_batches_tracked.item() == 0
    assert norm.running_mean.tolist() == [0, 0]
    assert norm.eval()(ONES(1, 2, 1, 1)).shape == (1, 2, 1, 1)


def test_training_repeats_with_the_seed() -> None:
    def run() -> list[Any]:
        lucid.manual_seed(5)
        net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        x = lucid.randn(6, 4)
        net(x).sum().backward()
        return [p.grad.tolist() for p in net.parameters()]

    assert run() == run()


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 3),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    groups=st.integers(1, 3),
    last=st.booleans(),
)
def test_shapes_and_layouts(n: int, size: tuple[int, int], groups: int, last: bool) -> None:
    """One by one equals the batch, whatever the memory layout."""
    lucid.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(groups * 2, groups * 3, 3, padding=1, groups=groups),
        nn.BatchNorm2d(groups * 3),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(groups * 3, 4),
    ).eval()
    x = np.random.default_rng(0).standard_normal((n, groups * 2, *size)).astype(np.float32)
    x = x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2) if last else x
    y = net(lucid.tensor(x)).detach().numpy()
    assert y.shape == (n, 4)
    for i in range(n):
        one = net(lucid.tensor(x[i : i + 1])).detach().numpy()
        np.testing.assert_allclose(one[0], y[i], rtol=1e-4, atol=1e-5)
    with lucid.no_grad():
        np.testing.assert_allclose(net(lucid.tensor(x)).numpy(), y, rtol=1e-4, atol=1e-5)


def test_read_only_input() -> None:
    x = np.ones((2, 3, 4, 4), np.float32)
    x.flags.writeable = False
    t = lucid.from_numpy(x)
    for layer in (nn.Conv2d(3, 2, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.GELU()):
        layer(t).sum().backward() if list(layer.parameters()) else layer(t)
    np.testing.assert_array_equal(x, 1)


# -- what is refused ----------------------------------------------------------------------------

BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: nn.Linear(0.5, 2), TypeError, "Linear: in_features must be an integer, got 0.5"),
    (lambda: nn.Linear(-1, 2), ValueError, "in_features must be at least 0, got -1"),
    (lambda: nn.Linear(1, 2, dtype=np.int32), TypeError, "must be a floating-point dtype"),
    (
        lambda: nn.Linear(3, 2)(ONES(4, 5)),
        ValueError,
        r"Linear: expected 3 input features \(last axis\), got 5 from an input of shape \(4, 5\)",
    ),
    (lambda: nn.Linear(3, 2)(ONES(4, 3, dtype=np.float64)), TypeError, "got float64 and float32"),
    (lambda: nn.Linear(3, 2)("text"), TypeError, "Linear: expected real numbers"),
    (
        lambda: nn.Conv2d(3, 8, 3)(ONES(8, 4, 32, 32)),
        ValueError,
        r"Conv2d: expected 3 input channels \(axis 1\), got 4 from an input of shape "
        r"\(8, 4, 32, 32\)",
    ),
    (
        lambda: nn.Conv2d(3, 8, 3)(ONES(9, 9)),
        ValueError,
        r"Conv2d: expected an input of shape \(N",
    ),
    (
        lambda: nn.Conv2d(3, 8, 3)(ONES(1, 3, 2, 9)),
        ValueError,
        "Conv2d: a kernel of 3×3 does not fit",
    ),
    (lambda: nn.Conv2d(0, 8, 3), ValueError, "in_channels must be at least 1, got 0"),
    (lambda: nn.Conv2d(3, 8, 0), ValueError, "kernel_size must be at least 1"),
    (lambda: nn.Conv2d(3, 8, (3, 3, 3)), TypeError, "kernel_size must be an integer or two"),
    (lambda: nn.Conv2d(3, 8, 3, stride=0), ValueError, "stride must be at least 1"),
    (lambda: nn.Conv2d(3, 8, 3, padding=-1), ValueError, "padding must be at least 0"),
    (lambda: nn.Conv2d(3, 8, 3, padding="full"), ValueError, "'same' or 'valid', got 'full'"),
    (lambda: nn.Conv2d(3, 8, 3, 2, "same"), ValueError, "padding='same' needs stride 1"),
    (lambda: nn.Conv2d(3, 8, 3, groups=2), ValueError, "groups must divide in_channels=3"),
    (lambda: nn.Conv2d(4, 6, 3, groups=4), ValueError, "groups must divide out_channels=6"),
    (
        lambda: nn.BatchNorm2d(3)(ONES(2, 4, 2, 2)),
        ValueError,
        r"BatchNorm2d: expected 3 channels \(axis 1\), got 4 from an input of shape \(2, 4, 2, 2\)",
    ),
    (
        lambda: nn.BatchNorm2d(3)(ONES(2, 3)),
        ValueError,
        r"input of shape \(N, C, H, W\), got \(2, 3",
    ),
    (lambda: nn.BatchNorm1d(3)(ONES(2, 3, 4, 4)), ValueError, r"\(N, C\) or \(N, C, L\), got"),
    (lambda: nn.BatchNorm2d(3)(np.ones((2, 3, 2, 2), int)), TypeError, "floating-point input"),
    (lambda: nn.LayerNorm(3)(ONES(2, 4)), ValueError, r"sizes \(3,\), got shape \(2, 4\)"),
    (lambda: nn.LayerNorm(()), ValueError, "normalized_shape must name at least one axis"),
    (lambda: nn.GroupNorm(2, 3), ValueError, "num_groups must divide num_channels=3, got 2"),
    (lambda: nn.GroupNorm(2, 4)(ONES(2, 6, 2)), ValueError, "GroupNorm: expected 4 channels"),
    (lambda: nn.InstanceNorm2d(2)(ONES(2, 2, 1, 1)), ValueError, "more than one position"),
    (
        lambda: nn.functional.instance_norm(ONES(2, 2, 3), use_input_stats=False),
        ValueError,
        "use_input_stats=False needs running_mean and running_var",
    ),
    (lambda: nn.RMSNorm(()), ValueError, "RMSNorm: normalized_shape must name at least one axis"),
    (lambda: nn.Dropout(1.5), ValueError, "Dropout: p must be between 0 and 1, got 1.5"),
    (lambda: nn.Dropout2d("x"), TypeError, "Dropout2d: p must be a number, got 'x'"),
    (lambda: nn.GELU("exact"), ValueError, r"approximate must be one of \('none', 'tanh'\)"),
    (lambda: nn.Hardtanh(1, 1), ValueError, "expected min_val < max_val"),
    (lambda: nn.Softmax(), TypeError, "Softmax: pass the axis"),
    (lambda: nn.MaxPool2d(0), ValueError, "MaxPool2d: kernel_size must be at least 1"),
    (lambda: nn.MaxPool2d(5)(ONES(1, 1, 3, 3)), ValueError, "does not fit"),
    (lambda: nn.AvgPool2d("x"), TypeError, "AvgPool2d: kernel_size must be an integer or two"),
    (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), TypeError, "output_size must be an integer or two"),
    (lambda: nn.Unflatten(1, 4), TypeError, "must be a tuple of sizes, got 4"),
    (lambda: nn.Unflatten(3, (2, 2))(ONES(2, 4)), IndexError, "axis 3 is out of range"),
    (lambda: nn.Embedding(3, 2, padding_idx=3), ValueError, "one of the 3 rows, got 3"),
    (lambda: nn.Embedding(3, 2, sparse=True), ValueError, "sparse are not supported"),
    (lambda: nn.Embedding(3, 2)(lucid.tensor([3])), IndexError, "indices from 0 to 2, got 3"),
    (lambda: nn.Embedding.from_pretrained(ONES(3)), ValueError, r"table of shape \(V, D\)"),
    (lambda: nn.MultiheadAttention(6, 4), ValueError, "num_heads must divide embed_dim=6, got 4"),
    (
        lambda: nn.MultiheadAttention(4, 2)(ONES(2, 1, 4), ONES(3, 1, 5), ONES(3, 1, 4)),
        ValueError,
        "expected a key with 4 features",
    ),
    (
        lambda: nn.MultiheadAttention(4, 2)(ONES(2, 1, 4), ONES(3, 1, 4), ONES(2, 1, 4)),
        ValueError,
        "key and value must be equally long, got 3 and 2",
    ),
    (
        lambda: nn.MultiheadAttention(4, 2)(ONES(2, 1, 4), ONES(3, 4), ONES(3, 4)),
        ValueError,
        "all with two or three axes",
    ),
    (
        lambda: nn.MultiheadAttention(4, 2)(*[ONES(2, 1, 4)] * 3, attn_mask=ONES(3, 3)),
        ValueError,
        r"expected attn_mask of shape \(2, 2\) or \(2, 2, 2\), got \(3, 3\)",
    ),
    (
        lambda: nn.MultiheadAttention(4, 2)(*[ONES(2, 1, 4)] * 3, key_padding_mask=ONES(2, 2)),
        ValueError,
        r"expected key_padding_mask of shape \(1, 2\), got \(2, 2\)",
    ),
    (
        lambda: nn.MultiheadAttention(4, 2)(*[ONES(2, 1, 4)] * 3, attn_mask=np.ones((2, 2), int)),
        TypeError,
        "attn_mask must be boolean or floating point, got int64",
    ),
    (
        lambda: nn.MultiheadAttention(4, 2)(*[ONES(2, 1, 4)] * 3, is_causal=True),
        ValueError,
        "is_causal=True needs attn_mask",
    ),
    (lambda: nn.MSELoss(reduction="avg"), ValueError, "MSELoss: reduction must be one of"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=2), ValueError, "label_smoothing must be between"),
    (lambda: nn.HuberLoss(delta=-1), ValueError, "delta must be positive"),
    (lambda: nn.PReLU(0), ValueError, "num_parameters must be at least 1"),
    (lambda: nn.Threshold(1.0), TypeError, "Threshold: missing a required argument: 'value'"),
    (lambda: nn.MSELoss("sum"), TypeError, "MSELoss: too many positional arguments"),
    (lambda: nn.GELU(tanh=True), TypeError, "GELU: got an unexpected keyword argument 'tanh'"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[case[2] for case in BAD])
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.SmoothL1Loss(beta=""), "SmoothL1Loss: .*got SmoothL1Loss"),
        (lambda: nn.Hardtanh(min_val=object), "Hardtanh: .*got Hardtanh"),
        (lambda: nn.ModuleList(255), r"ModuleList: .*got ModuleList\(255\)"),
        (lambda: nn.BatchNorm2d(3, dtype=1j), "BatchNorm2d: .*1j"),
    ],
)
def test_a_setting_of_a_wrong_kind_names_the_layer(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_the_arguments_of_a_layer_are_its_settings() -> None:
    assert str(inspect.signature(nn.Threshold)).startswith("(threshold: 'float', value: 'float', ")
    weighted = inspect.signature(nn.CrossEntropyLoss).parameters
    kinds = {name: argument.kind.name for name, argument in weighted.items()}
    assert kinds.pop("weight") == "POSITIONAL_OR_KEYWORD"
    assert kinds == dict.fromkeys(("reduction", "ignore_index", "label_smoothing"), "KEYWORD_ONLY")
    assert not hasattr(nn.LeakyReLU, "negative_slope")  # each layer has its own


def test_a_subclass_has_the_constructor_and_the_attributes_that_it_says() -> None:
    class Steep(nn.LeakyReLU):
        calls: int = 0

        def __init__(self, steepness: float) -> None:
            super().__init__(1 / steepness)

    class Counted(nn.LeakyReLU):
        calls: int = 0

    assert [*inspect.signature(Steep).parameters] == ["steepness"]
    assert Steep(4.0)(lucid.tensor([-1.0])).item() == -0.25
    assert [*inspect.signature(Counted).parameters] == ["negative_slope", "inplace"]
    assert Counted(0.5).calls == Counted.calls == 0
