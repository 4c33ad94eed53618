"""Convolution, pooling and resizing, of images ``(N, C, H, W)`` and of rows ``(N, C, L)``."""

from __future__ import annotations

from typing import Any

import numpy as np

from lucid import nn, ops
from lucid.autograd import Tensor
from lucid.kernels.geometry import Conv, Padding, Pair
from lucid.onnx._operators._layers import PaddedConv2d, convolve, pads_of
from lucid.onnx._operators._table import (
    Built,
    Weight,
    array,
    axis_of,
    ints,
    operator,
    tensor,
    unsupported,
    whole,
)
from lucid.onnx._read import Node
from lucid.ops import _conv, _pool
from lucid.ops._common import at_axis
from lucid.ops._layout import check_positive


def _pair(node: Node, name: str, default: Pair = (1, 1)) -> Pair:
    """Return an attribute with a number for each axis of an image; that of a row has height 1."""
    values = node.ints(name)
    if values is None:
        return default
    if len(values) not in (1, 2) or min(values) < 1:
        raise unsupported(node, f"{name}={values} (expected one or two numbers over 0)")
    return (1, values[0]) if len(values) == 1 else (values[0], values[1])


def _pads(node: Node) -> Padding | str:
    """Return the padding, or the word by which it follows from the input's size."""
    auto = node.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return auto
    values = node.ints("pads") if auto == "NOTSET" else None
    if values is None:
        return (0, 0), (0, 0)
    if min(values, default=0) < 0 or len(values) not in (2, 4):
        raise unsupported(node, f"pads={values} (expected two or four numbers, 0 or more)")
    if len(values) == 2:
        return (0, 0), (values[0], values[1])
    return (values[0], values[2]), (values[1], values[3])


def _as_image(node: Node, x: Any) -> Tensor:
    """Return ``(N, C, H, W)``; a row becomes an image of height 1."""
    image = tensor(x)
    if image.ndim == 3:
        return image.unsqueeze(2)
    if image.ndim != 4:
        raise unsupported(node, f"an input of shape {image.shape} (expected 3 or 4 axes)")
    return image


def _like(y: Tensor, x: Any) -> Tensor:
    """Return an image as a row again if that is what came in."""
    return y.squeeze(2) if np.ndim(x) == 3 else y


# -- convolution --------------------------------------------------------------------------------


def _conv_layer(
    node: Node, rank: int | None, weight: Weight, bias: Weight | None = None
) -> Built | None:
    shape, groups = weight.array.shape, node.integer("group", 1)
    if len(shape) == 5:
        raise unsupported(node, f"a weight of shape {shape} (three-dimensional convolution)")
    if len(shape) != 4 or weight.array.dtype.kind != "f" or groups < 1 or 0 in shape:
        return None
    pads = _pads(node)
    settings: dict[str, Any] = {
        "stride": _pair(node, "strides"),
        "dilation": _pair(node, "dilations"),
        "groups": groups,
        "bias": bias is not None,
    }
    sizes = shape[1] * groups, shape[0], (shape[2], shape[3])
    if isinstance(pads, tuple) and all(before == after for before, after in pads):
        layer = nn.Conv2d(*sizes, padding=(pads[0][0], pads[1][0]), **settings)
    else:
        layer = PaddedConv2d(*sizes, pads=pads, **settings)
    return layer, {"weight": weight, "bias": bias}


@operator("Conv", layer=_conv_layer, size=None)
def conv(node: Node, x: Any, weight: Any, bias: Any = None) -> Any:
    """`nn.Conv2d`, also with different padding on each side; a row as an image of height 1."""
    image, kernels = _as_image(node, x), _as_image(node, weight)
    y = convolve(
        str(node),
        image,
        kernels,
        bias,
        _pair(node, "strides"),
        _pads(node),
        _pair(node, "dilations"),
        node.integer("group", 1),
    )
    return _like(y, x)


