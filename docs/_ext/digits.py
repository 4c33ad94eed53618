"""The page of digits to draw: its network, and onnxruntime-web to run it, in one script.

All is in a script that sets one variable, because a page opened from a disk may load scripts but
not read files. What makes the network is ``examples/draw_digits.py``.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import onnx
from docutils import nodes
from sphinx.application import Sphinx

STATIC = Path(__file__).resolve().parents[1] / "_static"
MODEL = STATIC / "digits" / "digits.onnx"
VENDOR = STATIC / "vendor"
SCRIPTS = ("vendor/ort.wasm.min.js", "digits/data.js", "digits/page.js")


def digits_data() -> dict[str, Any]:
    """Return the files, in base64, and what the network says of its images and classes."""
    known = {entry.key: json.loads(entry.value) for entry in onnx.load(MODEL).metadata_props}
    files = {
        "model": MODEL,
        "glue": VENDOR / "ort-wasm-simd-threaded.mjs",
        "wasm": VENDOR / "ort-wasm-simd-threaded.wasm.gz",
    }
    texts = {name: base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
    return {key: known[f"lucid.{key}"] for key in ("classes", "mean", "std")} | texts


def write_data(app: Sphinx) -> None:
    """Write ``data.js`` beside the page's other script."""
    folder = Path(app.outdir) / "_static" / "digits"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(digits_data(), separators=(",", ":"))
    (folder / "data.js").write_text(f"var LUCID_DIGITS = {text};\n", encoding="utf-8")


def add_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load the scripts on the page that says ``digits`` in its metadata."""
    if "digits" in app.env.metadata.get(page, {}):
        for script in SCRIPTS:
            app.add_js_file(script, loading_method="defer", priority=600)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register both."""
    app.connect("builder-inited", write_data)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True}
