"""Building the site once for all tests, and serving it on this machine."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ["-W", "--keep-going", "-q"]


def extension(name: str) -> ModuleType:
    """Import a file of docs/_ext; skip the caller's module where there are no sources."""
    path = ROOT / "docs" / "_ext" / f"{name}.py"
    if not path.is_file():
        pytest.skip("not run from a source checkout", allow_module_level=True)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # where its neighbours are
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def build(folder: Path) -> Path:
    """Build the site into ``folder`` with the documented command; warnings are errors."""
    html = folder / "html"
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *COMMAND, "-d", folder / "trees", ROOT / "docs", html],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, f"the site does not build:\n{done.stdout}{done.stderr}"
    return html


def build_once(shared: Path) -> Path:
    """Build into a folder that the test processes share; the first one builds, the others wait."""
    shared.mkdir(parents=True, exist_ok=True)
    done, failed = shared / "done", shared / "failed"
    try:
        (shared / "begun").touch(exist_ok=False)
    except FileExistsError:
        while not done.exists():
            assert not failed.exists(), "the site does not build; another test process says why"
            time.sleep(0.5)
        return shared / "html"
    try:
        html = build(shared)
    except BaseException:
        failed.touch()
        raise
    done.touch()
    return html


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(html: Path) -> Iterator[str]:
    """Serve a folder on a free port of this machine; yield its address."""
    handler = functools.partial(_Quiet, directory=str(html))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
