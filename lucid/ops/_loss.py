"""Losses.

Arguments that come after PyTorch's deprecated ``size_average`` and ``reduce``, which do not exist
here, are taken by name only: a position would mean another argument there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lucid import kernels
from lucid._check import one_of
from lucid.autograd import Function, Tensor, is_grad_enabled
from lucid.autograd._graph import Node
from lucid.autograd._tensor import wrap
from lucid.ops._activation import hardtanh, log_softmax, softmax, softplus
from lucid.ops._common import Array, as_float, floating, operand, operands, wanted
from lucid.ops._elementwise import astype, exp, log, where, widened
from lucid.ops._index import PutAdd

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy",
    "gaussian_nll_loss", "huber_loss", "kl_div", "l1_loss", "mse_loss", "nll_loss",
    "smooth_l1_loss",
]  # fmt: skip

REDUCTIONS = ("none", "mean", "sum")


def reduced(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    # As in PyTorch, the mean of nothing is NaN.
    return losses.mean() if losses.data.size else losses.sum() * math.nan


def same_shape(input: Any, target: Any, who: str) -> tuple[Tensor, Tensor]:
    """Return input and target, which must have one shape.

    Broadcasting ``(N, 1)`` with ``(N,)`` would give a loss of N×N terms without a word.
    """
    x, t = floating(input, who), floating(target, who)
    if x.shape != t.shape:
        raise ValueError(
            f"{who}: input and target must have the same shape, got {x.shape} and {t.shape}"
        )
    return x, t.astype(x.dtype)


# -- differences --------------------------------------------------------------------------------


def _weighted(
    losses: Tensor, weight: Any, reduction: str, who: str, by_weights: bool = True
) -> Tensor:
    """Return the losses reduced, each times its weight if there are weights."""
    if weight is None:
        return reduced(losses, reduction)
    weights = floating(weight, who)
    if weights.shape != losses.shape:
        raise ValueError(f"{who}: expected a weight of shape {losses.shape}, got {weights.shape}")
    losses = losses * weights
    if reduction == "mean" and by_weights:
        return losses.sum() / weights.sum()
    return reduced(losses, reduction)


def mse_loss(input: Any, target: Any, *, reduction: str = "mean", weight: Any = None) -> Tensor:
    """Return the squared differences.

    Args:
        input: any shape.
        target: of the same shape (PyTorch broadcasts, with a warning).
        reduction: ``"none"``, ``"mean"`` over all elements, or ``"sum"``.
        weight: factors of that shape, by whose sum a mean is divided; or None.

    Raises:
        ValueError: if the shapes differ or the reduction is unknown.
    """
    one_of(reduction, REDUCTIONS, "reduction", "mse_loss")
    x, t = same_shape(input, target, "mse_loss")
    return _weighted((x - t).square(), weight, reduction, "mse_loss")


def l1_loss(input: Any, target: Any, *, reduction: str = "mean", weight: Any = None) -> Tensor:
    """Return the absolute differences. Arguments as in :func:`mse_loss`."""
    one_of(reduction, REDUCTIONS, "reduction", "l1_loss")
    x, t = same_shape(input, target, "l1_loss")
    return _weighted((x - t).abs(), weight, reduction, "l1_loss")


class Huber(Function):
    """``scale`` times d²/2 up to a size ``delta`` of d, ``delta·(|d| - delta/2)`` beyond."""

    @staticmethod
    def forward(ctx: Node, difference: Tensor, delta: float, scale: float) -> Array:
        ctx.save_for_backward(difference)
        ctx.how = delta, scale
        d = difference.data
        size = np.abs(d)
        return np.where(size < delta, d * d * (0.5 * scale), (size - 0.5 * delta) * (delta * scale))

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (difference,) = ctx.saved_tensors
        delta, scale = ctx.how
        return grad * (hardtanh(difference, -delta, delta) * scale)


def smooth_l1_loss(
    input: Any, target: Any, *, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """Return ``d²/(2·beta)`` where the difference d is below ``beta``, else ``|d| - beta/2``.

    From Girshick 2015. Arguments as in :func:`mse_loss`; ``beta=0`` gives :func:`l1_loss`.

    Raises:
        ValueError: if ``beta`` is negative, or as :func:`mse_loss` does.
    """
    one_of(reduction, REDUCTIONS, "reduction", "smooth_l1_loss")
    beta = as_float(beta, "beta", "smooth_l1_loss")
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    x, t = same_shape(input, target, "smooth_l1_loss")
    if beta == 0:
        return reduced((x - t).abs(), reduction)
    return reduced(Huber.apply(x - t, beta, 1 / beta), reduction)


def huber_loss(
    input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None
) -> Tensor:
    """Return ``d²/2`` where the difference d is at most ``delta``, else ``delta·(|d| - delta/2)``.

    From Huber 1964. Arguments as in :func:`mse_loss`; a mean is over all elements, weighted or not.

    Raises:
        ValueError: if ``delta`` is not positive, or as :func:`mse_loss` does.
    """
    one_of(reduction, REDUCTIONS, "reduction", "huber_loss")
    delta = as_float(delta, "delta", "huber_loss")
    if not delta > 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}")
    x, t = same_shape(input, target, "huber_loss")
    losses = Huber.apply(x - t, delta, 1.0)
    return _weighted(losses, weight, reduction, "huber_loss", by_weights=False)


# -- two classes --------------------------------------------------------------------------------


class BinaryCrossEntropy(Function):
    """``-(t log x + (1 - t) log(1 - x))``, each logarithm at least -100."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, t: Tensor) -> Array:
        ctx.save_for_backward(x, t)
        yes, no = _bounded_logs(x.data)
        return -(t.data * yes + (1 - t.data) * no)

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, t = ctx.saved_tensors
        grad_x = grad_t = None
        if ctx.needs_input_grad[0]:
            # Where the product vanishes this keeps the quotient finite, as PyTorch does.
            grad_x = grad * (x - t) / ((1.0 - x) * x).clamp(min=1e-12)
        if ctx.needs_input_grad[1]:
            yes, no = _bounded_logs(x.data)
            slope = wrap(no - yes) if not is_grad_enabled() else log(1.0 - x) - log(x)
            grad_t = grad * slope
        return grad_x, grad_t


