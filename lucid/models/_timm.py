"""timm's names for the parts of a MobileNetV4, and what timm builds differently.

The two state dictionaries hold the same arrays under other names, so a conversion is a renaming.
"""

from __future__ import annotations

from collections.abc import Iterable

from lucid.models._config import ConvBNSpec, FusedIBSpec, ModelSpec, Spec

# Within a block: lucid's module path -> timm's.
_CONVBN = {"conv": "conv", "norm": "bn1"}
_FUSED_IB = {
    "block.0.conv": "conv_exp",
    "block.0.norm": "bn1",
    "block.1.conv": "conv_pwl",
    "block.1.norm": "bn2",
}
_UIB = {
    "start_dw.conv": "dw_start.conv",
    "start_dw.norm": "dw_start.bn",
    "expand.conv": "pw_exp.conv",
    "expand.norm": "pw_exp.bn",
    "mid_dw.conv": "dw_mid.conv",
    "mid_dw.norm": "dw_mid.bn",
    "project.conv": "pw_proj.conv",
    "project.norm": "pw_proj.bn",
    "project.layer_scale": "layer_scale",
}
_ATTENTION = {
    "norm": "norm",
    "query.norm": "attn.query.norm",
    "query.proj": "attn.query.proj",
    "key.down_conv": "attn.key.down_conv",
    "key.norm": "attn.key.norm",
    "key.proj": "attn.key.proj",
    "value.down_conv": "attn.value.down_conv",
    "value.norm": "attn.value.norm",
    "value.proj": "attn.value.proj",
    "output": "attn.output.proj",
    "layer_scale": "layer_scale",
}


def _parts(spec: Spec) -> dict[str, str]:
    if isinstance(spec, ConvBNSpec):
        return _CONVBN
    return _FUSED_IB if isinstance(spec, FusedIBSpec) else _UIB


def module_names(spec: ModelSpec) -> dict[str, str]:
    """Return, for each module that owns arrays, lucid's path -> timm's.

    timm numbers the blocks of a stage through, attention included, and calls the last 1×1
    convolution ``conv_head`` wherever it runs.
    """
    names = {"conv0.convbn_0.conv": "conv_stem", "conv0.convbn_0.norm": "bn1"}
    for stage, group in enumerate(spec.stages[1:]):
        position = 0
        for index, block in enumerate(group.blocks):
            ours = f"layers.{stage}.{group.block_name}_{index}"
            theirs = f"blocks.{stage}.{position}"
            names.update({f"{ours}.{a}": f"{theirs}.{b}" for a, b in _parts(block).items()})
            position += 1
            if getattr(block, "attention", None) is not None:
                ours, theirs = f"layers.{stage}.attention_{index}", f"blocks.{stage}.{position}"
                names.update({f"{ours}.{a}": f"{theirs}.{b}" for a, b in _ATTENTION.items()})
                position += 1
    if spec.head is not None:
        last = "head.convbn_0"
    else:
        last = f"layers.{len(spec.stages) - 2}.convbn_{len(spec.stages[-1].blocks) - 1}"
    names[f"{last}.conv"], names[f"{last}.norm"] = "conv_head", "norm_head"
    names["classifier"] = "classifier"
    return names


def is_timm(names: Iterable[str]) -> bool:
    """Whether entries are named as timm names them."""
    return "conv_stem.weight" in set(names)


def to_timm(name: str, modules: dict[str, str]) -> str | None:
    """Return timm's name of lucid's entry ``name``, or None if it has none."""
    module, _, leaf = name.rpartition(".")
    return f"{modules[module]}.{leaf}" if module in modules else None


def from_timm(name: str, modules: dict[str, str]) -> str | None:
    """Return lucid's name of timm's entry ``name``, or None if it has none."""
    return to_timm(name, {theirs: ours for ours, theirs in modules.items()})
