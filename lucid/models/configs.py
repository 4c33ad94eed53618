"""The published architectures as configurations: plain data to edit.

:func:`conv_small` and its four like are the paper's variants (Qin et al. 2024, appendix D), in the
form that lucid's names build. :func:`released` makes of them the twelve architectures that timm
has, in the form that was released and that weights are trained for. Each call returns a new
dictionary, so changing one changes no model::

    cfg = lucid.models.configs.conv_small()
    cfg["layer3"]["block_specs"][0]["start_dw_kernel"] = 3
    model = lucid.models.MobileNet_V4(cfg, num_classes=10)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lucid._check import is_number, short
from lucid.models._config import make_divisible, read_config

Config = dict[str, dict[str, Any]]
Row = dict[str, Any]


def _convbn(in_: int, out: int, kernel: int, stride: int = 1) -> Row:
    return {"in": in_, "out": out, "kernel": kernel, "stride": stride}


def _fused_ib(in_: int, out: int, stride: int, expand: float) -> Row:
    return {"in": in_, "out": out, "stride": stride, "expand": expand, "act": False}


def _uibs(in_: int, out: int, blocks: str, attention: Row | None = None) -> dict[str, Any]:
    """Return a stage of uib blocks, of which the first has stride 2.

    ``"3/5 6, 3/0 4 mqa"`` are two: with depthwise kernels of 3 at the start and of 5 within, and
    an expansion to six times the width; then one of 3 at the start, 4 times, with ``attention``.
    """
    rows = []
    for index, block in enumerate(blocks.split(",")):
        kernels, expand, *mqa = block.split()
        start, mid = map(int, kernels.split("/"))
        row: Row = {
            "in": out if index else in_,
            "out": out,
            "start_dw_kernel": start,
            "mid_dw_kernel": mid,
            "mid_dw_downsample": True,
            "stride": 1 if index else 2,
            "expand": int(expand),
        }
        if mqa and attention is not None:
            row["attention"] = dict(attention)
        rows.append(row)
    return _group("uib", *rows)


def _mqa(num_heads: int, dim: int, kv_stride: int) -> Row:
    return {
        "num_heads": num_heads,
        "key_dim": dim,
        "value_dim": dim,
        "query_h_stride": 1,
        "query_w_stride": 1,
        "kv_stride": kv_stride,
        "use_layer_scale": True,
        "use_multi_query": True,
        "use_residual": True,
    }


def _group(block_name: str, *rows: Row) -> dict[str, Any]:
    return {"block_name": block_name, "num_blocks": len(rows), "block_specs": list(rows)}


def timm(cfg: Config, act: str = "relu", aa: str | None = None) -> Config:
    """Return ``cfg`` in the form that the authors and timm released, and trained weights for.

    Three things differ from the page that lucid was made from: every activation is ``act``; the
    last convolution runs after the pooling, as ``head``; and in the hybrids each uib block has a
    layer scale. The configuration that is given stays as it is.

    Args:
        cfg: a configuration whose ``layer5`` ends with the 1×1 convolution to move.
        act: ``"relu"`` for all architectures but the large hybrids, which have ``"gelu"``.
        aa: anti-aliasing of all stages but the stem: ``"avg"``, ``"blur"`` or None, see
            :class:`lucid.models.MobileNet_V4`.

    Example:
        >>> cfg = models.configs.timm(models.configs.conv_small())
        >>> cfg["layer5"]["num_blocks"], cfg["head"]["num_blocks"]
        (1, 1)
        >>> cfg["conv0"]["act"]
        'relu'
    """
    groups = {name: {**group, "act": act} for name, group in cfg.items()}
    hybrid = any("attention" in row for group in cfg.values() for row in group["block_specs"])
    for group in groups.values():
        if hybrid and group["block_name"] == "uib":
            group["layer_scale"] = 1e-5
    *rows, last = groups["layer5"]["block_specs"]
    groups["layer5"].update(num_blocks=len(rows), block_specs=rows)
    groups["head"] = {**_group("convbn", last), "act": act}
    if aa is not None:
        for name in groups.keys() - {"conv0", "head"}:
            groups[name]["aa"] = aa
    return groups


def scale(cfg: Config, multiplier: float) -> Config:
    """Return ``cfg`` with its widths multiplied, each rounded to a multiple of 8 as timm does.

    The last convolution, of 1280 channels in the published configurations, keeps its width. So
    does the stem ``conv0``, unless it gets wider. The dimensions of attention stay, and expansions
    start from the new widths. The configuration that is given stays as it is.

    Args:
        cfg: a configuration.
        multiplier: a number over 0.

    Raises:
        ValueError: if the multiplier is something else, or the configuration is wrong.

    Example:
        >>> half = models.configs.scale(models.configs.conv_small(), 0.5)
        >>> [half[f"layer{i}"]["block_specs"][-1]["out"] for i in (1, 2, 3, 4)]
        [16, 32, 48, 64]
    """
    if not is_number(multiplier) or multiplier <= 0:
        raise ValueError(f"scale: multiplier must be a number over 0, got {short(multiplier)}")
    spec = read_config(cfg)
    groups = [*spec.stages, *([spec.head] if spec.head else [])]
    last, width = groups[-1].blocks[-1], spec.in_channels
    scaled = {}
    for group in groups:
        rows: list[Any] = []
        for row, block in zip(cfg[group.name]["block_specs"], group.blocks):
            before, width = width, block.out_channels
            if block is not last and (group.name != "conv0" or multiplier > 1):
                width = make_divisible(width * multiplier)
            if isinstance(row, Mapping):
                rows.append({**row, "in": before, "out": width})
            else:
                rows.append([before, width, *row[2:]])
        scaled[group.name] = {**cfg[group.name], "block_specs": rows}
    return scaled


def released(name: str) -> Config:
    """Return the configuration of one of timm's architectures, in the form that was released.

    Args:
        name: one of :data:`RELEASED`, such as ``"mobilenetv4_conv_small_050"``.

    Raises:
        ValueError: if there is no such architecture.

    Example:
        >>> cfg = models.configs.released("mobilenetv4_conv_aa_large")
        >>> cfg["layer3"]["aa"], cfg["layer3"]["act"]
        ('avg', 'relu')
    """
    if name not in RELEASED:
        raise ValueError(f"released: name must be one of {', '.join(RELEASED)}, got {short(name)}")
    base, multiplier, act, aa = _RELEASED[name]
    return timm(base() if multiplier == 1 else scale(base(), multiplier), act, aa)


def conv_small() -> Config:
    """Return the configuration of MobileNetV4-Conv-S.

    Example:
        >>> cfg = models.configs.conv_small()
        >>> list(cfg)
        ['conv0', 'layer1', 'layer2', 'layer3', 'layer4', 'layer5']
        >>> cfg["layer2"]["block_specs"][0]
        {'in': 32, 'out': 96, 'kernel': 3, 'stride': 2}
    """
    return {
        "conv0": _group("convbn", _convbn(3, 32, 3, 2)),
        "layer1": _group("convbn", _convbn(32, 32, 3, 2), _convbn(32, 32, 1)),
        "layer2": _group("convbn", _convbn(32, 96, 3, 2), _convbn(96, 64, 1)),
        "layer3": _uibs(64, 96, "5/5 3, 0/3 2, 0/3 2, 0/3 2, 0/3 2, 3/0 4"),
        "layer4": _uibs(96, 128, "3/3 6, 5/5 4, 0/5 4, 0/5 3, 0/3 4, 0/3 4"),
        "layer5": _group("convbn", _convbn(128, 960, 1), _convbn(960, 1280, 1)),
    }


def conv_medium() -> Config:
    """Return the configuration of MobileNetV4-Conv-M."""
    return {
        "conv0": _group("convbn", _convbn(3, 32, 3, 2)),
        "layer1": _group("fused_ib", _fused_ib(32, 48, 2, 4)),
        "layer2": _uibs(48, 80, "3/5 4, 3/3 2"),
        "layer3": _uibs(80, 160, "3/5 6, 3/3 4, 3/3 4, 3/5 4, 3/3 4, 3/0 4, 0/0 2, 3/0 4"),
        "layer4": _uibs(
            160,
            256,
            "5/5 6, 5/5 4, 3/5 4, 3/5 4, 0/0 4, 3/0 4, 3/5 2, 5/5 4, 0/0 4, 0/0 4, 5/0 2",
        ),
        "layer5": _group("convbn", _convbn(256, 960, 1), _convbn(960, 1280, 1)),
    }


def conv_large() -> Config:
    """Return the configuration of MobileNetV4-Conv-L."""
    return {
        "conv0": _group("convbn", _convbn(3, 24, 3, 2)),
        "layer1": _group("fused_ib", _fused_ib(24, 48, 2, 4)),
        "layer2": _uibs(48, 96, "3/5 4, 3/3 4"),
        "layer3": _uibs(
            96,
            192,
            "3/5 4, 3/3 4, 3/3 4, 3/3 4, 3/5 4, 5/3 4, 5/3 4, 5/3 4, 5/3 4, 5/3 4, 3/0 4",
        ),
        "layer4": _uibs(
            192,
            512,
            "5/5 4, 5/5 4, 5/5 4, 5/5 4, 5/0 4, 5/3 4, 5/0 4, 5/0 4, 5/3 4, 5/5 4, "
            "5/0 4, 5/0 4, 5/0 4",
        ),
        "layer5": _group("convbn", _convbn(512, 960, 1), _convbn(960, 1280, 1)),
    }


def hybrid_medium() -> Config:
    """Return the configuration of MobileNetV4-Hybrid-M."""
    return {
        "conv0": _group("convbn", _convbn(3, 32, 3, 2)),
        "layer1": _group("fused_ib", _fused_ib(32, 48, 2, 4)),
        "layer2": _uibs(48, 80, "3/5 4, 3/3 2"),
        "layer3": _uibs(
            80,
            160,
            "3/5 6, 0/0 2, 3/3 4, 3/5 4 mqa, 3/3 4 mqa, 3/0 4 mqa, 3/3 4 mqa, 3/0 4",
            attention=_mqa(4, 64, kv_stride=2),
        ),
        "layer4": _uibs(
            160,
            256,
            "5/5 6, 5/5 4, 3/5 4, 3/5 4, 0/0 2, 3/5 2, 0/0 2, "
            "0/0 4 mqa, 3/0 4 mqa, 5/5 4 mqa, 5/0 4 mqa, 5/0 4",
            attention=_mqa(4, 64, kv_stride=1),
        ),
        "layer5": _group("convbn", _convbn(256, 960, 1), _convbn(960, 1280, 1)),
    }


def hybrid_large() -> Config:
    """Return the configuration of MobileNetV4-Hybrid-L."""
    return {
        "conv0": _group("convbn", _convbn(3, 24, 3, 2)),
        "layer1": _group("fused_ib", _fused_ib(24, 48, 2, 4)),
        "layer2": _uibs(48, 96, "3/5 4, 3/3 4"),
        "layer3": _uibs(
            96,
            192,
            "3/5 4, 3/3 4, 3/3 4, 3/3 4, 3/5 4, 5/3 4, "
            "5/3 4 mqa, 5/3 4 mqa, 5/3 4 mqa, 5/3 4 mqa, 3/0 4",
            attention=_mqa(8, 48, kv_stride=2),
        ),
        "layer4": _uibs(
            192,
            512,
            "5/5 4, 5/5 4, 5/5 4, 5/5 4, 5/0 4, 5/3 4, 5/0 4, 5/0 4, 5/3 4, "
            "5/5 4 mqa, 5/0 4 mqa, 5/0 4 mqa, 5/0 4 mqa, 5/0 4",
            attention=_mqa(8, 64, kv_stride=1),
        ),
        "layer5": _group("convbn", _convbn(512, 960, 1), _convbn(960, 1280, 1)),
    }


# What timm's architectures are made of: variant, width multiplier, activation, anti-aliasing.
_RELEASED: dict[str, tuple[Callable[[], Config], float, str, str | None]] = {
    "mobilenetv4_conv_small": (conv_small, 1, "relu", None),
    "mobilenetv4_conv_small_035": (conv_small, 0.35, "relu", None),
    "mobilenetv4_conv_small_050": (conv_small, 0.5, "relu", None),
    "mobilenetv4_conv_medium": (conv_medium, 1, "relu", None),
    "mobilenetv4_conv_aa_medium": (conv_medium, 1, "relu", "avg"),
    "mobilenetv4_conv_blur_medium": (conv_medium, 1, "relu", "blur"),
    "mobilenetv4_conv_large": (conv_large, 1, "relu", None),
    "mobilenetv4_conv_aa_large": (conv_large, 1, "relu", "avg"),
    "mobilenetv4_hybrid_medium": (hybrid_medium, 1, "relu", None),
    "mobilenetv4_hybrid_medium_075": (hybrid_medium, 0.75, "relu", None),
    "mobilenetv4_hybrid_large": (hybrid_large, 1, "gelu", None),
    "mobilenetv4_hybrid_large_075": (hybrid_large, 0.75, "gelu", None),
}
#: The names of timm's twelve architectures.
RELEASED = tuple(_RELEASED)
