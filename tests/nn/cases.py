"""Every function of nn.functional with inputs: checked by differences, and against PyTorch.

A case is a function of a library's ``nn.functional`` (lucid's and torch's share their names) and
of tensors; ``const`` makes integer or boolean constants of the library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Fn = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    name: str
    fn: Fn  # (F, const, *tensors)
    shapes: tuple[tuple[int, ...], ...]
    domain: str = "any"  # or "unit": within (0, 1); "positive"
    by_differences: bool = True  # False where some gradient is missing on purpose

    def __str__(self) -> str:
        return f"{self.name}-{'-'.join('x'.join(map(str, s)) or 'scalar' for s in self.shapes)}"

    def arrays(self, seed: int = 0) -> list[np.ndarray]:
        """Return float64 inputs, distinct and away from the kinks (whole and half numbers)."""
        rng = np.random.default_rng(seed)
        arrays = []
        for position, shape in enumerate(self.shapes):
            if self.domain == "unit":
                arrays.append(rng.uniform(0.1, 0.9, shape))
                continue
            if self.domain == "positive":
                arrays.append(rng.uniform(0.5, 2.0, shape))
                continue
            size = int(np.prod(shape))
            values = (rng.permutation(size) - size / 2) * (10 / max(size, 10)) + 0.003
            values += 0.21 * position  # so that differences are not 0 either
            near = np.abs(values * 2 - np.round(values * 2)) < 0.02
            arrays.append(np.where(near, values + 0.03, values).reshape(shape))
        return arrays


IMAGE = (2, 4, 2, 3)


def _case(name: str, fn: Fn, *shapes: tuple[int, ...], **kwargs: Any) -> Case:
    return Case(name, fn, shapes, **kwargs)


def _unary(name: str, *args: Any, **kwargs: Any) -> list[Case]:
    label = "_".join([name, *map(str, args), *(f"{k}={v}" for k, v in kwargs.items())])

    def fn(F: Any, const: Any, x: Any) -> Any:
        return getattr(F, name)(x, *args, **kwargs)

    return [_case(label, fn, shape) for shape in ((3, 4), (), (0, 3), IMAGE)]


ACTIVATIONS = [
    *_unary("relu"),
    *_unary("relu6"),
    *_unary("hardtanh"),
    *_unary("hardtanh", -2.2, 0.7),
    *_unary("leaky_relu"),
    *_unary("leaky_relu", 1.3),
    *_unary("elu"),
    *_unary("elu", 0.7),
    *_unary("selu"),
    *_unary("celu", 0.6),
    *_unary("gelu"),
    *_unary("gelu", approximate="tanh"),
    *_unary("silu"),
    *_unary("mish"),
    *_unary("hardswish"),
    *_unary("hardsigmoid"),
    *_unary("softplus"),
    *_unary("softplus", 2.0, 3.1),
    *_unary("logsigmoid"),
    *_unary("softsign"),
    *_unary("sigmoid"),
    *_unary("tanh"),
    *_unary("softmax", dim=-1),
    *_unary("log_softmax", dim=0),
    *_unary("softmin", dim=-1),
    _case("softmax_channels", lambda F, c, x: F.softmax(x, 1), IMAGE),
    _case("log_softmax_channels", lambda F, c, x: F.log_softmax(x, dim=1), IMAGE),
    _case("glu", lambda F, c, x: F.glu(x), (3, 6)),
    _case("glu_channels", lambda F, c, x: F.glu(x, 1), IMAGE),
    _case("prelu_one", lambda F, c, x, w: F.prelu(x, w), (3, 4), (1,)),
    _case("prelu_channels", lambda F, c, x, w: F.prelu(x, w), IMAGE, (4,)),
]

LAYERS = [
    _case("linear", lambda F, c, x, w, b: F.linear(x, w, b), (3, 4), (2, 4), (2,)),
    _case("linear_no_bias", lambda F, c, x, w: F.linear(x, w), (2, 3, 4), (5, 4)),
    _case("linear_vector", lambda F, c, x, w, b: F.linear(x, w, b), (4,), (3, 4), (3,)),
    _case("linear_empty", lambda F, c, x, w, b: F.linear(x, w, b), (0, 4), (3, 4), (3,)),
    _case("linear_one", lambda F, c, x, w, b: F.linear(x, w, b), (1, 1), (1, 1), (1,)),
    _case("layer_norm", lambda F, c, x, w, b: F.layer_norm(x, (4,), w, b), (3, 4), (4,), (4,)),
    _case(
        "layer_norm_two_axes",
        lambda F, c, x, w, b: F.layer_norm(x, (2, 3), w, b, 1e-3),
        IMAGE,
        (2, 3),
        (2, 3),
    ),
    _case("layer_norm_plain", lambda F, c, x: F.layer_norm(x, (4,)), (2, 3, 4)),
    _case("layer_norm_empty", lambda F, c, x: F.layer_norm(x, (4,)), (0, 4)),
    _case("group_norm", lambda F, c, x, w, b: F.group_norm(x, 2, w, b), IMAGE, (4,), (4,)),
    _case("group_norm_flat", lambda F, c, x: F.group_norm(x, 2), (3, 6)),
    _case("group_norm_one", lambda F, c, x, w: F.group_norm(x, 1, w), (2, 4, 5), (4,)),
    _case("group_norm_each", lambda F, c, x: F.group_norm(x, 4), IMAGE),
    _case("instance_norm", lambda F, c, x: F.instance_norm(x), IMAGE),
    _case(
        "embedding",
        lambda F, c, w: F.embedding(c([[1, 0, 4], [1, 1, 2]]), w),
        (5, 3),
    ),
    _case(
        "embedding_padding",
        lambda F, c, w: F.embedding(c([[1, 0, 4], [1, 4, 2]]), w, padding_idx=-1),
        (5, 3),
        by_differences=False,
    ),
    _case("normalize", lambda F, c, x: F.normalize(x), (3, 4)),
    _case("normalize_l1", lambda F, c, x: F.normalize(x, p=1.0, dim=0), (3, 4)),
    _case(
        "cosine_similarity",
        lambda F, c, x, y: F.cosine_similarity(x, y, dim=-1),
        (3, 4),
        (3, 4),
    ),
]


def _attention(**kwargs: Any) -> Fn:
    def fn(F: Any, const: Any, q: Any, k: Any, v: Any) -> Any:
        options = {k: const(v) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
        return F.scaled_dot_product_attention(q, k, v, **options)

    return fn


_MASK = np.array([[True, False, True], [True, True, True]])
_BLIND = np.array([[True, False, True], [False, False, False]])
QKV = ((2, 2, 2, 3), (2, 2, 3, 3), (2, 2, 3, 1))

ATTENTION = [
    _case("sdpa", _attention(), *QKV),
    _case("sdpa_plain", _attention(), (2, 3), (4, 3), (4, 2)),
    _case("sdpa_causal", _attention(is_causal=True), *QKV),
    _case("sdpa_scale", _attention(scale=0.3), *QKV),
    _case("sdpa_mask", _attention(attn_mask=_MASK), *QKV),
    _case("sdpa_blind_row", _attention(attn_mask=_BLIND), *QKV),
    _case("sdpa_groups", _attention(enable_gqa=True), QKV[0], (2, 1, 3, 3), (2, 1, 3, 2)),
    _case(
        "sdpa_added",
        lambda F, c, q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m),
        *QKV,
        (2, 3),
    ),
]


def _loss(name: str, **kwargs: Any) -> Fn:
    def fn(F: Any, const: Any, x: Any, t: Any) -> Any:
        return getattr(F, name)(x, t, **kwargs)

    return fn


def _classes(name: str, labels: Any, weight: list[float] | None = None, **kwargs: Any) -> Fn:
    def fn(F: Any, const: Any, x: Any) -> Any:
        if weight is not None:
            kwargs["weight"] = const(np.array(weight)).to(x.dtype)
        return getattr(F, name)(x, const(labels), **kwargs)

    return fn


REDUCTIONS = ("none", "mean", "sum")
_WEIGHT = [0.5, 1.0, 2.0, 1.5]
_IMAGE_LABELS = np.random.default_rng(7).integers(0, 4, (2, 2, 3))

LOSSES = [
    _case(f"{name}_{reduction}_{extra}", _loss(name, reduction=reduction, **extra), shape, shape)
    for name, extras in (
        ("mse_loss", [{}]),
        ("l1_loss", [{}]),
        ("smooth_l1_loss", [{}, {"beta": 0.3}, {"beta": 0.0}]),
        ("huber_loss", [{}, {"delta": 1.7}]),
        ("binary_cross_entropy_with_logits", [{}]),
        ("kl_div", [{"log_target": True}]),
    )
    for extra in extras
    for reduction in REDUCTIONS
    for shape in ((3, 4), ())
] + [
    *[
        _case(f"bce_{r}", _loss("binary_cross_entropy", reduction=r), (3, 4), (3, 4), domain="unit")
        for r in REDUCTIONS
    ],
    *[
        _case(f"kl_div_{r}", _loss("kl_div", reduction=r), (3, 4), (3, 4), domain="positive")
        for r in (*REDUCTIONS, "batchmean")
    ],
    _case(
        "bce_weight",
        lambda F, c, x, t, w: F.binary_cross_entropy(x, t, weight=w.detach()),
        (3, 4),
        (3, 4),
        (4,),
        domain="unit",
        by_differences=False,  # the weights have no gradient
    ),
    _case(
        "bce_logits_weights",
        lambda F, c, x, t, w, p: F.binary_cross_entropy_with_logits(
            x, t, weight=w.detach(), pos_weight=p.detach(), reduction="sum"
        ),
        (3, 4),
        (3, 4),
        (4,),
        (3, 1),
        by_differences=False,
    ),
    *[
        _case(f"{name}_{r}_{i}", _classes(name, labels, weight, reduction=r, **extra), shape)
        for name, extras in (
            ("nll_loss", [{}, {"ignore_index": 2}]),
            ("cross_entropy", [{}, {"ignore_index": 2}, {"label_smoothing": 0.1}]),
        )
        for r in REDUCTIONS
        for i, (labels, weight, extra, shape) in enumerate(
            (labels, weight, extra, shape)
            for labels, shape in (
                (np.array([0, 2, 3, 2, 1]), (5, 4)),
                (_IMAGE_LABELS, IMAGE),
                (np.array(1), (4,)),
            )
            for weight in (None, _WEIGHT)
            for extra in extras
        )
    ],
    _case(
        "cross_entropy_all",
        _classes("cross_entropy", [3, 2, -1, 0], _WEIGHT, ignore_index=-1, label_smoothing=0.2),
        (4, 4),
    ),
    *[
        _case(
            f"cross_entropy_soft_{r}_{smoothing}",
            _loss("cross_entropy", reduction=r, label_smoothing=smoothing),
            shape,
            shape,
            domain="unit",
        )
        for r in REDUCTIONS
        for smoothing in (0.0, 0.3)
        for shape in ((5, 4), IMAGE, (4,))
    ],
    _case(
        "cross_entropy_soft_weight",
        lambda F, c, x, t: F.cross_entropy(
            x, t, weight=c(np.array(_WEIGHT)).to(x.dtype), label_smoothing=0.1
        ),
        IMAGE,
        IMAGE,
        domain="unit",
    ),
]


def _conv(**kwargs: Any) -> Fn:
    def fn(F: Any, const: Any, x: Any, w: Any, *b: Any) -> Any:
        return F.conv2d(x, w, *b, **kwargs)

    return fn


CONVOLUTIONS = [
    _case("conv", _conv(), (2, 3, 5, 4), (4, 3, 3, 2), (4,)),
    _case("conv_pixel", _conv(), (1, 2, 1, 1), (3, 2, 1, 1), (3,)),
    _case("conv_pointwise", _conv(), (2, 4, 3, 5), (3, 4, 1, 1)),
    _case("conv_depthwise", _conv(groups=4, padding=1, stride=2), (2, 4, 5, 7), (4, 1, 3, 3)),
    _case("conv_groups", _conv(groups=2, padding=(2, 1)), (1, 4, 5, 3), (6, 2, 3, 3), (6,)),
    _case(
        "conv_dilation",
        _conv(dilation=(2, 1), stride=(1, 2), padding=2),
        (2, 2, 5, 6),
        (3, 2, 2, 3),
    ),
    _case("conv_same", _conv(padding="same"), (1, 2, 4, 5), (2, 2, 4, 3), (2,)),
    _case("conv_valid", _conv(padding="valid", stride=3), (1, 2, 7, 8), (2, 2, 3, 3)),
    _case("conv_empty", _conv(padding=1), (0, 2, 4, 5), (3, 2, 3, 3), (3,)),
]


def _norm(F: Any, const: Any, x: Any, w: Any, b: Any) -> Any:
    return F.batch_norm(x, None, None, w, b, training=True)


POOLS = [
    *[
        _case(f"batch_norm_{len(s)}", _norm, s, (s[1],), (s[1],))
        for s in ((5, 3), (4, 3, 2), (2, 3, 4, 5))
    ],
    _case("max_pool", lambda F, c, x: F.max_pool2d(x, 2), (2, 3, 5, 6)),
    _case("max_pool_all", lambda F, c, x: F.max_pool2d(x, 3, 2, 1, 2, True), (2, 2, 7, 8)),
    _case("avg_pool", lambda F, c, x: F.avg_pool2d(x, (2, 3), 1), (2, 3, 4, 5)),
    _case("avg_pool_one", lambda F, c, x: F.avg_pool2d(x, (2,), (1,), (1,)), (2, 3, 4, 5)),
    _case("avg_pool_all", lambda F, c, x: F.avg_pool2d(x, 3, 2, 1, True, False), (2, 2, 6, 7)),
    _case("adaptive", lambda F, c, x: F.adaptive_avg_pool2d(x, 1), (2, 3, 4, 5)),
    _case("adaptive_odd", lambda F, c, x: F.adaptive_avg_pool2d(x, (3, 2)), (2, 3, 7, 5)),
    _case("adaptive_keep", lambda F, c, x: F.adaptive_avg_pool2d(x, (None, 2)), (1, 2, 3, 4)),
    _case("nearest", lambda F, c, x: F.interpolate(x, size=(5, 7)), (1, 2, 3, 4)),
    _case(
        "bilinear",
        lambda F, c, x: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
        (1, 2, 3, 4),
    ),
]

CASES = [*ACTIVATIONS, *LAYERS, *ATTENTION, *LOSSES, *CONVOLUTIONS, *POOLS]
