"""The five published variants (Qin et al. 2024, appendix D) as configurations: plain data to edit.

Each call returns a new dictionary, so changing one changes no model::

    cfg = lucid.models.configs.conv_small()
    cfg["layer3"]["block_specs"][0]["start_dw_kernel"] = 3
    model = lucid.models.MobileNet_V4(cfg, num_classes=10)
"""

from __future__ import annotations

from typing import Any

Config = dict[str, dict[str, Any]]
Row = dict[str, Any]


def _convbn(in_: int, out: int, kernel: int, stride: int = 1) -> Row:
    return {"in": in_, "out": out, "kernel": kernel, "stride": stride}


def _fused_ib(in_: int, out: int, stride: int, expand: float) -> Row:
    return {"in": in_, "out": out, "stride": stride, "expand": expand, "act": False}


def _uib(
    in_: int, out: int, dw: str, expand: float, stride: int = 1, attention: Row | None = None
) -> Row:
    """Return a row; ``dw`` names the depthwise kernels: "3/5" starts with 3 and has 5 within."""
    start, mid = map(int, dw.split("/"))
    row: Row = {
        "in": in_,
        "out": out,
        "start_dw_kernel": start,
        "mid_dw_kernel": mid,
        "mid_dw_downsample": True,
        "stride": stride,
        "expand": expand,
    }
    if attention is not None:
        row["attention"] = dict(attention)
    return row


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