def _bounded_logs(x: Array) -> tuple[Array, Array]:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(x), -100), np.maximum(np.log1p(-x), -100)


def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean"
) -> Tensor:
    r"""Return :math:`-(t \log x + (1 - t) \log(1 - x))`, the logarithms bounded by -100 below.

    Args:
        input: probabilities from 0 to 1, any shape; for logits there is
            :func:`binary_cross_entropy_with_logits`.
        target: of the same shape, from 0 to 1.
        weight: factors that broadcast, or None.
        reduction: ``"none"``, ``"mean"`` over all elements, or ``"sum"``.

    Raises:
        ValueError: if the shapes differ, the reduction is unknown, or input or target are not from
            0 to 1.
    """
    who = "binary_cross_entropy"
    one_of(reduction, REDUCTIONS, "reduction", who)
    x, t = same_shape(input, target, who)
    logits = f"; for logits there is {who}_with_logits"
    for name, values, hint in (("probabilities", x.data, logits), ("targets", t.data, "")):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"{who}: expected {name} from 0 to 1, got {values.min()} to {values.max()}{hint}"
            )
    losses = BinaryCrossEntropy.apply(x, t)
    if weight is not None:
        losses = losses * floating(weight, who).astype(x.dtype)
    return reduced(losses, reduction)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    r"""Return :math:`-(p\,t \log\sigma(x) + (1 - t) \log(1 - \sigma(x)))`, computed stably.

    Args:
        input: logits, any shape.
        target: of the same shape, from 0 to 1.
        weight: factors that broadcast, or None.
        reduction: ``"none"``, ``"mean"`` over all elements, or ``"sum"``.
        pos_weight: p, the weight of positive examples; it broadcasts. None means 1.

    Raises:
        ValueError: if the shapes differ or the reduction is unknown.
    """
    who = "binary_cross_entropy_with_logits"
    one_of(reduction, REDUCTIONS, "reduction", who)
    x, t = same_shape(input, target, who)
    unlikely = softplus(-x, threshold=math.inf)  # -log sigmoid(x)
    if pos_weight is not None:
        unlikely = unlikely * ((floating(pos_weight, who).astype(x.dtype) - 1.0) * t + 1.0)
    losses = (1.0 - t) * x + unlikely
    if weight is not None:
        losses = losses * floating(weight, who).astype(x.dtype)
    return reduced(losses, reduction)


# -- many classes -------------------------------------------------------------------------------


class CrossEntropy(Function):
    """The loss of each row of logits ``(M, C)``, for classes given as numbers."""

    @staticmethod
    def forward(
        ctx: Node, x: Tensor, target: Array, weight: Array | None, smoothing: float
    ) -> Array:
        losses, log_p = kernels.active().cross_entropy(x.data, target, weight, smoothing)
        ctx.save_for_backward(x if ctx.needs_input_grad[0] else None)
        ctx.log_p, ctx.how = log_p, (target, weight, smoothing)
        return losses

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if not is_grad_enabled():
            return wrap(kernels.active().cross_entropy_grad(grad.data, ctx.log_p, *ctx.how))
        # The loss is -sum(t log p) with constant t, so its gradient is p sum(t) - t.
        t = _soft_targets(x.data, *ctx.how)
        total = wrap(t.sum(axis=1, keepdims=True))
        return grad.unsqueeze(1) * (softmax(x, 1) * total - wrap(t))


