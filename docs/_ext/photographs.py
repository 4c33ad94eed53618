"""``classified-photographs``: what the example network sees in photographs, and where.

Each is drawn by Grad-CAM while the pages are built, with the real weights.
"""

from __future__ import annotations

import html
import importlib.util
from pathlib import Path
from typing import Any

from docutils import nodes
from figures import Generated
from sphinx.application import Sphinx

from lucid import visual

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "efficientnet_lite0.py"
WIDTH = 480


def load_example() -> Any:
    """Return the module of the example, which is no part of a package."""
    spec = importlib.util.spec_from_file_location(EXAMPLE.stem, EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ClassifiedPhotographs(Generated):
    """``classified-photographs``."""

    def content_nodes(self) -> list[nodes.Node]:
        """Return each photograph beside its heat map, with the likeliest classes."""
        example = load_example()
        model = example.pretrained()
        folder = Path(self.env.app.outdir) / "_images"
        folder.mkdir(parents=True, exist_ok=True)
        up = "../" * self.env.docname.count("/")
        figures = []
        for name, picture in example.photographs().items():
            seen = visual.gradcam(model, picture)
            found = ", ".join(
                f"{label} {chance:.3f}" for label, chance in example.classify(model, picture)
            )
            for kind, image in (("seen", picture), ("heat", seen.overlay())):
                image.thumbnail((WIDTH, WIDTH))
                image.save(folder / f"photograph-{name}-{kind}.jpg", quality=85)
            images = "".join(
                f'<img src="{up}_images/photograph-{name}-{kind}.jpg" alt="{alt}" loading="lazy">'
                for kind, alt in (("seen", name), ("heat", f"Grad-CAM of {name}"))
            )
            caption = f"<figcaption><b>{name}</b>: {html.escape(found)}</figcaption>"
            figures.append(f"<figure>{images}{caption}</figure>")
        return self.html(f'<div class="photographs">{"".join(figures)}</div>')


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("classified-photographs", ClassifiedPhotographs)
    return {"parallel_read_safe": True}
