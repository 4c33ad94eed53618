"""Long names in titles break behind a point or an underscore, and not within a word."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx


def with_breaks(body: str) -> str:
    """Return a page whose first title may break where a name has a joint."""
    return re.sub(
        r"<h1>[^<]*", lambda title: re.sub(r"(?<=\w[._])(?=\w)", "<wbr>", title[0]), body, count=1
    )


def change(app: Sphinx, page: str, template: str, context: dict[str, Any], _: Any) -> None:
    """Change the page that is about to be written."""
    if "body" in context:
        context["body"] = with_breaks(context["body"])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the change."""
    app.connect("html-page-context", change)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
