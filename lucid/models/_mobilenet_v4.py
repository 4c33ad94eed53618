"""MobileNet_V4: any configuration of the family, from a dictionary."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from lucid import nn
from lucid._check import is_integer, probability, short
from lucid.autograd import Tensor
from lucid.models._blocks import (
    _InvertedResidual,
    _MobileAttention,
    _UniversalInvertedBottleneck,
    convbn,
)
from lucid.models._config import ConvBNSpec, FusedIBSpec, GroupSpec, UIBSpec, read_config
from lucid.nn.functional import dropout
from lucid.nn.modules._residual import Residual


def _build_group(group: GroupSpec) -> nn.Sequential:
    """Return a stage's blocks, named by kind and position (``uib_0``, ``attention_0``)."""
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    for index, spec in enumerate(group.blocks):
        name = f"{group.block_name}_{index}"
        if isinstance(spec, ConvBNSpec):
            widths = spec.in_channels, spec.out_channels
            blocks[name] = convbn(*widths, spec.kernel, spec.stride, act=group.act, aa=group.aa)
        elif isinstance(spec, FusedIBSpec):
            blocks[name] = _InvertedResidual(spec, group.act, group.aa)
        elif isinstance(spec, UIBSpec):
            blocks[name] = _UniversalInvertedBottleneck(
                spec, group.act, group.layer_scale, group.aa
            )
            if spec.attention is not None:
                blocks[f"attention_{index}"] = _MobileAttention(spec.out_channels, spec.attention)
    stage = nn.Sequential(blocks)
    stage.diagram_label = group.name
    return stage


def _stride(groups: Sequence[GroupSpec]) -> int:
    return math.prod(spec.stride for group in groups for spec in group.blocks)