@operator("ConvTranspose", size=None)
def conv_transpose(node: Node, x: Any, weight: Any, bias: Any = None) -> Any:
    """The gradient of a convolution with respect to its input."""
    image, kernels = _as_image(node, x), _as_image(node, weight)
    stride, dilation = _pair(node, "strides"), _pair(node, "dilations")
    rows = len(node.ints("output_padding", [])) == 1
    extra = node.ints("output_padding", [0, 0])
    extra = [0, *extra] if rows else extra
    wanted, groups = node.ints("output_shape"), node.integer("group", 1)
    if image.shape[1] != kernels.shape[0] or groups < 1 or kernels.shape[0] % groups:
        raise ValueError(
            f"expected {kernels.shape[0]} input channels (axis 1), got {image.shape[1]} from an "
            f"input of shape {image.shape}"
        )
    pads, sizes, auto = [], [], _pads(node)
    for axis in (0, 1):
        reach = dilation[axis] * (kernels.shape[2 + axis] - 1) + 1
        full = stride[axis] * (image.shape[2 + axis] - 1) + reach + extra[axis]
        if wanted is not None or isinstance(auto, str):
            size = (
                [1, *wanted][axis - 2] if wanted is not None and len(wanted) == 1
                else wanted[axis - 2] if wanted is not None
                else stride[axis] * image.shape[2 + axis]
            )  # fmt: skip
            total = max(full - size, 0)
            smaller = total // 2
            low = smaller if auto == "SAME_UPPER" else total - smaller
            pads.append((low, total - low))
        else:
            pads.append(auto[axis])
            size = full - sum(pads[-1])
        sizes.append(size)
    size_pair = sizes[0], sizes[1]
    check_positive(size_pair, image, "the padding", str(node))
    # What the kernels reach beyond the output, by its padding, is no part of it.
    geometry = Conv(stride, (pads[0], pads[1]), dilation, groups)
    y = _conv.ConvInputGrad.apply(image, kernels, size_pair, geometry)
    y = y if bias is None else y + tensor(bias).reshape(1, -1, 1, 1)
    return _like(y, x)


# -- pooling ------------------------------------------------------------------------------------


class _Windows:
    """Where the windows of a pooling stand."""

    def __init__(self, node: Node, image: Tensor) -> None:
        self.kernel = _pair(node, "kernel_shape")
        self.stride = _pair(node, "strides")
        self.dilation = _pair(node, "dilations")
        lengths = image.shape[2], image.shape[3]
        self.own = pads_of(_pads(node), lengths, self.kernel, self.stride, self.dilation)
        pads, sizes = [], []
        for axis in (0, 1):
            (low, high), step = self.own[axis], self.stride[axis]
            reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
            room = lengths[axis] + low + high - reach
            size = room // step + 1
            if node.integer("ceil_mode") and room % step and size * step < lengths[axis] + low:
                size += 1  # a last window that begins inside the input or the padding before it
            sizes.append(size)
            pads.append((low, max((size - 1) * step + reach - lengths[axis] - low, high)))
        self.pads: Padding = (pads[0], pads[1])  # with what ceil_mode adds at the end
        self.size: Pair = (sizes[0], sizes[1])
        check_positive(self.size, image, f"a window of {self.kernel}", str(node))

    def counts(self, axis: int, length: int, include_pad: bool) -> np.ndarray:
        """Return how many elements each window counts along an axis."""
        low, high = self.own[axis] if include_pad else (0, 0)
        starts = np.arange(self.size[axis]) * self.stride[axis] - self.pads[axis][0]
        places = starts[:, None] + np.arange(self.kernel[axis]) * self.dilation[axis]
        return ((places >= -low) & (places < length + high)).sum(1)


def _pool_layer(node: Node, kind: Any, **more: Any) -> Built | None:
    """Return the layer of a pooling whose padding is the same on both sides."""
    pads, kernel = _pads(node), node.ints("kernel_shape", [])
    if len(kernel) == 3:
        raise unsupported(node, f"a window of {kernel} (three-dimensional pooling)")
    if node.wants(1) or isinstance(pads, str) or len(kernel) != 2:
        return None
    (top, bottom), (left, right) = pads
    if top != bottom or left != right or top > kernel[0] // 2 or left > kernel[1] // 2:
        return None
    ceil = bool(node.integer("ceil_mode"))
    size, step = _pair(node, "kernel_shape"), _pair(node, "strides")
    return kind(size, step, (top, left), ceil_mode=ceil, **more), {}


