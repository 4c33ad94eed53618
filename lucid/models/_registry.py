"""Models by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lucid import nn
from lucid._check import nearest
from lucid.models._published import described, list_pretrained, matches, tags

Factory = TypeVar("Factory", bound=Callable[..., nn.Module])

_factories: dict[str, Callable[..., nn.Module]] = {}


def register(factory: Factory) -> Factory:
    """Make a function that builds a model known under its name; usable as a decorator.

    Args:
        factory: a function with ``num_classes`` and further keywords that returns a module.

    Raises:
        ValueError: if the name is taken by another function.
    """
    name = factory.__name__
    if name in _factories and _factories[name] is not factory:
        raise ValueError(f"register: there is a model {name!r} already")
    _factories[name] = factory
    return factory


def list_models(filter: str = "", *, pretrained: bool = False) -> list[str]:
    """Return the names of the models, sorted.

    timm's names (``mobilenetv4_…``) build what the authors released, and what the published
    weights are of. lucid's own (``mobilenet_v4_…``) build the form of its documentation page: ReLU6
    everywhere, and the last convolution before the pooling.

    Args:
        filter: only names that contain this text, or match it as a pattern with ``*`` and ``?``.
        pretrained: the models with published weights instead, as timm names them: a name for each
            checkpoint, ``architecture.tag``. :func:`list_pretrained` tells more of them.

    Example:
        >>> models.list_models("mobilenetv4_*blur*")
        ['mobilenetv4_conv_blur_medium']
        >>> models.list_models("*hybrid_large*", pretrained=True)[0]
        'mobilenetv4_hybrid_large.e600_r384_in1k'
    """
    if pretrained:
        return sorted(entry.name for entry in list_pretrained(filter))
    return sorted(name for name in _factories if matches(name, filter))


class UnknownModelError(ValueError):
    """There is no model of a name, or weights do not tell which model they are of."""


def check_name(name: str, names: Sequence[str] | None = None) -> str:
    """Return ``name`` if it is one of ``names``, or of all models; else raise with the closest."""
    names = list_models() if names is None else names
    if name in names:
        return name
    close = nearest(name, names, 3, 0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "`lucid models` lists them all"
    raise UnknownModelError(f"there is no model {name!r}; {hint}")


def create_model(name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build a model by its name.

    Args:
        name: one of :func:`list_models`. A tag may follow, as timm writes it: the model of
            ``"mobilenetv4_conv_small.e2400_r224_in1k"`` has the number of classes of these weights,
            and their description as its ``default_cfg``.
        pretrained: load the weights that the tag names, or the recommended ones.
        **kwargs: passed to the model's function: ``num_classes``, ``in_channels`` (``in_chans`` to
            timm's users), ``weights``, …

    Raises:
        TypeError: if the model does not take an argument; the message names the closest.
        ValueError: if there is no model of that name; the message names the closest.

    Example:
        >>> models.create_model("mobilenetv4_conv_small", num_classes=10).head_hidden_size
        1280
        >>> models.create_model("mobilenet_v4_small")
        Traceback (most recent call last):
        ValueError: create_model: there is no model 'mobilenet_v4_small'; did you mean ...
    """
    key, _, tag = name.partition(".") if isinstance(name, str) else (name, "", "")
    if key not in _factories:
        close = nearest(key, _factories)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(list_models())}"
        raise ValueError(f"create_model: there is no model {name!r}; {hint}")
    entry = described(key, tag) if tag else None
    if tag and entry is None:
        known = ", ".join(tags(key)) or "none"
        raise ValueError(f"create_model: {key} has no weights with the tag {tag!r}; it has {known}")
    if entry is None:
        return _factories[key](**({"pretrained": True} if pretrained else {}), **kwargs)
    if pretrained:
        return _factories[key](weights=tag, **kwargs)
    model = _factories[key](**{"num_classes": entry.num_classes, **kwargs})
    model.default_cfg = entry.default_cfg()
    return model