class MobileNet_V4(nn.Module):
    """A MobileNetV4 (Qin et al. 2024) as a configuration describes it.

    Input ``(N, in_channels, H, W)``; output ``(N, num_classes)``, or ``(N, head_hidden_size)``
    with ``num_classes=0``, or a list of maps with ``features_only=True``.

    The images go through ``conv0`` and the five stages of ``layers``; the map is averaged over
    its positions and classified by one linear layer. A configuration has the keys ``conv0`` and
    ``layer1`` to ``layer5``, each a dictionary with

    - ``block_name``: ``"convbn"``, ``"fused_ib"`` or ``"uib"``;
    - ``num_blocks``: the number of rows in ``block_specs``;
    - ``block_specs``: one row a block, a dictionary of the names below or a list in their order:

      - convbn: ``in, out, kernel, stride``
      - fused_ib: ``in, out, stride, expand, act``
      - uib: ``in, out, start_dw_kernel, mid_dw_kernel, mid_dw_downsample, stride, expand`` and
        optionally ``attention``, with ``num_heads, key_dim, value_dim, query_h_stride,
        query_w_stride, kv_stride, use_layer_scale, use_multi_query, use_residual``;

    - optionally ``act``: the activation, ``"relu6"`` (the default), ``"relu"``, ``"gelu"``,
      ``"silu"`` or ``"hardswish"``;
    - optionally, for uib, ``layer_scale``: the start of a learned factor a channel on each block;
    - optionally ``aa``, anti-aliasing: a block of stride 2 convolves at stride 1, and behind its
      norm and activation ``"avg"`` averages over windows of 2×2, ``"blur"`` filters with 1-2-1 in
      both directions at stride 2. A uib pools where its stride sits, a fused_ib its hidden map.

    A further key ``head`` holds convbn blocks that run after the pooling, on 1×1.
    :func:`lucid.models.configs.scale` multiplies the widths of a configuration,
    :func:`lucid.models.configs.timm` gives it the form of the released weights.

    Args:
        cfg: the configuration; it is not changed.
        num_classes: width of the classifier; 0 leaves it out.
        in_channels: channels of the images; by default what the first row of ``conv0`` says.
        features_only: build no pooling and classifier, and return the stages' outputs.
        drop_rate: of the dropout before the classifier.
        drop_path_rate: stochastic depth: how likely the residual branch of a sample is dropped in
            training. The rate grows linearly over the blocks, from 0 to just below this.
        out_indices: with ``features_only``, which stages to return: 0 is ``conv0``, 1 to 5 are
            the stages of ``layers``. By default 0 to 4, the outputs at strides 2, 4, 8, 16 and
            32 in all five variants. Stages behind the last one are not built.

    Attributes:
        name: of the variant it was built as, such as ``"mobilenet_v4_conv_small"``; None for a
            configuration of one's own.
        num_features: width of the last stage's map, which :meth:`forward_features` returns.
        head_hidden_size: width of what is classified; another than ``num_features`` where a
            convolution follows the pooling (``head``).
        drop_rate: of the dropout before the classifier.
        pretrained_cfg: what the weights expect of an image (``input_size``, ``crop_pct``,
            ``interpolation``, ``mean``, ``std``), or None without loaded weights.
        default_cfg: the same and more of timm's keys (``architecture``, ``tag``,
            ``test_input_size``, ``first_conv``, ``classifier``, …), without weights for the
            recommended ones; empty for a configuration of one's own.
        feature_info: with ``features_only``, ``{"index", "channels", "stride"}`` of each output.

    Raises:
        TypeError: if ``cfg`` is no dictionary.
        ValueError: for a configuration that cannot be built, naming the key, such as
            ``layer3.block_specs[2].stride``, what was expected there and what was given.

    Example:
        >>> model = models.MobileNet_V4(models.configs.conv_small(), num_classes=10).eval()
        >>> model(lucid.zeros(1, 3, 64, 64)).shape
        (1, 10)
        >>> body = models.MobileNet_V4(models.configs.conv_small(), features_only=True).eval()
        >>> [tuple(x.shape) for x in body(lucid.zeros(1, 3, 64, 64))]
        [(1, 32, 32, 32), (1, 32, 16, 16), (1, 64, 8, 8), (1, 96, 4, 4), (1, 128, 2, 2)]
    """

    def __init__(
        self,
        cfg: dict[str, dict[str, Any]],
        num_classes: int = 1000,
        *,
        in_channels: int | None = None,
        features_only: bool = False,
        out_indices: Sequence[int] | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        _check_classes(num_classes)
        spec = read_config(cfg, in_channels)
        spec.check_size(num_classes)
        self.drop_rate = probability(drop_rate, "drop_rate", "MobileNet_V4")
        probability(drop_path_rate, "drop_path_rate", "MobileNet_V4")
        self.name: str | None = None
        self.in_channels = spec.in_channels
        self.num_classes = num_classes
        self.num_features = spec.num_features
        self.head_hidden_size = spec.head_hidden_size
        self.pretrained_cfg: dict[str, Any] | None = None
        self.default_cfg: dict[str, Any] = {}
        self.out_indices: tuple[int, ...] | None = None
        self.feature_info: list[dict[str, int]] = []
        stages = spec.stages
        if features_only:
            self.out_indices = _read_indices(out_indices)
            stages = stages[: max(self.out_indices) + 1]
            self.feature_info = [
                {
                    "index": i,
                    "channels": stages[i].blocks[-1].out_channels,
                    "stride": _stride(stages[: i + 1]),
                }
                for i in self.out_indices
            ]
        elif out_indices is not None:
            raise ValueError("MobileNet_V4: out_indices belongs to features_only=True")
        self.conv0 = _build_group(stages[0])
        self.layers = nn.Sequential(*(_build_group(group) for group in stages[1:]))
        blocks = [block for stage in self.layers.children() for block in stage.children()]
        for index, block in enumerate(blocks):
            if isinstance(block, Residual):
                block.drop_path = drop_path_rate * index / spec.depth
        if not features_only:
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.head = None if spec.head is None else _build_group(spec.head)
            self.flatten = nn.Flatten()
            self.classifier = (
                nn.Linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()
            )
        self._initialise()

    def _initialise(self) -> None:
        """Draw the weights as the reference does: He et al. 2015 over the outputs of a group."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                o, _, kh, kw = module.weight.shape
                nn.init.normal_(module.weight, 0.0, (2 / (o // module.groups * kh * kw)) ** 0.5)
            elif isinstance(module, nn.Linear):
                _initialise_classifier(module)
        for module in self.modules():
            if isinstance(module, _MobileAttention):
                for part in module.modules():
                    if isinstance(part, nn.Conv2d):
                        nn.init.xavier_uniform_(part.weight)

    def forward(self, x: Tensor) -> Any:
        """Classify images, or return their features; see the class."""
        if self.out_indices is not None:
            return self._forward_stages(x)
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the map ``(N, num_features, H', W')`` of the last stage, before the pooling."""
        return self.layers(self.conv0(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits ``(N, num_classes)`` of what :meth:`forward_features` returned.

        Args:
            x: maps ``(N, num_features, H', W')``.
            pre_logits: return what the classifier is given, ``(N, head_hidden_size)``.
        """
        self._check_has_head()
        x = self.pool(x)
        if self.head is not None:
            x = self.head(x)
        x = self.flatten(x)
        if self.drop_rate:
            x = dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.classifier(x)

    def get_classifier(self) -> nn.Module:
        """Return the layer that makes the logits; ``nn.Identity`` with ``num_classes=0``."""
        self._check_has_head()
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Put a classifier with fresh weights in the place of the old one; 0 leaves it out."""
        self._check_has_head()
        _check_classes(num_classes)
        self.num_classes = num_classes
        if num_classes:
            dtype = next(self.parameters()).dtype
            self.classifier = nn.Linear(self.head_hidden_size, num_classes, dtype=dtype)
            _initialise_classifier(self.classifier)
        else:
            self.classifier = nn.Identity()
        self.classifier.train(self.training)

    def _check_has_head(self) -> None:
        if self.out_indices is not None:
            raise ValueError("MobileNet_V4: a model with features_only=True has no classifier")

    def _forward_stages(self, x: Tensor) -> list[Tensor]:
        assert self.out_indices is not None
        outputs = [self.conv0(x)]
        for stage in self.layers:
            outputs.append(stage(outputs[-1]))
        return [outputs[index] for index in self.out_indices]


def _check_classes(num_classes: int) -> None:
    if not is_integer(num_classes, 0):
        raise ValueError(
            f"MobileNet_V4: num_classes must be an integer of at least 0, got {short(num_classes)}"
        )


def _initialise_classifier(layer: nn.Linear) -> None:
    # Small, as in MobileNetV2 and V3: the first loss is then that of a guess.
    nn.init.normal_(layer.weight, 0.0, 0.01)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _read_indices(out_indices: Sequence[int] | None) -> tuple[int, ...]:
    indices = tuple(range(5)) if out_indices is None else tuple(out_indices)
    if not indices or not all(is_integer(index, 0, 5) for index in indices):
        raise ValueError(
            "MobileNet_V4: out_indices must be integers from 0 (conv0) to 5 (the last stage), "
            f"got {out_indices!r}"
        )
    if list(indices) != sorted(set(indices)):
        raise ValueError(f"MobileNet_V4: out_indices must ascend, got {out_indices!r}")
    return indices
