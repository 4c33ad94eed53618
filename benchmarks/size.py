"""What an installation weighs: lucid beside ONNX Runtime and PyTorch, each in a fresh environment.

    python -m benchmarks.size

Each is installed by pip, with all that it requires, into a virtual environment that holds nothing
else, not even pip; its size is the sum of the files that came in. README.md tells how to read it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._machine import available_processors, describe
from benchmarks._report import OUTPUT, write_json

ROOT = Path(__file__).resolve().parents[1]
#: Name -> what pip is told to install; lucid is this checkout.
INSTALLATIONS = {
    "lucid": ["."],
    "lucid[fast]": [".[fast]"],
    "onnxruntime": ["onnxruntime"],
    "torch and timm": ["torch==2.13.0", "timm==1.0.31"],
}


def install(requirements: Sequence[str], folder: Path) -> Path:
    """Make an environment in ``folder``, install into it, and return where the packages lie."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *requirements]
    # pip builds lucid's wheel: not in this checkout, where an earlier build's files would come in.
    built = folder.with_name("built.cfg")
    built.write_text(f"[build]\nbuild_base = {folder.with_name('build')}\n", "utf-8")
    environment = {**os.environ, "DIST_EXTRA_CONFIG": str(built)}
    subprocess.run(pip, check=True, cwd=ROOT, env=environment)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return Path(found.stdout.strip())


def installed(packages: Path) -> dict[str, str]:
    """Return the version of each distribution, as its metadata tell."""
    names = [path.stem.rpartition("-") for path in packages.glob("*.dist-info")]
    return {name: version for name, _, version in sorted(names, key=lambda parts: parts[0].lower())}


def size(folder: Path) -> int:
    """Return the sum of all files' bytes, compiled bytecode included."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.size", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--only", nargs="+", choices=INSTALLATIONS, default=list(INSTALLATIONS))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args(argv)
    rows: dict[str, Any] = {}
    for name in args.only:
        with tempfile.TemporaryDirectory() as temporary:
            packages = install(INSTALLATIONS[name], Path(temporary) / "environment")
            rows[name] = {"bytes": size(packages), "packages": installed(packages)}
        print(f"{name:16}{rows[name]['bytes'] / 1e6:9.1f} MB", flush=True)
    result = {"machine": describe(available_processors()), "rows": rows}
    write_json(result, args.output / "size.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
