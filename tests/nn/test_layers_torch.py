"""Layers against PyTorch's: names and shapes of the state, values, gradients, printing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import nn

torch = pytest.importorskip("torch")

# (how to build it, given lucid.nn or torch.nn; shapes of the inputs)
LAYERS: list[tuple[str, Callable[[Any], Any], tuple[tuple[int, ...], ...]]] = [
    ("linear", lambda n: n.Linear(5, 3), ((4, 5),)),
    ("linear_plain", lambda n: n.Linear(5, 3, bias=False), ((2, 4, 5),)),
    ("linear_vector", lambda n: n.Linear(5, 3), ((5,),)),
    ("linear_empty", lambda n: n.Linear(5, 3), ((0, 5),)),
    ("identity", lambda n: n.Identity(1, a=2), ((2, 3),)),
    ("flatten", lambda n: n.Flatten(), ((2, 3, 4, 5),)),
    ("flatten_some", lambda n: n.Flatten(0, 2), ((2, 3, 4, 5),)),
    ("unflatten", lambda n: n.Unflatten(1, (2, -1)), ((3, 6, 2),)),
    ("unflatten_empty", lambda n: n.Unflatten(1, (-1, 3)), ((0, 6, 2),)),
    ("conv", lambda n: n.Conv2d(3, 8, 3), ((2, 3, 7, 9),)),
    ("conv_stride", lambda n: n.Conv2d(3, 8, (3, 5), (2, 1), (1, 2)), ((2, 3, 7, 9),)),
    ("conv_dilated", lambda n: n.Conv2d(4, 6, 3, 2, 2, 2, 2), ((2, 4, 9, 8),)),
    (
        "conv_depthwise",
        lambda n: n.Conv2d(6, 6, 5, padding=2, groups=6, bias=False),
        ((2, 6, 7, 5),),
    ),
    ("conv_multiplier", lambda n: n.Conv2d(3, 6, 3, 2, 1, groups=3), ((1, 3, 6, 5),)),
    (
        "conv_same",
        lambda n: n.Conv2d(3, 4, (2, 4), padding="same", dilation=(3, 1)),
        ((2, 3, 5, 6),),
    ),
    ("conv_valid", lambda n: n.Conv2d(3, 4, 3, stride=2, padding="valid"), ((2, 3, 5, 6),)),
    ("conv_pixel", lambda n: n.Conv2d(3, 4, 1), ((1, 3, 1, 1),)),
    ("conv_pixel_padded", lambda n: n.Conv2d(3, 4, 3, padding=1), ((1, 3, 1, 1),)),
    ("conv_empty", lambda n: n.Conv2d(3, 4, 3), ((0, 3, 5, 5),)),
    ("batch_norm_1d", lambda n: n.BatchNorm1d(4), ((6, 4),)),
    ("batch_norm_1d_length", lambda n: n.BatchNorm1d(4, momentum=0.3), ((3, 4, 5),)),
    ("batch_norm", lambda n: n.BatchNorm2d(4), ((3, 4, 5, 2),)),
    ("batch_norm_average", lambda n: n.BatchNorm2d(4, 1e-3, None), ((3, 4, 5, 2),)),
    ("batch_norm_plain", lambda n: n.BatchNorm2d(4, affine=False), ((3, 4, 5, 2),)),
    ("batch_norm_unbiased", lambda n: n.BatchNorm2d(4, bias=False), ((3, 4, 5, 2),)),
    ("batch_norm_now", lambda n: n.BatchNorm2d(4, track_running_stats=False), ((3, 4, 1, 1),)),
    ("layer_norm", lambda n: n.LayerNorm(5), ((2, 3, 5),)),
    ("layer_norm_axes", lambda n: n.LayerNorm((3, 5), eps=1e-2), ((2, 3, 5),)),
    ("layer_norm_unbiased", lambda n: n.LayerNorm([5], bias=False), ((2, 3, 5),)),
    ("layer_norm_plain", lambda n: n.LayerNorm(5, elementwise_affine=False), ((2, 3, 5),)),
    ("group_norm", lambda n: n.GroupNorm(2, 6), ((2, 6, 3, 4),)),
    ("group_norm_plain", lambda n: n.GroupNorm(3, 6, affine=False), ((2, 6),)),
    ("group_norm_unbiased", lambda n: n.GroupNorm(3, 6, bias=False), ((2, 6, 5),)),
    ("instance_norm", lambda n: n.InstanceNorm2d(6, affine=True), ((2, 6, 3, 4),)),
    ("relu", lambda n: n.ReLU(), ((3, 4),)),
    ("relu_inplace", lambda n: n.ReLU(inplace=True), ((3, 4),)),
    ("relu6", lambda n: n.ReLU6(True), ((3, 4),)),
    ("leaky_relu", lambda n: n.LeakyReLU(0.2), ((3, 4),)),
    ("elu", lambda n: n.ELU(0.5, inplace=True), ((3, 4),)),
    ("celu", lambda n: n.CELU(0.5), ((3, 4),)),
    ("selu", lambda n: n.SELU(), ((3, 4),)),
    ("gelu", lambda n: n.GELU(), ((3, 4),)),
    ("gelu_tanh", lambda n: n.GELU("tanh"), ((3, 4),)),
    ("silu", lambda n: n.SiLU(), ((3, 4),)),
    ("mish", lambda n: n.Mish(), ((3, 4),)),
    ("hardswish", lambda n: n.Hardswish(), ((3, 4),)),
    ("hardsigmoid", lambda n: n.Hardsigmoid(), ((3, 4),)),
    ("hardtanh", lambda n: n.Hardtanh(-0.5, 0.25), ((3, 4),)),
    ("softplus", lambda n: n.Softplus(2.0, 1.0), ((3, 4),)),
    ("softsign", lambda n: n.Softsign(), ((3, 4),)),
    ("sigmoid", lambda n: n.Sigmoid(), ((3, 4),)),
    ("logsigmoid", lambda n: n.LogSigmoid(), ((3, 4),)),
    ("tanh", lambda n: n.Tanh(), ((3, 4),)),
    ("softmax", lambda n: n.Softmax(dim=1), ((3, 4, 2),)),
    ("log_softmax", lambda n: n.LogSoftmax(-1), ((3, 4),)),
    ("glu", lambda n: n.GLU(1), ((3, 4, 2),)),
    ("prelu", lambda n: n.PReLU(), ((3, 4),)),
    ("prelu_channels", lambda n: n.PReLU(4, 0.1), ((3, 4, 2, 2),)),
    ("max_pool", lambda n: n.MaxPool2d(2), ((2, 3, 5, 6),)),
    (
        "max_pool_all",
        lambda n: n.MaxPool2d((3, 2), 2, (1, 0), (1, 2), ceil_mode=True),
        ((2, 3, 7, 6),),
    ),
    ("avg_pool", lambda n: n.AvgPool2d(3, 2, 1), ((2, 3, 5, 6),)),
    ("avg_pool_all", lambda n: n.AvgPool2d((2, 3), None, (1, 1), True, False), ((2, 3, 5, 7),)),
    ("avg_pool_divisor", lambda n: n.AvgPool2d(2, divisor_override=3), ((2, 3, 4, 4),)),
    ("adaptive", lambda n: n.AdaptiveAvgPool2d(1), ((2, 3, 5, 6),)),
    ("adaptive_odd", lambda n: n.AdaptiveAvgPool2d((3, None)), ((2, 3, 5, 6),)),
    ("adaptive_pixel", lambda n: n.AdaptiveAvgPool2d((1, 1)), ((2, 3, 1, 1),)),
    ("dropout_off", lambda n: n.Dropout(0.0), ((3, 4),)),
    ("dropout2d_off", lambda n: n.Dropout2d(0.0), ((2, 3, 4, 4),)),
    ("mse", lambda n: n.MSELoss(), ((3, 4), (3, 4))),
    ("l1", lambda n: n.L1Loss(reduction="sum"), ((3, 4), (3, 4))),
    ("smooth_l1", lambda n: n.SmoothL1Loss(beta=0.5), ((3, 4), (3, 4))),
    ("huber", lambda n: n.HuberLoss("none", 0.5), ((3, 4), (3, 4))),
    ("bce_logits", lambda n: n.BCEWithLogitsLoss(), ((3, 4), (3, 4))),
    ("kl_div", lambda n: n.KLDivLoss(reduction="batchmean", log_target=True), ((3, 4), (3, 4))),
    ("cross_entropy_soft", lambda n: n.CrossEntropyLoss(label_smoothing=0.1), ((3, 4), (3, 4))),
]


def _pair(build: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Return lucid's and PyTorch's layer with the same parameters."""
    torch.manual_seed(0)
    ours, theirs = build(nn), build(torch.nn)
    with torch.no_grad():
        for p in theirs.parameters():  # weights and biases that begin at 1 and 0 prove little
            p.add_(torch.randn_like(p) * 0.1)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def _compare(ours: Any, theirs: Any, arrays: list[np.ndarray], **kwargs: Any) -> None:
    """Compare outputs, gradients of inputs and parameters, and buffers."""
    xs = [lucid.tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    # inplace=True may not change a leaf in PyTorch
    got, expected = ours(*xs, **kwargs), theirs(*[t * 1 for t in ts], **kwargs)
    assert got.shape == tuple(expected.shape)
    np.testing.assert_allclose(
        got.detach().numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-5
    )
    weights = np.random.default_rng(1).standard_normal(got.shape).astype(np.float32)
    (got * weights).sum().backward()
    (expected * torch.tensor(weights)).sum().backward()
    pairs = [*zip(xs, ts), *zip(ours.parameters(), theirs.parameters())]
    for a, b in pairs:
        if b.grad is not None:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-4, atol=5e-5)
    for a, b in zip(ours.buffers(), theirs.buffers()):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
        assert str(a.dtype) == str(b.dtype).removeprefix("torch.")


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("build", "shapes"), [c[1:] for c in LAYERS], ids=[c[0] for c in LAYERS])
def test_values_and_gradients(
    build: Callable[[Any], Any], shapes: tuple[tuple[int, ...], ...], training: bool
) -> None:
    ours, theirs = _pair(build)
    rng = np.random.default_rng(0)
    for _ in range(2):  # twice: statistics go on from where they were
        arrays = [rng.standard_normal(s).astype(np.float32) for s in shapes]
        ours.train(), theirs.train()
        if not training:
            with torch.no_grad(), lucid.no_grad():
                warm = [np.concatenate([a, a + 1]) if a.ndim > 1 else a for a in arrays]
                ours(*map(lucid.tensor, warm)), theirs(*map(torch.tensor, warm))
            ours.eval(), theirs.eval()
        _compare(ours, theirs, arrays)


