"""The page of digits to draw: its network, and onnxruntime-web to run it, in one script.

What makes the network is ``examples/draw_digits.py``.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import onnx
from page_scripts import add_page
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


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the page."""
    return add_page(app, "digits", SCRIPTS, "LUCID_DIGITS", digits_data)
