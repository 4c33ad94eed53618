"""Models by name."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable
from typing import Any, TypeVar

from lucid import nn

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


def _canonical(name: str) -> str:
    """Return lucid's spelling of a model's name: timm writes ``mobilenetv4``."""
    return name.replace("mobilenetv4_", "mobilenet_v4_", 1)


def list_models(filter: str = "") -> list[str]:
    """Return the names of the models, sorted.

    Args:
        filter: only names that contain this text, or match it as a pattern with ``*`` and ``?``.

    Example:
        >>> models.list_models("hybrid")
        ['mobilenet_v4_hybrid_large', 'mobilenet_v4_hybrid_medium']
        >>> len(models.list_models())
        5
    """
    pattern = filter if any(sign in filter for sign in "*?[") else f"*{filter}*"
    return sorted(name for name in _factories if fnmatch.fnmatchcase(name, _canonical(pattern)))


def create_model(name: str, **kwargs: Any) -> nn.Module:
    """Build a model by its name.

    Args:
        name: one of :func:`list_models`; timm's spelling (``mobilenetv4_conv_small``) works too.
        **kwargs: passed to the model's function: ``num_classes``, ``in_channels``, …

    Raises:
        ValueError: if there is no model of that name; the message names the closest.

    Example:
        >>> models.create_model("mobilenet_v4_conv_small", num_classes=10).num_features
        1280
        >>> models.create_model("mobilenet_v4_small")
        Traceback (most recent call last):
        ValueError: create_model: there is no model 'mobilenet_v4_small'; did you mean ...
    """
    key = _canonical(name) if isinstance(name, str) else name
    if key not in _factories:
        close = difflib.get_close_matches(str(key), _factories, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"create_model: there is no model {name!r}{hint} Known are {', '.join(list_models())}"
        )
    return _factories[key](**kwargs)
