"""How a rank begins: it joins the others and takes its part of the machine's processors."""

from __future__ import annotations

import os
from typing import Any

from lucid import _ranks
from lucid.distributed import _watch
from lucid.kernels import set_num_threads
from lucid.kernels._processors import processors


def init(comm: Any = None) -> None:
    """Join the ranks that ``mpiexec`` or ``srun`` started, and share the processors among them.

    Call it first in a script that ``mpiexec -n 4 python script.py`` starts. Without a launcher
    nothing happens: there is one rank, and all of :mod:`lucid.distributed` is the identity. Each
    rank computes with its part of its machine's processors, unless ``OMP_NUM_THREADS`` is set.
    A second call changes nothing.

    Args:
        comm: mpi4py's communicator of the ranks to join; ``MPI.COMM_WORLD`` by default.

    Raises:
        ImportError: if a launcher started several processes and mpi4py is not installed.
        RuntimeError: if the launcher started several processes, but MPI knows of one only.

    Example:
        >>> distributed.init()
        >>> distributed.rank(), distributed.size()
        (0, 1)
    """
    if _ranks.is_initialized():
        return
    _ranks.init(comm)
    _watch.start()
    if _ranks.is_initialized() and "OMP_NUM_THREADS" not in os.environ:
        set_num_threads(_threads())


def _threads() -> int:
    """Return this rank's part of the processors: one that several ranks may use counts less."""
    mine = processors()
    others = _ranks.all_gather(mine, local=True)
    return max(1, int(sum(1 / sum(one in other for other in others) for one in mine) + 1e-9))
