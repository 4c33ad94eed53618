"""timm's names for the parts of a MobileNetV4.

The two state dictionaries hold the same arrays under other names, so a conversion is a renaming.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lucid.models._config import AttentionSpec, ConvBNSpec, FusedIBSpec, ModelSpec, Spec, UIBSpec

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


def _parts(spec: Spec, layer_scale: bool) -> dict[str, str]:
    """Return the names within a block, without those of parts that it does not have."""
    if isinstance(spec, ConvBNSpec):
        return _CONVBN
    if isinstance(spec, FusedIBSpec):
        return _FUSED_IB
    return _without(
        _UIB,
        {
            "start_dw.": spec.start_dw_kernel == 0,
            "mid_dw.": spec.mid_dw_kernel == 0,
            "project.layer_scale": not layer_scale,
        },
    )


def _attention_parts(spec: AttentionSpec) -> dict[str, str]:
    return _without(
        _ATTENTION,
        {
            "query.norm": (spec.query_h_stride, spec.query_w_stride) == (1, 1),
            "key.down_conv": spec.kv_stride == 1,
            "key.norm": spec.kv_stride == 1,
            "value.down_conv": spec.kv_stride == 1,
            "value.norm": spec.kv_stride == 1,
            "layer_scale": not spec.use_layer_scale,
        },
    )


def _without(names: dict[str, str], absent: dict[str, bool]) -> dict[str, str]:
    left_out = tuple(prefix for prefix, is_absent in absent.items() if is_absent)
    return {ours: theirs for ours, theirs in names.items() if not ours.startswith(left_out)}


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
            parts = _parts(block, group.layer_scale is not None)
            names.update({f"{ours}.{a}": f"{theirs}.{b}" for a, b in parts.items()})
            position += 1
            if isinstance(block, UIBSpec) and block.attention is not None:
                ours, theirs = f"layers.{stage}.attention_{index}", f"blocks.{stage}.{position}"
                parts = _attention_parts(block.attention)
                names.update({f"{ours}.{a}": f"{theirs}.{b}" for a, b in parts.items()})
                position += 1
    last = last_convbn(spec)
    names[f"{last}.conv"], names[f"{last}.norm"] = "conv_head", "norm_head"
    names["classifier"] = "classifier"
    return names


def last_convbn(spec: ModelSpec) -> str:
    """Return lucid's path of the last convolution, in the released form behind the pooling."""
    if spec.head is not None:
        return f"head.convbn_{len(spec.head.blocks) - 1}"
    return f"layers.{len(spec.stages) - 2}.convbn_{len(spec.stages[-1].blocks) - 1}"


def is_timm(names: Collection[str]) -> bool:
    """Whether entries are named as timm names them."""
    return "conv_stem.weight" in names


def is_timm_form(names: Collection[str]) -> bool:
    """Whether entries are of a model in the released form, which is timm's, under either's names.

    Under lucid's names the form shows in a convolution behind the pooling.
    """
    return is_timm(names) or any(name.startswith("head.") for name in names)


def rename(name: str, modules: Mapping[str, str]) -> str:
    """Return the entry ``name`` with its module renamed; one that is not in ``modules`` stays."""
    module, _, leaf = name.rpartition(".")
    return f"{modules[module]}.{leaf}" if module in modules else name