def _max_pool_layer(node: Node, rank: int | None) -> Built | None:
    return _pool_layer(node, nn.MaxPool2d, dilation=_pair(node, "dilations"))


@operator("MaxPool", layer=_max_pool_layer, size=None)
def max_pool(node: Node, x: Any) -> Any:
    """`nn.MaxPool2d`, also with different padding on each side."""
    if node.wants(1):
        raise unsupported(node, "the output of indices")
    image = _as_image(node, x)
    at = _Windows(node, image)
    values = image.astype(np.float32) if whole(image) else image
    y = _pool.MaxPool2d.apply(values, at.kernel, at.stride, at.pads, at.dilation, at.size)
    return _like(y.astype(image.dtype), x)


def _average_pool_layer(node: Node, rank: int | None) -> Built | None:
    if _pair(node, "dilations") != (1, 1):
        return None
    return _pool_layer(
        node, nn.AvgPool2d, count_include_pad=bool(node.integer("count_include_pad"))
    )


@operator("AveragePool", layer=_average_pool_layer, size=None)
def average_pool(node: Node, x: Any) -> Any:
    """`nn.AvgPool2d`, also with different padding on each side, or dilated."""
    image = _as_image(node, x)
    at, include = _Windows(node, image), bool(node.integer("count_include_pad"))
    if at.dilation == (1, 1):
        sums = _pool.SumPool2d.apply(image, at.kernel, at.stride, at.pads, at.size)
    else:
        channels = image.shape[1]
        ones = ops.ones(channels, 1, *at.kernel).astype(image.dtype)
        geometry = Conv(at.stride, at.pads, at.dilation, channels)
        sums = _conv.Conv2d.apply(image, ones, None, geometry)
    counts = np.outer(*(at.counts(axis, image.shape[2 + axis], include) for axis in (0, 1)))
    return _like(sums / tensor(counts.astype(sums.dtype)), x)


def _global_layer(node: Node, rank: int | None) -> Built | None:
    return (nn.AdaptiveAvgPool2d(1), {}) if rank == 4 else None


@operator("GlobalAveragePool", layer=_global_layer, size=None)
def global_average_pool(node: Node, x: Any) -> Any:
    """`nn.AdaptiveAvgPool2d`, or `lucid.mean`."""
    x = tensor(x)
    return ops.mean(x, tuple(range(2, x.ndim)), True)


@operator("GlobalMaxPool", size=None)
def global_max_pool(node: Node, x: Any) -> Any:
    """`lucid.amax`."""
    x = tensor(x)
    return ops.amax(x, tuple(range(2, x.ndim)), True)


# -- resizing -----------------------------------------------------------------------------------


