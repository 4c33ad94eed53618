"""What is kept on disk from process to process: machine code, and what the processor has.

An entry is a file, behind a digest of its content and of all that it depends on: the sources of the
kernels, Python, llvmlite, and the processor. So what was damaged, or made by another version or for
another machine, is not taken for what it is not. Each kind of processor has files of its own.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

_KERNELS = Path(__file__).parents[2]
_DIGEST = hashlib.sha256().digest_size


def load(name: str) -> bytes | None:
    """Return what was saved under a name, or None if no folder has it whole."""
    for folder in _folders():
        try:
            content = _path(folder, name).read_bytes()
        except OSError:
            continue
        if content[:_DIGEST] == _digest(name, content[_DIGEST:]):
            return content[_DIGEST:]
    return None


def save(name: str, data: bytes) -> None:
    """Replace what is kept under a name; several processes may do it at once.

    Where it cannot be written, a warning says so, once.
    """
    try:
        path = _path(_made_folder(), name)
        temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}.tmp")
        try:
            temporary.write_bytes(_digest(name, data) + data)
            if path.is_dir():
                path.rmdir()
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        _warn(str(error))


def folder() -> Path | None:
    """Return the folder that is written to; None, and a warning, if there is none."""
    try:
        return _made_folder()
    except OSError as error:
        _warn(str(error))
        return None


def _folders() -> Iterator[Path]:
    """Yield where entries may lie: beside the kernels, or in the user's folder for such files."""
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(given) / "lucid"
        return
    yield _KERNELS / "numba" / "__pycache__"
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lucid" / "kernels"


@functools.cache
def _made_folder() -> Path:
    """Return the first folder that can be written to."""
    reason = OSError("there is no folder for them")
    for path in _folders():
        try:
            path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path).close()
            return path
        except OSError as error:
            reason = error
    raise reason


_warned: list[str] = []


def _warn(reason: str) -> None:
    if _warned:
        return
    _warned.append(reason)
    warnings.warn(
        "the fast kernels are compiled at every start, some seconds each, as they cannot be kept "
        f"({reason}); NUMBA_CACHE_DIR names a folder for them",
        RuntimeWarning,
        stacklevel=2,
    )


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.{_processor()[:8]}.lucid"


def _digest(name: str, data: bytes) -> bytes:
    return hashlib.sha256(f"{name} {_processor()} {_versions()} ".encode() + data).digest()


# What Linux tells of a processor that says which instructions it has; the rest, such as its clock,
# is not the same at every start.
_TELLING = (
    "vendor_id", "cpu family", "model", "model name", "stepping", "flags",
    "Features", "CPU implementer", "CPU architecture", "CPU variant", "CPU part",
)  # fmt: skip


@functools.cache
def _processor() -> str:
    """Return a digest of what machine code for this process is made for."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first, _, _ = file.read(1 << 14).partition("\n\n")
    except OSError:  # no Linux: there, LLVM is loaded in any case
        from lucid.kernels.numba.machine._compile import features

        first = f"model : {features()}"
    told = [line for line in first.splitlines() if line.split(":")[0].strip() in _TELLING]
    named = [os.environ.get(f"NUMBA_CPU_{what}") for what in ("NAME", "FEATURES")]
    told += [sys.platform, platform.machine(), sys.byteorder, str(sys.maxsize), str(named)]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


@functools.cache
def _versions() -> str:
    """Return a digest of the kernels' sources, and of the version of what compiles them."""
    digest, paths = hashlib.sha256(sys.version.encode()), sorted(_KERNELS.rglob("*.py"))
    spec = importlib.util.find_spec("llvmlite")
    if spec is not None and spec.origin is not None:
        paths.append(Path(spec.origin).with_name("_version.py"))
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
