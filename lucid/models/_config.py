"""MobileNetV4 configurations: what a dictionary may say, and the checks that name what is wrong.

A configuration is plain data (numbers, strings, lists, dictionaries: JSON). It is read once into
the small classes below, and never changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lucid._check import Check, is_integer, is_number, short

STAGES = ("conv0", "layer1", "layer2", "layer3", "layer4", "layer5")
ACTIVATIONS = ("relu6", "relu", "gelu", "silu", "hardswish")
ANTI_ALIASING = ("avg", "blur")


def make_divisible(value: float, divisor: int = 8) -> int:
    """Return ``value`` rounded to a multiple of ``divisor``, and not down by more than 10 %."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclass(frozen=True)
class ConvBNSpec:
    """A convolution with batch norm and activation."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int

    @property
    def weights(self) -> int:
        """The weights of its convolution."""
        return self.in_channels * self.out_channels * self.kernel**2


@dataclass(frozen=True)
class FusedIBSpec:
    """A fused inverted bottleneck: a 3×3 convolution that expands, a 1×1 that projects."""

    in_channels: int
    out_channels: int
    stride: int
    expand: float
    act: bool  # an activation after the projection too

    @property
    def hidden(self) -> int:
        """The channels between its convolutions."""
        return make_divisible(self.in_channels * self.expand)

    @property
    def weights(self) -> int:
        """The weights of its convolutions."""
        return self.hidden * (9 * self.in_channels + self.out_channels)


@dataclass(frozen=True)
class AttentionSpec:
    """Mobile multi-query attention after a universal inverted bottleneck."""

    num_heads: int
    key_dim: int
    value_dim: int
    query_h_stride: int
    query_w_stride: int
    kv_stride: int
    use_layer_scale: bool
    use_multi_query: bool
    use_residual: bool

    def weights(self, channels: int) -> int:
        """The weights of its convolutions, on a map of so many channels."""
        shared = 1 if self.use_multi_query else self.num_heads
        projections = (self.num_heads + shared) * (self.key_dim + self.value_dim)
        return channels * (projections + (18 if self.kv_stride > 1 else 0))


@dataclass(frozen=True)
class UIBSpec:
    """A universal inverted bottleneck, with attention behind it where ``attention`` is given."""

    in_channels: int
    out_channels: int
    start_dw_kernel: int  # 0: no such convolution
    mid_dw_kernel: int  # 0: no such convolution
    mid_dw_downsample: bool
    stride: int
    expand: float
    attention: AttentionSpec | None

    @property
    def hidden(self) -> int:
        """The channels between its 1×1 convolutions."""
        return make_divisible(self.in_channels * self.expand)

    @property
    def weights(self) -> int:
        """The weights of its convolutions."""
        return (
            self.in_channels * self.start_dw_kernel**2
            + self.hidden * (self.in_channels + self.mid_dw_kernel**2 + self.out_channels)
            + (self.attention.weights(self.out_channels) if self.attention else 0)
        )


Spec = ConvBNSpec | FusedIBSpec | UIBSpec


@dataclass(frozen=True)
class GroupSpec:
    """A stage: blocks of one kind, and what is the same for all of them."""

    name: str
    block_name: str
    act: str
    layer_scale: float | None  # where it starts
    aa: str | None  # the pooling in the place of a stride
    blocks: tuple[Spec, ...]


@dataclass(frozen=True)
class ModelSpec:
    """A whole model: the stages, and what follows the pooling (usually nothing)."""

    stages: tuple[GroupSpec, ...]
    head: GroupSpec | None

    @property
    def in_channels(self) -> int:
        """The channels of the images."""
        return self.stages[0].blocks[0].in_channels

    @property
    def num_features(self) -> int:
        """The width of the last stage, whose map is pooled."""
        return self.stages[-1].blocks[-1].out_channels

    @property
    def head_hidden_size(self) -> int:
        """The width of what is classified."""
        return (self.head or self.stages[-1]).blocks[-1].out_channels

    @property
    def depth(self) -> int:
        """The blocks behind the stem and before the pooling; attention counts as one."""
        blocks = [block for stage in self.stages[1:] for block in stage.blocks]
        return len(blocks) + sum(getattr(b, "attention", None) is not None for b in blocks)

    def check_size(self, num_classes: int) -> None:
        """Raise before memory is taken for a model that is too large to be meant.

        Raises:
            ValueError: naming the largest part and the number of weights in it and in all.
        """
        parts = {
            f"{group.name}.block_specs[{index}]": block.weights
            for group in (*self.stages, *([self.head] if self.head else []))
            for index, block in enumerate(group.blocks)
        }
        parts["num_classes"] = self.head_hidden_size * num_classes
        if (total := sum(parts.values())) > MOST_WEIGHTS:
            part = max(parts, key=lambda name: parts[name])
            raise ValueError(
                f"MobileNet_V4 configuration: {part}: {short(parts[part])} weights of "
                f"{short(total)} in all, expected at most {MOST_WEIGHTS:,}"
            )


# -- single values ----------------------------------------------------------------------------

_POSITIVE: Check = ("a positive integer", lambda v: is_integer(v, 1, math.inf))
_KERNEL: Check = (
    "a positive odd integer",
    lambda v: is_integer(v, 1, math.inf) and v % 2 == 1,
)
_OPTIONAL_KERNEL: Check = (
    "a positive odd integer, or 0 for none",
    lambda v: is_integer(v, 0, math.inf) and (v == 0 or v % 2 == 1),
)
_EXPAND: Check = ("a number over 0", lambda v: is_number(v, 0, math.inf) and 0 < v < math.inf)
# Tables of rows are often written with 0 and 1.
_FLAG: Check = ("true or false", lambda v: isinstance(v, bool) or is_integer(v, 0, 1))

# What computes at all; beyond it, numbers overflow and maps fill the memory.
_LIMITS: dict[str, tuple[float, float]] = {
    "kernel": (1, 255),
    "start_dw_kernel": (0, 255),
    "mid_dw_kernel": (0, 255),
    "expand": (1e-3, 1e3),
}
_ANY_LIMIT = (0, 65_536)
_MOST_BLOCKS = 1_000
MOST_WEIGHTS = 1_000_000_000

# What each kind of row may say, in the order of the entries of its class.
_CHECKS: dict[str, Check] = {
    **dict.fromkeys(("in", "out", "stride"), _POSITIVE),
    "kernel": _KERNEL,
    **dict.fromkeys(("start_dw_kernel", "mid_dw_kernel"), _OPTIONAL_KERNEL),
    **dict.fromkeys(("mid_dw_downsample", "act"), _FLAG),
    "expand": _EXPAND,
    **dict.fromkeys(("num_heads", "key_dim", "value_dim"), _POSITIVE),
    **dict.fromkeys(("query_h_stride", "query_w_stride", "kv_stride"), _POSITIVE),
    **dict.fromkeys(("use_layer_scale", "use_multi_query", "use_residual"), _FLAG),
}
_ROWS = {
    "convbn": "in out kernel stride",
    "fused_ib": "in out stride expand act",
    "uib": "in out start_dw_kernel mid_dw_kernel mid_dw_downsample stride expand",
}
_ATTENTION = (
    "num_heads key_dim value_dim query_h_stride query_w_stride kv_stride "
    "use_layer_scale use_multi_query use_residual"
)
_GROUP_KEYS = ("block_name", "num_blocks", "block_specs", "act", "layer_scale", "aa")


def _fail(path: str, expected: str, value: Any) -> ValueError:
    return ValueError(
        f"MobileNet_V4 configuration: {path}: expected {expected}, got {short(value)}"
    )


def _named(row: Any, names: Sequence[str], optional: Sequence[str], path: str) -> dict[str, Any]:
    """Return a row as a dictionary, whether it is written as one or as a sequence."""
    everything = [*names, *optional]
    if isinstance(row, Mapping):
        for key in row:
            if key not in everything:
                raise _fail(path, f"only the keys {', '.join(everything)}", key)
        for name in names:
            if name not in row:
                raise ValueError(f"MobileNet_V4 configuration: {path}: the key {name!r} is missing")
        return dict(row)
    if isinstance(row, (list, tuple)):
        if not len(names) <= len(row) <= len(everything):
            wanted = str(len(names)) + (f" or {len(everything)}" if optional else "")
            raise _fail(
                path,
                f"{wanted} entries [{', '.join(everything)}]",
                f"{len(row)} entries {short(row)}",
            )
        return dict(zip(everything, row))
    raise _fail(path, "a list or a dictionary", row)


def _checked(row: dict[str, Any], names: Sequence[str], path: str) -> list[Any]:
    """Return the values of a row in the order of ``names``, flags as booleans."""
    values = []
    for name in names:
        expected, is_right = _CHECKS[name]
        if not is_right(row[name]):
            raise _fail(f"{path}.{name}", expected, row[name])
        low, high = _LIMITS.get(name, _ANY_LIMIT)
        if not low <= row[name] <= high:
            raise _fail(f"{path}.{name}", f"a number from {low:g} to {high:g}", row[name])
        values.append(bool(row[name]) if _CHECKS[name] is _FLAG else row[name])
    return values


# -- rows, groups, models ---------------------------------------------------------------------


def _read_attention(value: Any, path: str) -> AttentionSpec | None:
    if value is None:
        return None
    names = _ATTENTION.split()
    return AttentionSpec(*_checked(_named(value, names, (), path), names, path))


def _read_row(block_name: str, value: Any, path: str) -> Spec:
    names = _ROWS[block_name].split()
    optional = ("attention",) if block_name == "uib" else ()
    row = _named(value, names, optional, path)
    values = _checked(row, names, path)
    if block_name == "convbn":
        return ConvBNSpec(*values)
    if block_name == "fused_ib":
        return FusedIBSpec(*values)
    if row["stride"] > 1 and not row["start_dw_kernel"] and not row["mid_dw_kernel"]:
        raise _fail(
            f"{path}.stride", "1, since no depthwise convolution can carry it", row["stride"]
        )
    values.append(_read_attention(row.get("attention"), f"{path}.attention"))
    return UIBSpec(*values)


def _read_group(name: str, group: Any, previous: GroupSpec | None) -> GroupSpec:
    if not isinstance(group, Mapping):
        raise _fail(name, "a dictionary with block_name, num_blocks and block_specs", group)
    for key in group:
        if key not in _GROUP_KEYS:
            raise _fail(name, f"only the keys {', '.join(_GROUP_KEYS)}", key)
    for key in ("block_name", "num_blocks", "block_specs"):
        if key not in group:
            raise ValueError(f"MobileNet_V4 configuration: {name}: the key {key!r} is missing")
    block_name, rows = group["block_name"], group["block_specs"]
    if block_name not in list(_ROWS):  # a list, as the name may be no hashable
        raise _fail(f"{name}.block_name", f"one of {', '.join(map(repr, _ROWS))}", block_name)
    if not isinstance(rows, (list, tuple)) or not rows:
        raise _fail(f"{name}.block_specs", "a list with one row a block", rows)
    if len(rows) > _MOST_BLOCKS:
        raise _fail(f"{name}.block_specs", f"at most {_MOST_BLOCKS} rows", len(rows))
    if not is_integer(group["num_blocks"]) or group["num_blocks"] != len(rows):
        raise _fail(
            f"{name}.num_blocks",
            f"{len(rows)}, the number of rows in block_specs",
            group["num_blocks"],
        )
    act = group.get("act", "relu6")
    if act not in ACTIVATIONS:
        raise _fail(f"{name}.act", f"one of {', '.join(map(repr, ACTIVATIONS))}", act)
    layer_scale = group.get("layer_scale")
    if layer_scale is not None and not is_number(layer_scale):
        raise _fail(f"{name}.layer_scale", "a number to start from, or None for none", layer_scale)
    if layer_scale is not None and block_name != "uib":
        raise _fail(f"{name}.layer_scale", "None, since only uib blocks have one", layer_scale)
    aa = group.get("aa")
    if aa not in (None, *ANTI_ALIASING):
        raise _fail(f"{name}.aa", f"one of {', '.join(map(repr, ANTI_ALIASING))}, or None", aa)
    blocks: list[Spec] = []
    for index, row in enumerate(rows):
        path = f"{name}.block_specs[{index}]"
        block = _read_row(block_name, row, path)
        before, where = (blocks[-1], "the row before") if blocks else (None, "")
        if before is None and previous is not None:
            before, where = previous.blocks[-1], previous.name
        if before is not None and block.in_channels != before.out_channels:
            raise _fail(
                f"{path}.in",
                f"{before.out_channels}, the output channels of {where}",
                block.in_channels,
            )
        blocks.append(block)
    scale = None if layer_scale is None else float(layer_scale)
    return GroupSpec(name, block_name, act, scale, aa, tuple(blocks))


def read_config(cfg: Any, in_channels: int | None = None) -> ModelSpec:
    """Return a configuration dictionary as a checked :class:`ModelSpec`.

    Args:
        cfg: the dictionary; it is not changed.
        in_channels: channels of the images, in place of what the first row says.

    Raises:
        TypeError: if ``cfg`` is no dictionary.
        ValueError: naming the key, what was expected and what was given, for anything else.
    """
    if not isinstance(cfg, Mapping):
        raise TypeError(
            f"MobileNet_V4 configuration: expected a dictionary with the keys {', '.join(STAGES)}, "
            f"got {type(cfg).__name__}"
        )
    for key in cfg:
        if key not in (*STAGES, "head"):
            raise _fail("top level", f"only the keys {', '.join(STAGES)} and head", key)
    stages: list[GroupSpec] = []
    for name in STAGES:
        if name not in cfg:
            raise ValueError(f"MobileNet_V4 configuration: the key {name!r} is missing")
        group = cfg[name]
        if name == "conv0" and in_channels is not None:
            group = _with_in_channels(group, in_channels)
        stages.append(_read_group(name, group, stages[-1] if stages else None))
    head = None if cfg.get("head") is None else _read_group("head", cfg["head"], stages[-1])
    if head is not None and head.block_name != "convbn":
        raise _fail("head.block_name", "'convbn'", head.block_name)
    return ModelSpec(tuple(stages), head)


def _with_in_channels(group: Any, in_channels: int) -> Any:
    """Return a copy of the first group whose first row takes ``in_channels``."""
    if not is_integer(in_channels, 1):
        raise ValueError(
            f"MobileNet_V4: in_channels must be a positive integer, got {short(in_channels)}"
        )
    if not isinstance(group, Mapping) or not group.get("block_specs"):
        return group  # wrong in a way that the reader names
    first, *rest = group["block_specs"]
    if isinstance(first, Mapping):
        first = {**first, "in": in_channels}
    elif isinstance(first, (list, tuple)) and first:
        first = [in_channels, *first[1:]]
    return {**group, "block_specs": [first, *rest]}
