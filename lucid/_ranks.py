"""The ranks: processes that an MPI launcher started together, and what they exchange.

Before :func:`init`, and without a launcher, there is one rank and every exchange is the identity.
"""

from __future__ import annotations

import os
import platform
import sys
from typing import Any, TypeVar

import numpy as np

from lucid._check import one_of
from lucid._extras import extra, install

T = TypeVar("T")

# How launchers tell a process how many there are: Hydra's and Cray's, Open MPI's, Slurm's srun.
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")

# Whatever else starts an MPI process names its rank only.
_RANKS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")

_OPERATIONS = {"sum": "SUM", "mean": "SUM", "max": "MAX", "min": "MIN"}

_world: Any = None  # mpi4py's communicator of all ranks; None before init() and for one rank
_local: Any = None  # of those on this machine


def launched() -> int | None:
    """Return how many processes the launcher says it started; None if there is no launcher.

    0 means that it does not say.
    """
    for name in _SIZES:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return 0 if any(name in os.environ for name in _RANKS) else None


def is_launchers(name: str) -> bool:
    """Return whether a launcher tells its processes something by this variable."""
    return name in _SIZES or name.startswith(("PMI_", "PMIX_", "OMPI_"))


def init(comm: Any = None) -> None:
    """Join the ranks that the launcher started; without a launcher there is one rank.

    A second call changes nothing. mpi4py is imported only if a launcher started several processes.

    Args:
        comm: mpi4py's communicator of the ranks to join; all of ``MPI.COMM_WORLD`` by default.

    Raises:
        ImportError: if a launcher started several processes and mpi4py is not installed.
        RuntimeError: if the launcher started several processes, but MPI knows of one only.
    """
    global _world, _local
    if _world is not None:
        return
    processes = launched()
    if comm is None:
        if processes is None or processes == 1:
            return
        library = mpi()
        comm = library.COMM_WORLD
        if comm.Get_size() == 1 and processes > 1:
            raise RuntimeError(
                f"init: the launcher started {processes} processes, but MPI knows of 1: "
                f"{library.Get_library_version().splitlines()[0].strip()} does not belong to the "
                "launcher; use the mpiexec that came with it, or srun --mpi=pmi2"
            )
    if comm.Get_size() > 1:
        # Duplicates: no message of the user's own can be taken for one of these.
        _world = comm.Dup()
        _local = _world.Split_type(mpi().COMM_TYPE_SHARED)


def mpi() -> Any:
    """Return the module ``mpi4py.MPI``; importing it starts MPI, which ends with the process."""
    rc = extra("mpi4py", "mpi", "several ranks need mpi4py").rc
    if "mpi4py.MPI" not in sys.modules:
        rc.thread_level = "multiple"
    try:
        return extra("mpi4py.MPI", "mpi", "several ranks need mpi4py")
    except RuntimeError as error:  # mpi4py's own: a line for each place where it looked
        raise ImportError(
            f"several ranks need an MPI library, and mpi4py finds none: {install('mpi')}, or load "
            "the one of this machine"
        ) from error


def communicator() -> Any:
    """Return mpi4py's communicator of all ranks, or None if there is one rank."""
    return _world


def is_initialized() -> bool:
    """Return whether :func:`init` has joined several ranks."""
    return _world is not None


def rank() -> int:
    """Return the number of this rank, from 0."""
    return 0 if _world is None else int(_world.Get_rank())


def size() -> int:
    """Return the number of ranks."""
    return 1 if _world is None else int(_world.Get_size())


def local_rank() -> int:
    """Return the number of this rank among those of its machine, from 0."""
    return 0 if _local is None else int(_local.Get_rank())


def local_size() -> int:
    """Return the number of ranks on this machine."""
    return 1 if _local is None else int(_local.Get_size())


def _plain(x: Any) -> Any:
    """Return the array of a tensor; anything else as it is."""
    return x.data if hasattr(x, "requires_grad") else x


def _array(x: Any, who: str) -> np.ndarray:
    """Return the numbers of an argument as a new C-contiguous array that MPI can send."""
    array = np.array(_plain(x), order="C")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{who}: expected numbers, got {type(x).__name__} of dtype {array.dtype}")
    return array