def _soft_targets(x: Array, target: Array, weight: Array | None, smoothing: float) -> Array:
    """Return ``(M, C)``: what each logarithm of a probability counts in the loss."""
    classes = x.shape[1]
    weights = np.ones(classes, x.dtype) if weight is None else weight
    kept = target >= 0
    t = np.zeros(x.shape, x.dtype)
    if smoothing:
        t[kept] = weights * (smoothing / classes)
    t[np.flatnonzero(kept), target[kept]] += weights[target[kept]] * (1 - smoothing)
    return t


def class_weight(weight: Any, x: Tensor, classes: int, who: str) -> Array | None:
    if weight is None:
        return None
    values = floating(weight, who).data.astype(x.dtype, copy=False)
    if values.shape != (classes,):
        raise ValueError(
            f"{who}: expected a weight for each of the {classes} classes, shape ({classes},), got "
            f"shape {values.shape}"
        )
    return values


def class_rows(
    input: Any, target: Any, ignore_index: int, who: str
) -> tuple[Tensor, Array, tuple[int, ...]]:
    """Return inputs as rows ``(M, C)``, targets ``(M,)`` with -1 to leave out, and their shape."""
    x, t = floating(input, who), operand(target, who)
    if x.ndim == 0:
        raise ValueError(f"{who}: expected an input of shape (N, C, *) or (C,), got {x.shape}")
    axis = 0 if x.ndim == 1 else 1
    expected = x.shape[:axis] + x.shape[axis + 1 :]
    classes = x.shape[axis]
    if t.dtype.kind not in "iu":
        raise TypeError(
            f"{who}: expected integer classes as target of shape {expected}, got {t.dtype} of "
            f"shape {t.shape}"
        )
    if t.shape != expected:
        raise ValueError(
            f"{who}: for an input of shape {x.shape} expected a target of shape {expected}, got "
            f"{t.shape}"
        )
    labels = t.data.reshape(-1).astype(np.int64)
    ignored = labels == ignore_index
    wrong = labels[~ignored & ((labels < 0) | (labels >= classes))]
    if wrong.size:
        raise IndexError(
            f"{who}: expected classes from 0 to {classes - 1} (or ignore_index={ignore_index}), "
            f"got {wrong[0]}"
        )
    labels[ignored] = -1
    if x.ndim > 2:
        x = x.movedim(1, -1)  # a view of channels-last memory
    return x.reshape(math.prod(expected), classes), labels, expected


def _reduce_rows(
    losses: Tensor, labels: Array, shape: tuple[int, ...], weight: Array | None, reduction: str
) -> Tensor:
    if reduction == "none":
        return losses.reshape(*shape)
    if reduction == "sum":
        return losses.sum()
    kept = labels[labels >= 0]
    total = float(kept.size if weight is None else weight[kept].sum())
    # Of float16 the sum may be infinite where the mean is not.
    mean = widened(losses).sum() * (1 / total if total else math.nan)
    return astype(mean, losses.dtype)


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""Return :math:`-\sum_c t_c \log\mathrm{softmax}(x)_c` for each sample.

    Args:
        input: logits ``(N, C)``, ``(N, C, *)`` or ``(C,)``.
        target: classes, integers ``(N,)``, ``(N, *)`` or ``()``; or probabilities of the input's
            shape and a floating dtype.
        weight: ``(C,)``, the weight of each class, or None.
        ignore_index: this class as target means: leave the sample out. With probabilities there
            is nothing to leave out.
        reduction: ``"none"``, ``"sum"`` or ``"mean"``. For classes the mean is weighted and over
            the samples not left out; for probabilities it is the sum divided by N (and positions).
        label_smoothing: that share of each target is spread evenly over all classes (Szegedy et
            al. 2016).

    Raises:
        ValueError: if shapes do not fit or an argument is out of range.
        TypeError: if the target's dtype does not go with its shape.
        IndexError: if a class is out of range.
    """
    who = "cross_entropy"
    one_of(reduction, REDUCTIONS, "reduction", who)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{who}: label_smoothing must be between 0 and 1, got {label_smoothing}")
    t = operand(target, who)
    if t.dtype.kind == "f" and t.shape == np.shape(input):
        if ignore_index >= 0:
            raise ValueError(
                f"{who}: ignore_index={ignore_index} is for classes as target, got probabilities"
            )
        return _soft_cross_entropy(input, t, weight, reduction, label_smoothing)
    x, labels, shape = class_rows(input, t, ignore_index, who)
    weights = class_weight(weight, x, x.shape[1], who)
    losses = CrossEntropy.apply(x, labels, weights, float(label_smoothing))
    return _reduce_rows(losses, labels, shape, weights, reduction)


def _soft_cross_entropy(
    input: Any, target: Tensor, weight: Any, reduction: str, smoothing: float
) -> Tensor:
    who = "cross_entropy"
    x = floating(input, who)
    t = target.astype(x.dtype)
    axis = 0 if x.ndim == 1 else 1
    classes = x.shape[axis]
    if smoothing:
        t = t * (1 - smoothing) + smoothing / classes
    weights = class_weight(weight, x, classes, who)
    if weights is not None:
        t = t * weights.reshape(-1, *(1,) * (x.ndim - axis - 1))
    losses = -(log_softmax(x, axis) * t).sum(axis)
    return reduced(losses, reduction)


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Return minus the log-probability of the true class: :func:`cross_entropy` after log_softmax.

    Arguments and errors as in :func:`cross_entropy`, with log-probabilities as input; the target is
    made of classes, never of probabilities.
    """
    who = "nll_loss"
    one_of(reduction, REDUCTIONS, "reduction", who)
    x, labels, shape = class_rows(input, target, ignore_index, who)
    weights = class_weight(weight, x, x.shape[1], who)
    kept = np.flatnonzero(labels >= 0)
    losses = -x[kept, labels[kept]]
    if weights is not None:
        losses = losses * weights[labels[kept]]
    if reduction == "none":
        losses = PutAdd.apply(losses, (kept,), (len(labels),))
    return _reduce_rows(losses, labels, shape, weights, reduction)