@pytest.mark.parametrize("build", [c[1] for c in LAYERS], ids=[c[0] for c in LAYERS])
def test_state_and_repr(build: Callable[[Any], Any]) -> None:
    ours, theirs = build(nn), build(torch.nn)
    got = {k: (v.shape, str(v.dtype)) for k, v in ours.state_dict().items()}
    expected = {
        k: (tuple(v.shape), str(v.dtype).removeprefix("torch."))
        for k, v in theirs.state_dict().items()
    }
    assert got == expected
    assert list(got) == list(expected)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert repr(ours) == repr(theirs)


# -- losses over classes ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss"])
@pytest.mark.parametrize("shape", [(6, 5), (2, 5, 3, 4)])
def test_class_losses(name: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 2, 5).astype(np.float32)
    labels = rng.integers(0, 5, (shape[0], *shape[2:]))
    labels.flat[1] = 3
    ours = getattr(nn, name)(lucid.tensor(weight), ignore_index=3)
    theirs = getattr(torch.nn, name)(torch.tensor(weight), ignore_index=3)
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight"]
    _compare(
        lambda_module(nn, lambda x: ours(x, lucid.tensor(labels))),
        lambda_module(torch.nn, lambda x: theirs(x, torch.tensor(labels))),
        [rng.standard_normal(shape).astype(np.float32)],
    )


