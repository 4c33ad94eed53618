"""Writes the page's files into a folder, with those of onnxruntime-web."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lucid._files import atomic_path

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
# Of the package's archive, as the npm registry has it.
SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
# What a page needs of it: WebAssembly without threads works from any plain server.
RUNTIME = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")

_STATIC = Path(__file__).parent / "static"


def write_page(
    model: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    description: Mapping[str, Any],
    *,
    runtime: str | os.PathLike[str] | None = None,
) -> list[Path]:
    """Write a page that classifies pictures with a model, all of whose files lie in one folder.

    Args:
        model: an ONNX file whose result is logits.
        folder: where the page goes; it is made if it is missing, and files of these names are
            replaced.
        description: ``name``, ``channels``, ``size`` (height and width), ``mean`` and ``std`` (of
            pixels between 0 and 1), ``crop_pct`` and ``classes`` (names, or None).
        runtime: a folder with onnxruntime-web's files; by default it is fetched by npm once, and
            kept in the user's cache.

    Returns:
        The files.

    Raises:
        FileNotFoundError: if onnxruntime-web's files are not to be had.
    """
    source = find_runtime(runtime)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    copies = [source / name for name in RUNTIME] + sorted(_STATIC.iterdir())
    written = []
    for path, name in [*((path, path.name) for path in copies), (Path(model), "model.onnx")]:
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(path, temporary)
        written.append(folder / name)
    with atomic_path(folder / "model.json") as temporary:
        temporary.write_text(json.dumps(dict(description)), encoding="utf-8")
    return [*written, folder / "model.json"]


def find_runtime(folder: str | os.PathLike[str] | None = None) -> Path:
    """Return a folder with onnxruntime-web's files: the one given, the cache, or fetched by npm.

    Raises:
        FileNotFoundError: if they are not there, or npm is not or cannot fetch them.
        ValueError: if npm fetched another archive than this version's.
    """
    if folder is not None:
        missing = [name for name in RUNTIME if not (Path(folder) / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder} has no {missing[0]}, a file of {PACKAGE}")
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(base) / "lucid" / f"{PACKAGE}-{VERSION}"
    if not all((cache / name).is_file() for name in RUNTIME):
        _fetch(cache)
    return cache


def _fetch(cache: Path) -> None:
    npm = shutil.which("npm")
    hint = (
        f"fetch it by `npm pack {PACKAGE}@{VERSION}`, unpack it, and name its folder package/dist "
        "(--runtime)"
    )
    if npm is None:
        raise FileNotFoundError(f"{PACKAGE} {VERSION} is needed, and npm is not installed: {hint}")
    with tempfile.TemporaryDirectory() as name:
        try:
            subprocess.run(
                [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"],
                cwd=name, check=True, capture_output=True, timeout=600,
            )  # fmt: skip
        except (subprocess.SubprocessError, OSError) as error:
            raise FileNotFoundError(
                f"{PACKAGE} {VERSION} is needed, and npm cannot fetch it: {hint}"
            ) from error
        archive = Path(name) / f"{PACKAGE}-{VERSION}.tgz"
        if hashlib.sha512(archive.read_bytes()).hexdigest() != SHA512:
            raise ValueError(f"what npm fetched as {PACKAGE} {VERSION} is another archive: {hint}")
        cache.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as tar:
            for wanted in RUNTIME:
                member = tar.extractfile(f"package/dist/{wanted}")
                assert member is not None  # by the sum
                with atomic_path(cache / wanted) as temporary:
                    temporary.write_bytes(member.read())