def timm(cfg: Config, act: str = "relu") -> Config:
    """Return ``cfg`` as timm builds it, which is what timm's weights are trained for.

    Three things differ from the paper's page: every activation is ``act``; the last convolution
    runs after the pooling, as ``head``; and in the hybrids each uib block has a layer scale. The
    configuration that is given stays as it is.

    Args:
        cfg: a configuration whose ``layer5`` ends with the 1×1 convolution to move.
        act: ``"relu"`` for all variants but the large hybrid, which has ``"gelu"``.

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
    return groups


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
        "layer3": _group(
            "uib",
            _uib(64, 96, "5/5", 3, stride=2),
            *[_uib(96, 96, "0/3", 2) for _ in range(4)],
            _uib(96, 96, "3/0", 4),
        ),
        "layer4": _group(
            "uib",
            _uib(96, 128, "3/3", 6, stride=2),
            _uib(128, 128, "5/5", 4),
            _uib(128, 128, "0/5", 4),
            _uib(128, 128, "0/5", 3),
            _uib(128, 128, "0/3", 4),
            _uib(128, 128, "0/3", 4),
        ),
        "layer5": _group("convbn", _convbn(128, 960, 1), _convbn(960, 1280, 1)),
    }


def conv_medium() -> Config:
    """Return the configuration of MobileNetV4-Conv-M."""
    return {
        "conv0": _group("convbn", _convbn(3, 32, 3, 2)),
        "layer1": _group("fused_ib", _fused_ib(32, 48, 2, 4)),
        "layer2": _group("uib", _uib(48, 80, "3/5", 4, stride=2), _uib(80, 80, "3/3", 2)),
        "layer3": _group(
            "uib",
            _uib(80, 160, "3/5", 6, stride=2),
            _uib(160, 160, "3/3", 4),
            _uib(160, 160, "3/3", 4),
            _uib(160, 160, "3/5", 4),
            _uib(160, 160, "3/3", 4),
            _uib(160, 160, "3/0", 4),
            _uib(160, 160, "0/0", 2),
            _uib(160, 160, "3/0", 4),
        ),
        "layer4": _group(
            "uib",
            _uib(160, 256, "5/5", 6, stride=2),
            _uib(256, 256, "5/5", 4),
            _uib(256, 256, "3/5", 4),
            _uib(256, 256, "3/5", 4),
            _uib(256, 256, "0/0", 4),
            _uib(256, 256, "3/0", 4),
            _uib(256, 256, "3/5", 2),
            _uib(256, 256, "5/5", 4),
            _uib(256, 256, "0/0", 4),
            _uib(256, 256, "0/0", 4),
            _uib(256, 256, "5/0", 2),
        ),
        "layer5": _group("convbn", _convbn(256, 960, 1), _convbn(960, 1280, 1)),
    }


def conv_large() -> Config:
    """Return the configuration of MobileNetV4-Conv-L."""
    return {
        "conv0": _group("convbn", _convbn(3, 24, 3, 2)),
        "layer1": _group("fused_ib", _fused_ib(24, 48, 2, 4)),
        "layer2": _group("uib", _uib(48, 96, "3/5", 4, stride=2), _uib(96, 96, "3/3", 4)),
        "layer3": _group(
            "uib",
            _uib(96, 192, "3/5", 4, stride=2),
            *[_uib(192, 192, "3/3", 4) for _ in range(3)],
            _uib(192, 192, "3/5", 4),
            *[_uib(192, 192, "5/3", 4) for _ in range(5)],
            _uib(192, 192, "3/0", 4),
        ),
        "layer4": _group(
            "uib",
            _uib(192, 512, "5/5", 4, stride=2),
            *[_uib(512, 512, "5/5", 4) for _ in range(3)],
            _uib(512, 512, "5/0", 4),
            _uib(512, 512, "5/3", 4),
            _uib(512, 512, "5/0", 4),
            _uib(512, 512, "5/0", 4),
            _uib(512, 512, "5/3", 4),
            _uib(512, 512, "5/5", 4),
            *[_uib(512, 512, "5/0", 4) for _ in range(3)],
        ),
        "layer5": _group("convbn", _convbn(512, 960, 1), _convbn(960, 1280, 1)),
    }


def hybrid_medium() -> Config:
    """Return the configuration of MobileNetV4-Hybrid-M."""
    strided, plain = _mqa(4, 64, kv_stride=2), _mqa(4, 64, kv_stride=1)
    return {
        "conv0": _group("convbn", _convbn(3, 32, 3, 2)),
        "layer1": _group("fused_ib", _fused_ib(32, 48, 2, 4)),
        "layer2": _group("uib", _uib(48, 80, "3/5", 4, stride=2), _uib(80, 80, "3/3", 2)),
        "layer3": _group(
            "uib",
            _uib(80, 160, "3/5", 6, stride=2),
            _uib(160, 160, "0/0", 2),
            _uib(160, 160, "3/3", 4),
            _uib(160, 160, "3/5", 4, attention=strided),
            _uib(160, 160, "3/3", 4, attention=strided),
            _uib(160, 160, "3/0", 4, attention=strided),
            _uib(160, 160, "3/3", 4, attention=strided),
            _uib(160, 160, "3/0", 4),
        ),
        "layer4": _group(
            "uib",
            _uib(160, 256, "5/5", 6, stride=2),
            _uib(256, 256, "5/5", 4),
            _uib(256, 256, "3/5", 4),
            _uib(256, 256, "3/5", 4),
            _uib(256, 256, "0/0", 2),
            _uib(256, 256, "3/5", 2),
            _uib(256, 256, "0/0", 2),
            _uib(256, 256, "0/0", 4, attention=plain),
            _uib(256, 256, "3/0", 4, attention=plain),
            _uib(256, 256, "5/5", 4, attention=plain),
            _uib(256, 256, "5/0", 4, attention=plain),
            _uib(256, 256, "5/0", 4),
        ),
        "layer5": _group("convbn", _convbn(256, 960, 1), _convbn(960, 1280, 1)),
    }


def hybrid_large() -> Config:
    """Return the configuration of MobileNetV4-Hybrid-L."""
    strided, plain = _mqa(8, 48, kv_stride=2), _mqa(8, 64, kv_stride=1)
    return {
        "conv0": _group("convbn", _convbn(3, 24, 3, 2)),
        "layer1": _group("fused_ib", _fused_ib(24, 48, 2, 4)),
        "layer2": _group("uib", _uib(48, 96, "3/5", 4, stride=2), _uib(96, 96, "3/3", 4)),
        "layer3": _group(
            "uib",
            _uib(96, 192, "3/5", 4, stride=2),
            *[_uib(192, 192, "3/3", 4) for _ in range(3)],
            _uib(192, 192, "3/5", 4),
            _uib(192, 192, "5/3", 4),
            *[_uib(192, 192, "5/3", 4, attention=strided) for _ in range(4)],
            _uib(192, 192, "3/0", 4),
        ),
        "layer4": _group(
            "uib",
            _uib(192, 512, "5/5", 4, stride=2),
            *[_uib(512, 512, "5/5", 4) for _ in range(3)],
            _uib(512, 512, "5/0", 4),
            _uib(512, 512, "5/3", 4),
            _uib(512, 512, "5/0", 4),
            _uib(512, 512, "5/0", 4),
            _uib(512, 512, "5/3", 4),
            _uib(512, 512, "5/5", 4, attention=plain),
            *[_uib(512, 512, "5/0", 4, attention=plain) for _ in range(3)],
            _uib(512, 512, "5/0", 4),
        ),
        "layer5": _group("convbn", _convbn(512, 960, 1), _convbn(960, 1280, 1)),
    }