def lambda_module(library: Any, fn: Callable[[Any], Any]) -> Any:
    """Return a module of the library that calls ``fn``."""

    class Lambda(library.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return fn(x)

    return Lambda()


@pytest.mark.parametrize("weighted", [True, False])
def test_bce_losses(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    x, t, w, p = (rng.uniform(0.1, 0.9, s).astype(np.float32) for s in ((4, 3), (4, 3), (3,), (3,)))
    for name in ("BCELoss", "BCEWithLogitsLoss"):

        def build(library: Any, tensor: Any, name: str = name) -> Any:
            if not weighted:
                return getattr(library, name)()
            extra = {"pos_weight": tensor(p)} if "Logits" in name else {}
            return getattr(library, name)(weight=tensor(w), **extra)

        ours, theirs = build(nn, lucid.tensor), build(torch.nn, torch.tensor)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        _compare(ours, theirs, [x, t])


# -- embedding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
def test_embedding(padding_idx: int | None) -> None:
    ours, theirs = _pair(lambda n: n.Embedding(7, 4, padding_idx=padding_idx))
    assert repr(ours) == repr(theirs)
    index = np.array([[1, 2, 6], [2, 2, 0]])
    got, expected = ours(lucid.tensor(index)), theirs(torch.tensor(index))
    np.testing.assert_array_equal(got.detach().numpy(), expected.detach().numpy())
    weights = np.random.default_rng(0).standard_normal(got.shape).astype(np.float32)
    (got * weights).sum().backward()
    (expected * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy(), rtol=1e-5)
    fresh = nn.Embedding(7, 4, padding_idx=2).weight
    assert not fresh.data[2].any()
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    frozen = nn.Embedding.from_pretrained(table)
    assert frozen(lucid.tensor([2])).tolist() == [[4, 5]]
    assert not frozen.weight.requires_grad


# -- attention ----------------------------------------------------------------------------------

ATTENTION: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("plain", {}, {}),
    ("no_bias", {"bias": False}, {}),
    ("batch_first", {"batch_first": True}, {}),
    ("kdim_vdim", {"kdim": 5, "vdim": 7}, {}),
    ("bias_kv", {"add_bias_kv": True, "add_zero_attn": True}, {}),
    ("no_weights", {}, {"need_weights": False}),
    ("each_head", {}, {"average_attn_weights": False}),
    ("padding", {}, {"key_padding_mask": np.array([[0, 0, 1, 0], [0, 1, 1, 0]], bool)}),
    (
        "mask",
        {},
        {"attn_mask": np.array([[0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]], bool)},
    ),
    ("added", {}, {"attn_mask": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)}),
    (
        "mask_each_head",
        {"batch_first": True, "add_bias_kv": True},
        {
            "attn_mask": np.linspace(-1, 1, 72, dtype=np.float32).reshape(6, 3, 4),
            "key_padding_mask": np.array([[0, 0, 1, 0], [0, 1, 1, 0]], np.float32) * -2,
        },
    ),
]


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(
    ("settings", "options"), [a[1:] for a in ATTENTION], ids=[a[0] for a in ATTENTION]
)
def test_attention(settings: dict[str, Any], options: dict[str, Any], batched: bool) -> None:
    ours, theirs = _pair(lambda n: n.MultiheadAttention(6, 3, **settings))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    options = dict(options)
    rng = np.random.default_rng(0)
    arrays = []
    for length, size in ((3, 6), (4, settings.get("kdim", 6)), (4, settings.get("vdim", 6))):
        shape = (2, length, size) if settings.get("batch_first") else (length, 2, size)
        arrays.append(rng.standard_normal(shape if batched else (length, size)).astype(np.float32))
    if not batched:
        if "key_padding_mask" in options:
            options["key_padding_mask"] = options["key_padding_mask"][0]
        if options.get("attn_mask", np.zeros((1, 1))).ndim == 3:
            options["attn_mask"] = options["attn_mask"][:3]

    def convert(tensor: Any) -> dict[str, Any]:
        return {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}

    xs = [lucid.tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    got, expected = ours(*xs, **convert(lucid.tensor)), theirs(*ts, **convert(torch.tensor))
    total: Any = 0
    total_torch: Any = 0
    for a, b in zip(got, expected):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.shape == tuple(b.shape)
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-4, atol=1e-5)
            factor = rng.standard_normal(a.shape).astype(np.float32)
            total = (a * factor).sum() + total
            total_torch = (b * torch.tensor(factor)).sum() + total_torch
    total.backward()
    total_torch.backward()
    for a, b in [*zip(xs, ts), *zip(ours.parameters(), theirs.parameters())]:
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_self_attention_projects_once() -> None:
    ours, theirs = _pair(lambda n: n.MultiheadAttention(6, 3))
    x = np.random.default_rng(0).standard_normal((4, 2, 6)).astype(np.float32)
    a, b = lucid.tensor(x), torch.tensor(x)
    np.testing.assert_allclose(
        ours(a, a, a)[0].detach().numpy(), theirs(b, b, b)[0].detach().numpy(), rtol=1e-4, atol=1e-6
    )


