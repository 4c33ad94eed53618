"""Pictures divided among Ray's actors: Ray Data feeds them, holds back, and starts them again."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import shutil
import signal
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

from lucid import kernels
from lucid._check import one_line
from lucid._extras import extra
from lucid.data import Item, Source
from lucid.distributed._picture_model import Outcome, PictureModel, outcomes

# What an actor takes at a time: so many batches, or so many bytes of pictures.
_BATCHES = 4
_MOST_BYTES = 2**25

_RETRIES = 3  # of what an actor was at when it died: a picture that kills it would do so for ever

# Ray's memory for what goes from process to process, in bytes: a few times what is on the way.
_STORE = 2**28

# Ray tells nobody of its use, and prints nothing: an actor's death is mended, or is an exception.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^(A worker died or was killed|Task .* failed. There are)",
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
}


def ray_outcomes(
    model: PictureModel,
    source: Source,
    wanted: Callable[[int], bool],
    workers: int,
    address: str = "",
) -> Generator[Outcome, None, None]:
    """Yield what becomes of each picture that is wanted, in their order.

    One task of Ray reads the source, and so many actors compute, with one thread each and a
    compiled plan of their own.

    Args:
        model: computes the rows.
        source: the pictures.
        wanted: is told a number, and returns whether the picture is wanted.
        workers: how many actors.
        address: of a running cluster; "" starts Ray on this machine, and ends it again. A Ray
            that this process has started or joined before is taken as it is.

    Raises:
        ImportError: if Ray is not installed.
        RuntimeError: if Ray cannot be reached, or fails.
        Exception: what source or model raise, as without Ray.
    """
    folder = os.getcwd()  # paths count from here
    with _running(workers, address) as ray, warnings.catch_warnings():
        # Of Ray about itself; `max_task_retries` has no other place yet.
        warnings.simplefilter("ignore")
        packed = ray.cloudpickle.dumps(model)  # Ray itself would hand out arrays to read only
        settings = ray.data.DataContext.get_current().copy()
        settings.execution_options.preserve_order = True
        settings.target_max_block_size = 1  # a task for each chunk
        settings.enable_progress_bars = False
        with ray.data.DataContext.current(settings):
            chunks = (
                ray.data.from_items([0])
                .map_batches(
                    partial(_read, source, wanted, _BATCHES * model.batch_size, folder),
                    batch_format="pyarrow",
                    num_cpus=0,
                )
                .map_batches(
                    _Actor,
                    fn_constructor_args=(packed, kernels.get_backend(), folder),
                    batch_size=1,
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(size=workers),
                    num_cpus=1,
                    max_task_retries=_RETRIES,
                )
            )
        for table in chunks.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from _unpacked(table)


# -- in Ray's processes ---------------------------------------------------------------------------


def _read(
    source: Source, wanted: Callable[[int], bool], most: int, folder: str, _: Any
) -> Iterator[Any]:
    """Yield the pictures that are wanted in chunks, packed; where it fails the error."""
    chunk: list[tuple[int, Item]] = []
    size = 0
    try:
        os.chdir(folder)
        for number, item in source.numbered(wanted):
            chunk.append((number, item))
            size += len(item.content) if isinstance(item.content, bytes) else 0
            if len(chunk) == most or size >= _MOST_BYTES:
                yield _packed(chunk)
                chunk, size = [], 0
        yield _packed(chunk)
    except Exception as error:
        yield _packed(error)


class _Actor:
    """Computes one chunk after the other."""

    def __init__(self, packed: bytes, backend: str, folder: str) -> None:
        kernels.set_backend(backend)
        kernels.set_num_threads(1)
        self._model: PictureModel = pickle.loads(packed)
        self._folder = folder

    def __call__(self, table: Any) -> Any:
        """Return what became of a chunk, or the error, packed."""
        try:
            os.chdir(self._folder)
            found = outcomes(self._model, _unpacked(table), workers=1)
            return _packed([each._replace(item=each.item._replace(content=b"")) for each in found])
        except Exception as error:
            return _packed(error)


def _packed(chunk: list[Any] | Exception) -> Any:
    """Return a table of one row, which Ray Data does not look into."""
    import pyarrow

    content = pickle.dumps(chunk)
    if isinstance(chunk, Exception):
        try:
            pickle.loads(content)
        except Exception:  # some cannot be made from their message alone
            content = pickle.dumps(RuntimeError(one_line(chunk)))
    return pyarrow.table({"chunk": pyarrow.array([content], pyarrow.binary())})


def _unpacked(table: Any) -> Iterator[Any]:
    """Yield what is in the chunks of a table; raise what is an error."""
    for content in table["chunk"].to_pylist():
        chunk = pickle.loads(content)
        if isinstance(chunk, Exception):
            raise chunk
        yield from chunk


# -- Ray itself -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _running(workers: int, address: str) -> Iterator[Any]:
    """Have Ray run for a while; what was running before goes on running."""
    with _environment(_QUIET):
        ray = extra("ray", "ray", "dividing pictures among workers needs Ray")
        extra("ray.data", "ray", "dividing pictures among workers needs Ray Data")
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)  # it tells every exception twice, with all its calls
    try:
        with contextlib.ExitStack() as stack:
            if not ray.is_initialized():
                _start(ray, workers, address, stack)
            yield ray
    except ray.exceptions.RayActorError as error:
        raise RuntimeError(
            f"an actor of Ray died {_RETRIES + 1} times at the same pictures; if it lacks memory, "
            f"give fewer workers or a smaller batch_size: {one_line(error)}"
        ) from error
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise RuntimeError(f"Ray: {one_line(error)}") from error
    finally:
        log.setLevel(level)


def _start(ray: Any, workers: int, address: str, stack: contextlib.ExitStack) -> None:
    """Start or join Ray until the stack is left."""
    options: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if not address:
        # Ray's sockets are in there, and the path of one has at most 107 characters.
        place = "/tmp" if os.name == "posix" and len(tempfile.gettempdir()) > 30 else None
        folder = tempfile.mkdtemp(prefix="ray-", dir=place)
        stack.callback(_remove, folder)
        options |= {
            "num_cpus": workers,
            "object_store_memory": _STORE,
            "include_dashboard": False,
            "_temp_dir": folder,
        }
    else:
        _check_address(address)
    handler = signal.getsignal(signal.SIGTERM)
    stack.callback(ray.shutdown)
    with _environment(_QUIET), _silent():
        ray.init(address or "local", **options)
    if threading.current_thread() is threading.main_thread():  # where Ray sets its own
        signal.signal(signal.SIGTERM, handler)


def _check_address(address: str) -> None:
    """Raise RuntimeError if nothing answers there, which Ray would take minutes to tell."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), 10).close()
        except (OSError, OverflowError) as error:
            reason = "no answer" if isinstance(error, TimeoutError) else one_line(error)
            raise RuntimeError(f"there is no Ray at {address}: {reason}") from error


def _remove(folder: str) -> None:
    """Remove Ray's folder, into which its last processes may still be writing."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            break
        time.sleep(0.1)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for a while that are not set."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Have standard error lead nowhere for a while: Ray's C++ part tells its log level there."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