def _like(x: Any, array: np.ndarray) -> Any:
    """Return ``array`` as what ``x`` is: a tensor, an array or a Python number."""
    if hasattr(x, "requires_grad"):
        return type(x)(array, dtype=array.dtype)
    return array if isinstance(x, (np.ndarray, np.generic)) else array.tolist()


def all_reduce(x: T, op: str = "sum") -> T:
    """Return the sum, mean, maximum or minimum of all ranks' values, the same on each.

    All ranks have to call it, with values of the same shape and dtype. (PyTorch's changes its
    argument; this one returns a new value.)

    Args:
        x: an array, a tensor or a number; one rank gets the argument itself back.
        op: ``"sum"``, ``"mean"``, ``"max"`` or ``"min"``; a mean of integers is in float64.

    Raises:
        TypeError: if ``x`` does not hold numbers.
        ValueError: if there is no such ``op``.

    Example:
        >>> distributed.all_reduce(3.0)  # of one rank
        3.0
    """
    one_of(op, tuple(_OPERATIONS), "op", "all_reduce")
    array = _array(x, "all_reduce")
    if _world is None:
        return x
    dtype = np.dtype(np.float64 if op == "mean" and array.dtype.kind in "iu" else array.dtype)
    # MPI does not know float16.
    array = array.astype(np.float32 if dtype == np.float16 else dtype, copy=False)
    library = mpi()
    _world.Allreduce(library.IN_PLACE, array, getattr(library, _OPERATIONS[op]))
    if op == "mean":
        array /= array.dtype.type(size())
    return _like(x, array.astype(dtype, copy=False))


def broadcast(x: T, root: int = 0) -> T:
    """Return the value that rank ``root`` has: an array, a tensor, or any Python object.

    All ranks have to call it; what the others pass is not looked at.

    Args:
        x: one rank gets the argument itself back.
        root: the rank whose value all get.

    Raises:
        ValueError: if there is no such rank.

    Example:
        >>> distributed.broadcast({"seed": 7})  # of one rank
        {'seed': 7}
    """
    check_root(root, "broadcast")
    if _world is None:
        return x
    array = _plain(x)
    header = None
    if rank() == root and isinstance(array, np.ndarray) and array.dtype.kind in "biuf":
        header = array.shape, array.dtype, type(x)
    header = _world.bcast(header, root)
    if header is None:
        return _world.bcast(x, root)
    shape, dtype, kind = header
    buffer: Any = np.array(array, order="C") if rank() == root else np.empty(shape, dtype)
    broadcast_bytes(buffer, root)
    value: T = buffer if issubclass(kind, np.ndarray) else kind(buffer, dtype=dtype)
    return value


def broadcast_bytes(buffer: np.ndarray, root: int = 0) -> None:
    """Overwrite a C-contiguous array with that of rank ``root``, of the same shape and dtype."""
    if _world is not None and buffer.size:
        flat = buffer.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, 1 << 30):  # MPI counts in 32 bits
            _world.Bcast(flat[start : start + (1 << 30)], root)


def check_root(root: int, who: str) -> None:
    """Raise ValueError if there is no rank ``root``."""
    if not 0 <= root < size():
        raise ValueError(f"{who}: expected a root from 0 to {size() - 1}, got {root}")


def gather(value: T, root: int = 0) -> list[T] | None:
    """Return the Python objects of all ranks, in their order, on rank ``root``; None on others.

    Args:
        value: this rank's; anything that can be pickled.
        root: the rank that gets them.
    """
    check_root(root, "gather")
    return [value] if _world is None else _world.gather(value, root)


def all_gather(value: T, local: bool = False) -> list[T]:
    """Return the Python objects of all ranks, in their order, on every rank.

    Args:
        value: this rank's; anything that can be pickled.
        local: of the ranks of this machine alone.
    """
    comm = _local if local else _world
    return [value] if comm is None else comm.allgather(value)


def barrier() -> None:
    """Wait until all ranks are here."""
    if _world is not None:
        _world.Barrier()


def abort(message: str, status: int = 1) -> None:
    """Print ``rank 1 of 4 (host): message`` and end all ranks at once with ``status``.

    One rank alone prints the message and ends likewise.

    Args:
        message: what went wrong, in one line.
        status: what the processes end with.
    """
    where = f"rank {rank()} of {size()} ({platform.node()}): " if _world is not None else ""
    print(f"{where}{message}", file=sys.stderr, flush=True)
    if _world is not None:
        _world.Abort(status)
    raise SystemExit(status)