# -- initial values -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda n: n.Linear(64, 300),
        lambda n: n.Conv2d(16, 64, (3, 5)),
        lambda n: n.Conv2d(64, 512, 5, groups=64),
        lambda n: n.Embedding(300, 64),
        lambda n: n.MultiheadAttention(64, 4),
        lambda n: n.MultiheadAttention(96, 4, kdim=160, vdim=32, add_bias_kv=True),
        lambda n: n.BatchNorm2d(64),
        lambda n: n.LayerNorm(64),
        lambda n: n.PReLU(64),
    ],
)
def test_initial_values_are_distributed_alike(build: Callable[[Any], Any]) -> None:
    torch.manual_seed(0)
    lucid.manual_seed(0)
    for (name, a), (_, b) in zip(build(nn).named_parameters(), build(torch.nn).named_parameters()):
        x, y = a.data.ravel().astype(np.float64), b.detach().numpy().ravel().astype(np.float64)
        spread, n = y.std(), x.size
        assert abs(x.mean() - y.mean()) <= 7 * spread / np.sqrt(n), name
        assert abs(x.std() - spread) <= 7 * spread / np.sqrt(2 * n), name
        if not name.startswith("bias_"):
            assert np.abs(x).max() <= np.abs(y).max() * (
                1.5 if "Embedding" in str(type(a)) else 1.3
            )


