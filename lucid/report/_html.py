"""HTML and SVG as text in which whatever comes from files is escaped."""

from __future__ import annotations

import html
import math
from typing import Any

from lucid._check import printable


class Markup(str):
    """A text that is HTML: it goes into other HTML as it is, other texts are escaped."""

    __slots__ = ()


Content = str | int | Markup | None


def tag(name: str, /, *content: Content, **attributes: Any) -> Markup:
    """Return an element with what is in it.

    Args:
        name: of the element.
        content: texts, which are escaped, and :class:`Markup`, which is not; None is left out.
        attributes: ``class_`` stands for ``class``, ``data_value`` for ``data-value``; those that
            are None or False are left out, and of those that are True there is the name alone.
    """
    shown = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escaped(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in ("img", "meta"):
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{join(*content)}</{name}>")


def join(*content: Content) -> Markup:
    """Return one thing after the other."""
    parts = (part for part in content if part is not None)
    return Markup("".join(part if isinstance(part, Markup) else escaped(part) for part in parts))


def escaped(value: Any) -> str:
    """Return a value as text for HTML."""
    return html.escape(printable(str(value)))


def number(value: float | None, text: str) -> Markup:
    """Return a number as it is shown, with its exact value for programs; a dash for none."""
    if value is None or math.isnan(value):
        return Markup("–")
    return tag("data", text, value=repr(value))


def percent(share: float | None, digits: int = 1) -> Markup:
    """Return a share as a percentage."""
    return number(share, "" if share is None else f"{100 * share:.{digits}f} %")


def table(head: list[Content], rows: list[list[Content]], class_: str = "") -> Markup:
    """Return a table whose rows begin with a name; it scrolls sideways where it does not fit."""
    columns = tag("tr", *(tag("th", cell, scope="col") for cell in head))
    body = [
        tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in rest))
        for first, *rest in rows
    ]
    content = (tag("thead", columns), tag("tbody", *body))
    return tag("div", tag("table", *content, class_=class_ or None), class_="scroll", tabindex="0")
