"""The blocks of MobileNetV4 (Qin et al. 2024, "MobileNetV4: Universal Models for the Mobile
Ecosystem", section 3).

Every convolution is followed by batch norm, has no bias, and pads ``kernel // 2``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from lucid import nn, ops
from lucid.autograd import Tensor
from lucid.models._config import AttentionSpec, FusedIBSpec, UIBSpec
from lucid.models._config import make_divisible as make_divisible
from lucid.models._pool import _BlurPool
from lucid.nn.modules._layer_scale import LayerScale
from lucid.nn.modules._map_attention import MapAttention
from lucid.nn.modules._residual import Residual, joined

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu6": nn.ReLU6,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
}

# Has it a starting, a middle depthwise convolution -> what the paper calls it (figure 4).
_UIB_FORMS = {
    (True, True): "UIB ExtraDW",
    (False, True): "UIB IB",
    (True, False): "UIB ConvNext",
    (False, False): "UIB FFN",
}

# Where layer scale starts (Touvron et al. 2021, "Going deeper with Image Transformers").
_LAYER_SCALE = 1e-5


def convbn(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    act: str | None = None,
    layer_scale: float | None = None,
    aa: str | None = None,
) -> nn.Sequential:
    """Return convolution, batch norm and, where asked for, an activation and a layer scale.

    With anti-aliasing ``aa``, a pooling behind these has the stride in the convolution's place.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    step = stride if aa is None else 1
    layers["conv"] = nn.Conv2d(
        in_channels, out_channels, kernel, step, kernel // 2, groups=groups, bias=False
    )
    layers["norm"] = nn.BatchNorm2d(out_channels)
    if act is not None:
        layers["act"] = _ACTIVATIONS[act]()
    if layer_scale is not None:
        layers["layer_scale"] = LayerScale(out_channels, layer_scale)
    if aa is not None and stride > 1:
        layers["aa"] = nn.AvgPool2d(stride) if aa == "avg" else _BlurPool(out_channels, stride)
    return nn.Sequential(layers)


class _InvertedResidual(Residual):
    """Fused inverted bottleneck: 3×3 expansion with the stride, 1×1 projection, residual."""

    diagram_label = "Fused IB"

    def __init__(self, spec: FusedIBSpec, act: str, aa: str | None = None) -> None:
        super().__init__()
        hidden = spec.hidden
        self.use_residual = spec.stride == 1 and spec.in_channels == spec.out_channels
        self.block = nn.Sequential(
            convbn(spec.in_channels, hidden, 3, spec.stride, act=act, aa=aa),
            convbn(hidden, spec.out_channels, 1, act=act if spec.act else None),
        )

    def branch(self) -> Sequence[nn.Module]:
        return (self.block,)


class _UniversalInvertedBottleneck(Residual):
    """Depthwise, 1×1 expansion, depthwise, 1×1 projection; each depthwise one may be absent.

    With both it is the paper's ExtraDW, with the middle one an inverted bottleneck, with the
    starting one ConvNext-like, with none a feed-forward network.
    """

    def __init__(
        self, spec: UIBSpec, act: str, layer_scale: float | None, aa: str | None = None
    ) -> None:
        super().__init__()
        c, hidden = spec.in_channels, spec.hidden
        start, mid = spec.start_dw_kernel, spec.mid_dw_kernel
        # The stride needs a depthwise convolution to sit on: the preferred one if it is there.
        stride_on_mid = bool(mid) and (spec.mid_dw_downsample or not start)
        start_stride, mid_stride = (1, spec.stride) if stride_on_mid else (spec.stride, 1)
        self.use_residual = spec.stride == 1 and c == spec.out_channels
        self.start_dw = (
            convbn(c, c, start, start_stride, groups=c, aa=aa) if start else nn.Identity()
        )
        self.expand = convbn(c, hidden, 1, act=act)
        self.mid_dw = (
            convbn(hidden, hidden, mid, mid_stride, groups=hidden, act=act, aa=aa)
            if mid
            else nn.Identity()
        )
        self.project = convbn(hidden, spec.out_channels, 1, layer_scale=layer_scale)
        self.diagram_label = _UIB_FORMS[bool(start), bool(mid)]

    def branch(self) -> Sequence[nn.Module]:
        return self.start_dw, self.expand, self.mid_dw, self.project