# -- whole models -------------------------------------------------------------------------------


def _model(n: Any) -> Any:
    from collections import OrderedDict

    class Block(n.Module):  # type: ignore[misc,name-defined]
        def __init__(self, size: int) -> None:
            super().__init__()
            self.conv = n.Conv2d(size, size, 3, padding=1, groups=size, bias=False)
            self.norm = n.BatchNorm2d(size)
            self.act = n.ReLU6()

        def forward(self, x: Any) -> Any:
            return x + self.act(self.norm(self.conv(x)))

    return n.Sequential(
        OrderedDict(
            stem=n.Conv2d(3, 8, 3, 2, 1),
            blocks=n.Sequential(*[Block(8) for _ in range(2)]),
            more=n.Sequential(),
            pool=n.AdaptiveAvgPool2d(1),
            flat=n.Flatten(),
            drop=n.Dropout(0.0),
            head=n.Linear(8, 5),
        )
    )


def test_model_prints_and_saves_alike() -> None:
    ours, theirs = _model(nn), _model(torch.nn)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    lists = [
        n.ModuleList([n.Linear(2, 2), n.Linear(2, 2), n.ReLU(), n.Linear(2, 2)])
        for n in (nn, torch.nn)
    ]
    assert repr(lists[0]) == repr(lists[1])
    dicts = [n.ModuleDict({"a": n.ReLU(), "b": n.ModuleList([n.ReLU()])}) for n in (nn, torch.nn)]
    assert repr(dicts[0]) == repr(dicts[1])


def test_model_trains_alike() -> None:
    ours, theirs = _pair(_model)
    x = np.random.default_rng(0).standard_normal((4, 3, 9, 7)).astype(np.float32)
    for _ in range(2):
        _compare(ours, theirs, [x])
    before = copy.deepcopy(theirs.state_dict())
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    for k, v in theirs.state_dict().items():
        np.testing.assert_allclose(v.numpy(), before[k].numpy(), rtol=1e-5, atol=1e-6)
    _compare(ours.eval(), theirs.eval(), [x])


def test_clip_grad_norm() -> None:
    ours, theirs = _pair(lambda n: n.Linear(4, 3))
    x = np.ones((2, 4), np.float32)
    for kind in (2.0, 1.0, float("inf")):
        ours.zero_grad(), theirs.zero_grad()
        ours(lucid.tensor(x)).square().sum().backward()
        theirs(torch.tensor(x)).square().sum().backward()
        a = nn.utils.clip_grad_norm_(ours.parameters(), 0.5, kind)
        b = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5, kind)
        np.testing.assert_allclose(a.item(), b.item(), rtol=1e-5)
        for p, q in zip(ours.parameters(), theirs.parameters()):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-4)
