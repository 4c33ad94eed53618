"""The state of a quantised model in integers, and a model from that."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from lucid import nn
from lucid.autograd import Tensor
from lucid.autograd._tensor import wrap
from lucid.quantization._fake_quantize import BIAS_RANGE, WEIGHT_RANGE, integers
from lucid.quantization._layers import is_quantizable, quantized_class, quantized_layers

_MARK = ".weight_scale"


def integer_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a quantised model with int8 weights and int32 biases, for a file.

    A file of it is about a quarter as large as one of the model in floating point; :func:`restore`
    makes the model again.

    Args:
        model: what :func:`lucid.quantize` returned.
    """
    state = dict(model.state_dict())
    for name, layer in quantized_layers(model):
        scale = layer.weight_scale.data
        axis = 0 if scale.ndim else None
        zeros = np.zeros(scale.shape, np.int8)
        weight = integers(layer.weight.data, scale, zeros, axis, *WEIGHT_RANGE)
        state[f"{name}.weight".lstrip(".")] = wrap(weight)
        if layer.bias is not None:
            steps, zeros = layer.bias_scale, np.zeros(scale.shape, np.int32)
            bias = integers(layer.bias.data, steps, zeros, axis, *BIAS_RANGE)
            state[f"{name}.bias".lstrip(".")] = wrap(bias)
    return state


def restore(model: nn.Module, state: Mapping[str, Any]) -> nn.Module:
    """Return the quantised copy of a model that :func:`integer_state` was taken of.

    Args:
        model: the model in floating point, with whatever weights; it is not changed.
        state: by name, as :func:`lucid.load` reads it.

    Raises:
        ValueError: if the state is none of a quantised model, or of another model.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 2))
        >>> small = lucid.quantize(model, [lucid.randn(8, 4)])
        >>> lucid.save(quantization.integer_state(small), "small.npz")
        >>> again = quantization.restore(nn.Sequential(nn.Linear(4, 2)), lucid.load("small.npz"))
        >>> x = lucid.randn(1, 4)
        >>> lucid.equal(small(x), again(x))
        True
    """
    paths = [name.removesuffix(_MARK) for name in state if name.endswith(_MARK)]
    if not paths:
        raise ValueError("restore: the state is none of a quantised model: no entry weight_scale")
    model = copy.deepcopy(model).eval()
    modules = dict(model.named_modules(remove_duplicate=False))
    for path, module in modules.items():
        norm = isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))
        if norm and f"{path}.running_mean" not in state:  # folded
            parent, _, name = path.rpartition(".")
            setattr(modules[parent], name, nn.Identity())
    floats: dict[str, Tensor] = {
        name: entry if isinstance(entry, Tensor) else wrap(np.asarray(entry))
        for name, entry in state.items()
    }
    for path in paths:
        layer: Any = modules.get(path)
        if layer is None or not is_quantizable(layer):
            raise ValueError(f"restore: the state has a layer {path!r}, the model has none there")
        kind: Any = type(layer)
        layer.__class__ = quantized_class(kind)
        scale = floats[f"{path}{_MARK}"].data
        layer.prepare(scale.ndim > 0, f"{path}.output_quantizer.scale" in state)
        weight, bias = f"{path}.weight", f"{path}.bias"
        factors = scale.reshape(-1, *[1] * (layer.weight.ndim - 1)) if scale.ndim else scale
        floats[weight] = wrap(floats[weight].data * factors)
        if bias in floats:
            steps = floats[f"{path}.input_quantizer.scale"].data * scale
            floats[bias] = wrap(floats[bias].data.astype(np.float64) * steps)
            if layer.bias is None:
                layer.bias = nn.Parameter(wrap(np.zeros(len(layer.weight), layer.weight.dtype)))
    model.load_state_dict(floats)
    return model
