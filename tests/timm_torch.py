"""timm's five MobileNetV4 variants from ``torch.nn`` layers, to compare with where timm is missing.

Written out by hand from the tables of the paper and timm's names, not from lucid's configuration.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

# A stage's blocks in order: "uib START/MID STRIDE EXPANSION CHANNELS", "conv KERNEL STRIDE
# CHANNELS", "fused STRIDE EXPANSION CHANNELS", "mqa HEADS DIM KV_STRIDE".
_MQA_M3, _MQA_M4 = ["mqa 4 64 2"], ["mqa 4 64 1"]
_MQA_L3, _MQA_L4 = ["mqa 8 48 2"], ["mqa 8 64 1"]
_LARGE_START = [
    ["fused 2 4 48"],
    ["uib 3/5 2 4 96", "uib 3/3 1 4 96"],
]
_MEDIUM_START = [
    ["fused 2 4 48"],
    ["uib 3/5 2 4 80", "uib 3/3 1 2 80"],
]
STAGES: dict[str, list[list[str]]] = {
    "conv_small": [
        ["conv 3 2 32", "conv 1 1 32"],
        ["conv 3 2 96", "conv 1 1 64"],
        ["uib 5/5 2 3 96"] + ["uib 0/3 1 2 96"] * 4 + ["uib 3/0 1 4 96"],
        ["uib 3/3 2 6 128", "uib 5/5 1 4 128", "uib 0/5 1 4 128", "uib 0/5 1 3 128"]
        + ["uib 0/3 1 4 128"] * 2,
        ["conv 1 1 960"],
    ],
    "conv_medium": [
        *_MEDIUM_START,
        ["uib 3/5 2 6 160"]
        + ["uib 3/3 1 4 160"] * 2
        + ["uib 3/5 1 4 160", "uib 3/3 1 4 160", "uib 3/0 1 4 160", "uib 0/0 1 2 160"]
        + ["uib 3/0 1 4 160"],
        ["uib 5/5 2 6 256", "uib 5/5 1 4 256"]
        + ["uib 3/5 1 4 256"] * 2
        + ["uib 0/0 1 4 256", "uib 3/0 1 4 256", "uib 3/5 1 2 256", "uib 5/5 1 4 256"]
        + ["uib 0/0 1 4 256"] * 2
        + ["uib 5/0 1 2 256"],
        ["conv 1 1 960"],
    ],
    "conv_large": [
        *_LARGE_START,
        ["uib 3/5 2 4 192"]
        + ["uib 3/3 1 4 192"] * 3
        + ["uib 3/5 1 4 192"]
        + ["uib 5/3 1 4 192"] * 5
        + ["uib 3/0 1 4 192"],
        ["uib 5/5 2 4 512"]
        + ["uib 5/5 1 4 512"] * 3
        + ["uib 5/0 1 4 512", "uib 5/3 1 4 512"]
        + ["uib 5/0 1 4 512"] * 2
        + ["uib 5/3 1 4 512", "uib 5/5 1 4 512"]
        + ["uib 5/0 1 4 512"] * 3,
        ["conv 1 1 960"],
    ],
    "hybrid_medium": [
        *_MEDIUM_START,
        [
            *["uib 3/5 2 6 160", "uib 0/0 1 2 160", "uib 3/3 1 4 160"],
            *["uib 3/5 1 4 160", *_MQA_M3],
            *["uib 3/3 1 4 160", *_MQA_M3],
            *["uib 3/0 1 4 160", *_MQA_M3],
            *["uib 3/3 1 4 160", *_MQA_M3],
            "uib 3/0 1 4 160",
        ],
        ["uib 5/5 2 6 256", "uib 5/5 1 4 256"]
        + ["uib 3/5 1 4 256"] * 2
        + ["uib 0/0 1 2 256", "uib 3/5 1 2 256", "uib 0/0 1 2 256"]
        + ["uib 0/0 1 4 256", *_MQA_M4]
        + ["uib 3/0 1 4 256", *_MQA_M4]
        + ["uib 5/5 1 4 256", *_MQA_M4]
        + ["uib 5/0 1 4 256", *_MQA_M4]
        + ["uib 5/0 1 4 256"],
        ["conv 1 1 960"],
    ],
    "hybrid_large": [
        *_LARGE_START,
        ["uib 3/5 2 4 192"]
        + ["uib 3/3 1 4 192"] * 3
        + ["uib 3/5 1 4 192", "uib 5/3 1 4 192"]
        + ["uib 5/3 1 4 192", *_MQA_L3] * 4
        + ["uib 3/0 1 4 192"],
        ["uib 5/5 2 4 512"]
        + ["uib 5/5 1 4 512"] * 3
        + ["uib 5/0 1 4 512", "uib 5/3 1 4 512"]
        + ["uib 5/0 1 4 512"] * 2
        + ["uib 5/3 1 4 512"]
        + ["uib 5/5 1 4 512", *_MQA_L4]
        + ["uib 5/0 1 4 512", *_MQA_L4] * 3
        + ["uib 5/0 1 4 512"],
        ["conv 1 1 960"],
    ],
}


def _conv(in_: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_, out, kernel, stride, kernel // 2, groups=groups, bias=False)


class _ConvBN(nn.Module):
    """Convolution and batch norm, as ``conv`` and ``bn`` (or ``bn1``), and an activation."""

    def __init__(self, conv: nn.Conv2d, act: nn.Module, norm: str = "bn") -> None:
        super().__init__()
        self.conv, self.act, self.norm = conv, act, norm
        self.add_module(norm, nn.BatchNorm2d(conv.out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(getattr(self, self.norm)(self.conv(x)))


class _FusedIB(nn.Module):
    def __init__(self, in_: int, out: int, stride: int, expand: int, act: nn.Module) -> None:
        super().__init__()
        self.conv_exp, self.bn1 = _conv(in_, in_ * expand, 3, stride), nn.BatchNorm2d(in_ * expand)
        self.conv_pwl, self.bn2 = _conv(in_ * expand, out, 1), nn.BatchNorm2d(out)
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn2(self.conv_pwl(self.act(self.bn1(self.conv_exp(x)))))


class _LayerScale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), 1e-5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma[:, None, None]


class _UIB(nn.Module):
    def __init__(
        self,
        in_: int,
        out: int,
        start: int,
        mid: int,
        stride: int,
        expand: int,
        act: nn.Module,
        scale: bool,
    ) -> None:
        super().__init__()
        wide, linear = in_ * expand, nn.Identity()
        self.residual = stride == 1 and in_ == out
        self.dw_start: nn.Module = nn.Identity()
        self.dw_mid: nn.Module = nn.Identity()
        if start:
            self.dw_start = _ConvBN(_conv(in_, in_, start, 1 if mid else stride, in_), linear)
        self.pw_exp = _ConvBN(_conv(in_, wide, 1), act)
        if mid:
            self.dw_mid = _ConvBN(_conv(wide, wide, mid, stride, wide), act)
        self.pw_proj = _ConvBN(_conv(wide, out, 1), linear)
        self.layer_scale = _LayerScale(out) if scale else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer_scale(self.pw_proj(self.dw_mid(self.pw_exp(self.dw_start(x)))))
        return x + y if self.residual else y


class _Projection(nn.Sequential):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if stride > 1:
            layers["down_conv"] = _conv(channels, channels, 3, stride, channels)
            layers["norm"] = nn.BatchNorm2d(channels)
        layers["proj"] = _conv(channels, width, 1)
        super().__init__(layers)


class _MQA(nn.Module):
    def __init__(self, channels: int, heads: int, dim: int, kv_stride: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        self.norm = nn.BatchNorm2d(channels)
        self.attn = nn.ModuleDict(
            {
                "query": _Projection(channels, heads * dim, 1),
                "key": _Projection(channels, dim, kv_stride),
                "value": _Projection(channels, dim, kv_stride),
                "output": _Projection(heads * dim, channels, 1),
            }
        )
        self.layer_scale = _LayerScale(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, _, h, w = x.shape
        normal = self.norm(x)
        q = self.attn["query"](normal).reshape(n, self.heads, self.dim, h * w)
        k = self.attn["key"](normal).flatten(2)
        v = self.attn["value"](normal).flatten(2)
        scores = torch.einsum("ndp,nhdq->nhqp", k, q) / self.dim**0.5
        y = torch.einsum("nhqp,ndp->nhdq", scores.softmax(-1), v)
        return x + self.layer_scale(self.attn["output"](y.reshape(n, -1, h, w)))


class TimmMobileNetV4(nn.Module):
    """A whole variant: ``(N, 3, H, W) -> (N, num_classes)``."""

    def __init__(self, variant: str, num_classes: int = 1000, in_chans: int = 3) -> None:
        super().__init__()
        act: nn.Module = nn.GELU() if variant == "hybrid_large" else nn.ReLU()
        hybrid = variant.startswith("hybrid")
        width = 24 if variant.endswith("large") else 32
        self.act = act
        self.conv_stem, self.bn1 = _conv(in_chans, width, 3, 2), nn.BatchNorm2d(width)
        stages: list[nn.Module] = []
        for rows in STAGES[variant]:
            blocks: list[nn.Module] = []
            for row in rows:
                kind, *fields = row.split()
                if kind == "mqa":
                    blocks.append(_MQA(width, *map(int, fields)))
                    continue
                out = int(fields[-1])
                if kind == "conv":
                    kernel, stride = map(int, fields[:2])
                    blocks.append(_ConvBN(_conv(width, out, kernel, stride), act, "bn1"))
                elif kind == "fused":
                    stride, expand = map(int, fields[:2])
                    blocks.append(_FusedIB(width, out, stride, expand, act))
                else:
                    start, mid = map(int, fields[0].split("/"))
                    stride, expand = map(int, fields[1:3])
                    blocks.append(_UIB(width, out, start, mid, stride, expand, act, hybrid))
                width = out
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.norm_head = _conv(960, 1280, 1), nn.BatchNorm2d(1280)
        self.classifier = nn.Linear(1280, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = self.blocks(self.act(self.bn1(self.conv_stem(x)))).mean((2, 3), keepdim=True)
        return self.classifier(self.act(self.norm_head(self.conv_head(x))).flatten(1))
