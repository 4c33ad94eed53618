"""Networks of PyTorch, and their ONNX files by either exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402


def export(
    net: nn.Module, x: torch.Tensor, path: Path, opset: int, *, dynamo: bool, training: bool = False
) -> None:
    """Write a file with a dynamic batch; for training with the batch norms as they are."""
    settings: dict = {"opset_version": opset, "dynamo": dynamo}
    if dynamo:
        pytest.importorskip("onnxscript")
        settings["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
        settings["external_data"] = False
    else:
        settings["input_names"] = ["x"]
        settings["dynamic_axes"] = {"x": {0: "batch"}}
        if training:
            settings["training"] = torch.onnx.TrainingMode.PRESERVE
            settings["do_constant_folding"] = False
    quiet = io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(quiet),
            contextlib.redirect_stderr(quiet),
        ):
            warnings.simplefilter("ignore")
            torch.onnx.export(net, (x,), path, **settings)
    finally:
        logging.disable(logging.NOTSET)


def _norm(layer: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels))


class Residual(nn.Module):
    """ResNet's basic block (He et al. 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _norm(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False))
        self.second = _norm(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False))
        self.short = _norm(nn.Conv2d(inputs, outputs, 1, stride, bias=False))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.second(self.relu(self.first(x))) + self.short(x))


class Inverted(nn.Module):
    """MobileNetV2's block (Sandler et al. 2018), with V3's and EfficientNet's squeeze."""

    def __init__(self, width: int, stride: int, act: nn.Module, gate: nn.Module | None) -> None:
        super().__init__()
        wide = 3 * width
        self.expand = _norm(nn.Conv2d(width, wide, 1, bias=False))
        self.depth = _norm(nn.Conv2d(wide, wide, 5, stride, 2, groups=wide, bias=False))
        self.project = _norm(nn.Conv2d(wide, width, 1, bias=False))
        self.squeeze = None
        if gate is not None:
            self.squeeze = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, 4, 1), act, nn.Conv2d(4, wide, 1), gate
            )
        self.act, self.residual = act, stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.depth(self.act(self.expand(x))))
        y = self.project(y if self.squeeze is None else y * self.squeeze(y))
        return x + y if self.residual else y


def _classifier(width: int, *blocks: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        _norm(nn.Conv2d(3, width, 3, 2, 1, bias=False)),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.0),
        nn.Linear(width, 6),
    )


class Attention(nn.Module):
    """A transformer's block (Dosovitskiy et al. 2020)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, length, width = x.shape
        parts = self.qkv(self.norm1(x)).reshape(n, length, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width)
        x = x + self.proj(y)
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Patches, a class token, positions, blocks."""

    def __init__(self, width: int = 16, image: int = 32, patch: int = 8) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.place = nn.Parameter(torch.randn(1, 1 + (image // patch) ** 2, width))
        self.blocks = nn.Sequential(*(Attention(width, 2) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], 1) + self.place
        return self.head(self.norm(self.blocks(x))[:, 0])


def network(name: str) -> nn.Module:
    """Return a small network of a kind in evaluation mode, its batch norms as if trained."""
    torch.manual_seed(0)
    relu6, hardswish, silu = nn.ReLU6(), nn.Hardswish(), nn.SiLU()
    made = {
        "resnet": lambda: _classifier(
            8, nn.ReLU(), nn.MaxPool2d(3, 2, 1), Residual(8, 8, 1), Residual(8, 8, 2)
        ),
        "mobilenet_v2": lambda: _classifier(
            8, relu6, Inverted(8, 1, relu6, None), Inverted(8, 2, relu6, None)
        ),
        "mobilenet_v3": lambda: _classifier(
            8, hardswish, Inverted(8, 2, hardswish, nn.Hardsigmoid()), Inverted(8, 1, relu6, None)
        ),
        "efficientnet": lambda: _classifier(
            8, silu, Inverted(8, 1, silu, nn.Sigmoid()), Inverted(8, 2, silu, nn.Sigmoid())
        ),
        "vit": VisionTransformer,
    }
    net = made[name]()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()