@operator("Resize", size=None, fixed=(1, 2, 3))
def resize(node: Node, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
    """A matrix product along each axis: nearest, linear and cubic, also antialiased."""
    x = tensor(x)
    if node.opset < 11:  # only scales, in the place of the region
        scales, roi = roi, None
    axes = [axis_of(axis, x.ndim) for axis in node.ints("axes", list(range(x.ndim)))]
    lengths = [x.shape[axis] for axis in axes]
    if sizes is not None and np.size(sizes):
        news = ints(sizes)
        factors = [new / length for new, length in zip(news, lengths)]
        policy = node.text("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            factor = min(factors) if policy == "not_larger" else max(factors)
            factors = [factor] * len(factors)
            news = [int(np.floor(factor * length + 0.5)) for length in lengths]
    elif scales is not None and np.size(scales):
        factors = [float(factor) for factor in array(scales)]
        news = [int(np.floor(factor * length)) for factor, length in zip(factors, lengths)]
    else:
        raise ValueError("expected scales or sizes")
    if len(news) != len(axes) or min(news, default=1) < 1:
        raise ValueError(f"expected {len(axes)} sizes over 0, got {news}")
    for axis, new, factor in zip(axes, news, factors):
        if new != x.shape[axis] or factor != 1:
            x = _resize_axis(node, x, axis, new, factor)
    return x


@operator("Upsample", size=None, fixed=(1,))
def upsample(node: Node, x: Any, scales: Any = None) -> Any:
    """As Resize."""
    if scales is None:
        scales = np.array(node.attributes.get("scales", []), np.float64)
    return resize(
        Node("Resize", node.name, node.inputs, node.outputs, node.attributes, 10), x, scales
    )


def _resize_axis(node: Node, x: Tensor, axis: int, new: int, factor: float) -> Tensor:
    length, mode = x.shape[axis], node.text("mode", "nearest")
    places = _places(node, length, new, factor)
    if mode == "nearest":
        index = _nearest(node, places).clip(0, length - 1).astype(np.int64)
        return x[at_axis(axis, index)]
    if mode not in ("linear", "cubic"):
        raise unsupported(node, f"the mode {mode!r}")
    stretch = max(1 / factor, 1.0) if node.integer("antialias") else 1.0
    cubic = node.number("cubic_coeff_a", -0.75) if mode == "cubic" else None
    matrix = _interpolation(places, length, cubic, stretch, bool(node.integer("exclude_outside")))
    weights = tensor(matrix.astype(x.dtype if not whole(x) else np.float32))
    y = ops.matmul(x.movedim(axis, -1), weights.transpose(0, 1)).movedim(-1, axis)
    return y.astype(x.dtype)


def _places(node: Node, length: int, new: int, factor: float) -> np.ndarray:
    """Return where each new pixel lies among the old ones."""
    before = "asymmetric" if node.opset < 11 else "half_pixel"
    how = node.text("coordinate_transformation_mode", before)
    steps = np.arange(new)
    if how == "align_corners":
        wide = factor * length  # not rounded, as ONNX has it
        return steps * ((length - 1) / (wide - 1) if wide != 1 else 0.0)
    if how == "asymmetric":
        return steps / factor
    if how == "pytorch_half_pixel" and new == 1:
        return steps * 0.0
    places = (steps + 0.5) / factor - 0.5
    if how == "half_pixel_symmetric":
        return places + length / 2 * (1 - new / (factor * length))
    if how not in ("half_pixel", "pytorch_half_pixel"):
        raise unsupported(node, f"the coordinate transformation {how!r}")
    return places


def _nearest(node: Node, places: np.ndarray) -> np.ndarray:
    before = "floor" if node.opset < 11 else "round_prefer_floor"
    how = node.text("nearest_mode", before)
    match how:
        case "round_prefer_floor":
            return np.ceil(places - 0.5)
        case "round_prefer_ceil":
            return np.floor(places + 0.5)
        case "floor":
            return np.floor(places)
        case "ceil":
            return np.ceil(places)
    raise unsupported(node, f"the nearest mode {how!r}")


def _interpolation(
    places: np.ndarray, length: int, cubic: float | None, stretch: float, inside: bool
) -> np.ndarray:
    """Return the matrix ``(new, length)`` of what each old pixel adds to the new ones.

    Args:
        places: where the new pixels lie.
        length: how many old ones there are.
        cubic: the coefficient of cubic interpolation; None for linear.
        stretch: how much wider the kernel is than a pixel: against aliases.
        inside: leave out what is beyond the edges, instead of taking the edge for it.
    """
    half = int(np.ceil((1 if cubic is None else 2) * stretch))
    first = np.floor(places).astype(np.int64)
    taps = first[:, None] + np.arange(1 - half, 1 + half)
    distance = np.abs(taps - places[:, None]) / stretch
    if cubic is None:
        weights = np.maximum(1 - distance, 0)
    else:
        a, d = cubic, distance
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        weights = np.where(d <= 1, near, np.where(d < 2, far, 0))
    if inside:
        weights = np.where((taps >= 0) & (taps < length), weights, 0)
    weights = weights / weights.sum(1, keepdims=True)
    matrix = np.zeros((len(places), length))
    rows = np.broadcast_to(np.arange(len(places))[:, None], taps.shape)
    np.add.at(matrix, (rows, taps.clip(0, length - 1)), weights)
    return matrix