class KLDivergence(Function):
    """``t log t - t x``, where 0 log 0 is 0."""

    @staticmethod
    def forward(ctx: Node, x: Tensor, t: Tensor) -> Array:
        ctx.save_for_backward(x, t)
        y = np.asarray(np.log(t.data))
        y *= t.data
        zero = t.data == 0
        if zero.any():
            y[zero] = 0
        y -= t.data * x.data
        return y

    @staticmethod
    def backward(ctx: Node, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, t = ctx.saved_tensors

        def grad_t() -> Tensor:
            positive = where(t.data == 0, 1.0, t)
            return grad * (log(positive) + t / positive - x)

        return wanted(ctx, lambda: -grad * t, grad_t)


def kl_div(input: Any, target: Any, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    r"""Return :math:`t\,(\log t - x)`, the terms of the Kullback-Leibler divergence.

    Args:
        input: log-probabilities x, any shape.
        target: probabilities t of the same shape, or their logarithms.
        reduction: ``"none"``, ``"sum"``, ``"mean"`` over all elements, or ``"batchmean"``: the sum
            divided by the size of the first axis, which is the divergence itself.
        log_target: whether the target holds logarithms.

    Raises:
        ValueError: if the shapes differ or the reduction is unknown.
    """
    who = "kl_div"
    one_of(reduction, (*REDUCTIONS, "batchmean"), "reduction", who)
    x, t = same_shape(input, target, who)
    losses = exp(t) * (t - x) if log_target else KLDivergence.apply(x, t)
    if reduction != "batchmean":
        return reduced(losses, reduction)
    mean = widened(losses).sum() / float(x.shape[0] if x.ndim else 1)
    return astype(mean, losses.dtype)


# -- likelihoods --------------------------------------------------------------------------------


def gaussian_nll_loss(
    input: Any,
    target: Any,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    r"""Return :math:`\tfrac12 (\log v + (x - t)^2 / v)`: of values t, under normal distributions.

    Args:
        input: the means x, any shape.
        target: t; the shapes broadcast.
        var: the variances v: one number, the input's shape, or that with 1 for one axis or without
            the last one. Below ``eps`` they count as that, and have their gradient all the same.
        full: add :math:`\tfrac12 \log 2 \pi`.
        eps: the smallest variance.
        reduction: ``"none"``, ``"mean"`` over all elements, or ``"sum"``.

    Raises:
        ValueError: if a shape does not fit, or a variance is negative.
    """
    who = "gaussian_nll_loss"
    one_of(reduction, REDUCTIONS, "reduction", who)
    x, t = operands(floating(input, who), floating(target, who), who)
    v = floating(var, who)
    if isinstance(var, float):
        v = v.expand(*x.shape).astype(x.dtype)
    elif v.shape == x.shape[:-1] != x.shape:
        v = v.unsqueeze(-1)
    unlike = [two for one, two in zip(x.shape, v.shape) if one != two]
    if v.ndim != x.ndim or unlike not in ([], [1]):
        raise ValueError(f"{who}: expected variances for an input of {x.shape}, got {v.shape}")
    if (v.data < 0).any():
        raise ValueError(f"{who}: expected variances of at least 0, got {v.data.min()}")
    v = v + (v.clamp(min=eps) - v).detach()
    losses = 0.5 * (log(v) + (x - t).square() / v)
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)
