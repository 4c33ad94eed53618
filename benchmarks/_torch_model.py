"""Any MobileNetV4 configuration from ``torch.nn`` layers, under lucid's names.

The same model for PyTorch, and by export for ONNX Runtime and OpenVINO. The attention is written
as PyTorch runs it best: one fused product, all heads as rows of one matrix, as they share the key.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from lucid.models._blocks import make_divisible
from lucid.models._config import (
    AttentionSpec,
    ConvBNSpec,
    FusedIBSpec,
    GroupSpec,
    UIBSpec,
    read_config,
)

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu6": nn.ReLU6,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
}


def _conv(in_: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_, out, kernel, stride, kernel // 2, groups=groups, bias=False)


def _convbn(
    conv: nn.Conv2d, act: str | None = None, layer_scale: float | None = None
) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=conv, norm=nn.BatchNorm2d(conv.out_channels)
    )
    if act is not None:
        layers["act"] = _ACTIVATIONS[act]()
    if layer_scale is not None:
        layers["layer_scale"] = _LayerScale(conv.out_channels)
    return nn.Sequential(layers)


class _LayerScale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma[:, None, None]


class _FusedIB(nn.Module):
    def __init__(self, spec: FusedIBSpec, act: str) -> None:
        super().__init__()
        hidden = make_divisible(spec.in_channels * spec.expand)
        self.residual = spec.stride == 1 and spec.in_channels == spec.out_channels
        self.block = nn.Sequential(
            _convbn(_conv(spec.in_channels, hidden, 3, spec.stride), act),
            _convbn(_conv(hidden, spec.out_channels, 1), act if spec.act else None),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x) if self.residual else self.block(x)


class _UIB(nn.Module):
    def __init__(self, spec: UIBSpec, act: str, layer_scale: float | None) -> None:
        super().__init__()
        c, hidden = spec.in_channels, make_divisible(spec.in_channels * spec.expand)
        start, mid = spec.start_dw_kernel, spec.mid_dw_kernel
        on_mid = bool(mid) and (spec.mid_dw_downsample or not start)
        strides = (1, spec.stride) if on_mid else (spec.stride, 1)
        self.residual = spec.stride == 1 and c == spec.out_channels
        self.start_dw: nn.Module = nn.Identity()
        self.mid_dw: nn.Module = nn.Identity()
        if start:
            self.start_dw = _convbn(_conv(c, c, start, strides[0], c))
        self.expand = _convbn(_conv(c, hidden, 1), act)
        if mid:
            self.mid_dw = _convbn(_conv(hidden, hidden, mid, strides[1], hidden), act)
        self.project = _convbn(_conv(hidden, spec.out_channels, 1), layer_scale=layer_scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(self.mid_dw(self.expand(self.start_dw(x))))
        return x + y if self.residual else y


class _Attention(nn.Module):
    def __init__(self, channels: int, spec: AttentionSpec) -> None:
        super().__init__()
        if not spec.use_multi_query or (spec.query_h_stride, spec.query_w_stride) != (1, 1):
            raise ValueError("only multi-query attention with queries of full size is mirrored")
        self.heads, self.key_dim, self.value_dim = spec.num_heads, spec.key_dim, spec.value_dim
        self.residual = spec.use_residual
        self.norm = nn.BatchNorm2d(channels)
        self.query = _projection(channels, spec.num_heads * spec.key_dim, 1)
        self.key = _projection(channels, spec.key_dim, spec.kv_stride)
        self.value = _projection(channels, spec.value_dim, spec.kv_stride)
        self.output = _conv(spec.num_heads * spec.value_dim, channels, 1)
        self.layer_scale = _LayerScale(channels) if spec.use_layer_scale else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, _, h, w = x.shape
        normal = self.norm(x)
        q = self.query(normal).permute(0, 2, 3, 1).reshape(n, 1, h * w * self.heads, self.key_dim)
        k = self.key(normal).flatten(2).transpose(1, 2).unsqueeze(1)
        v = self.value(normal).flatten(2).transpose(1, 2).unsqueeze(1)
        y = functional.scaled_dot_product_attention(q, k, v)
        y = y.reshape(n, h, w, self.heads * self.value_dim).permute(0, 3, 1, 2)
        y = self.layer_scale(self.output(y))
        return x + y if self.residual else y


def _projection(channels: int, width: int, stride: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if stride > 1:
        layers["down_conv"] = _conv(channels, channels, 3, stride, channels)
        layers["norm"] = nn.BatchNorm2d(channels)
    layers["proj"] = _conv(channels, width, 1)
    return nn.Sequential(layers)


def _group(group: GroupSpec) -> nn.Sequential:
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    for index, spec in enumerate(group.blocks):
        name = f"{group.block_name}_{index}"
        if isinstance(spec, ConvBNSpec):
            conv = _conv(spec.in_channels, spec.out_channels, spec.kernel, spec.stride)
            blocks[name] = _convbn(conv, group.act)
        elif isinstance(spec, FusedIBSpec):
            blocks[name] = _FusedIB(spec, group.act)
        else:
            blocks[name] = _UIB(spec, group.act, group.layer_scale)
            if spec.attention is not None:
                blocks[f"attention_{index}"] = _Attention(spec.out_channels, spec.attention)
    return nn.Sequential(blocks)


class TorchMobileNetV4(nn.Module):
    """A whole variant, ``(N, 3, H, W) -> (N, num_classes)``; its state dict fits lucid's."""

    def __init__(self, cfg: dict[str, dict[str, Any]], num_classes: int = 1000) -> None:
        super().__init__()
        spec = read_config(cfg, None)
        self.conv0 = _group(spec.stages[0])
        self.layers = nn.Sequential(*(_group(group) for group in spec.stages[1:]))
        self.head = nn.Identity() if spec.head is None else _group(spec.head)
        self.classifier = nn.Linear(spec.head_hidden_size, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = functional.adaptive_avg_pool2d(self.layers(self.conv0(x)), 1)
        return self.classifier(self.head(x).flatten(1))