class _MobileAttention(Residual):
    """Mobile multi-query attention, ``(N, C, H, W) -> (N, C, H, W)`` (section 3.3 of the paper).

    The queries of all heads share one key and one value a position (Shazeer 2019), unless
    ``use_multi_query`` is false: then each head has its own. Keys and values may be taken from a
    map made smaller by ``kv_stride``; queries too, by their strides, and the result is then
    brought back to the input's size by bilinear interpolation.
    """

    diagram_label = "MQA"

    def __init__(self, channels: int, spec: AttentionSpec) -> None:
        super().__init__()
        self.num_heads, self.key_dim, self.value_dim = spec.num_heads, spec.key_dim, spec.value_dim
        self.use_multi_query, self.use_residual = spec.use_multi_query, spec.use_residual
        self.query_strides = spec.query_h_stride, spec.query_w_stride
        self.kv_stride = spec.kv_stride
        self.norm = nn.BatchNorm2d(channels)
        query: OrderedDict[str, nn.Module] = OrderedDict()
        if self.query_strides != (1, 1):
            query["down_pool"] = nn.AvgPool2d(self.query_strides, ceil_mode=True)
            query["norm"] = nn.BatchNorm2d(channels)
        query["proj"] = nn.Conv2d(channels, spec.num_heads * spec.key_dim, 1, bias=False)
        self.query = nn.Sequential(query)
        shared = 1 if spec.use_multi_query else spec.num_heads
        self.key = self._projection(channels, shared * spec.key_dim, spec.kv_stride)
        self.value = self._projection(channels, shared * spec.value_dim, spec.kv_stride)
        self.output = nn.Conv2d(spec.num_heads * spec.value_dim, channels, 1, bias=False)
        self.layer_scale = LayerScale(channels, _LAYER_SCALE) if spec.use_layer_scale else None

    @staticmethod
    def _projection(channels: int, width: int, stride: int) -> nn.Sequential:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if stride > 1:
            layers["down_conv"] = nn.Conv2d(
                channels, channels, 3, stride, 1, groups=channels, bias=False
            )
            layers["norm"] = nn.BatchNorm2d(channels)
        layers["proj"] = nn.Conv2d(channels, width, 1, bias=False)
        return nn.Sequential(layers)

    def branch(self) -> Sequence[Callable[[Any], Any]]:
        paths = self.query, self.key, self.value
        numbers = self.num_heads, self.key_dim, self.value_dim
        attend = MapAttention(paths, *numbers, is_shared=self.use_multi_query)
        steps = self.norm, attend, self.output
        if self.layer_scale is None or self._is_strided:
            return steps
        return *steps, self.layer_scale

    @property
    def _is_strided(self) -> bool:
        """Whether the result is brought to the input's size, and scaled after that."""
        return self.query_strides != (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self._in_steps(x)
        if y.shape != x.shape:  # strided queries
            y = ops.interpolate(y, size=(x.shape[2], x.shape[3]), mode="bilinear")
        if self.layer_scale is not None and self._is_strided:
            y = self.layer_scale(y)
        return joined(self, x, y)

    def _adds(self) -> bool | None:
        is_plain = type(self).forward is _MobileAttention.forward and not self.training
        # Without the sum nobody would see that a map is to be brought to the input's size.
        return True if is_plain and self.use_residual and not self._is_strided else None

    def extra_repr(self) -> str:
        return (
            f"num_heads={self.num_heads}, key_dim={self.key_dim}, value_dim={self.value_dim}, "
            f"multi_query={self.use_multi_query}"
        )
