"""The communicator: exchanges between ranks, and the identity where there is one."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import lucid
from lucid import _ranks, distributed
from lucid._extras import install
from tests.distributed.launch import ENDED, check_ranks, run_ranks

_LAUNCHERS = {"PMI_SIZE", "PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"}


@pytest.mark.parametrize("ranks", [2, 3])
def test_exchanges(ranks: int) -> None:
    assert check_ranks(ranks, "tests/distributed/ranks.py") == f"{ranks} ranks, 1 threads\n"


def test_ranks_divide_the_processors() -> None:
    code = (
        "import os, lucid; from lucid import distributed as d\n"
        "del os.environ['OMP_NUM_THREADS']; d.init()\n"
        "print(lucid.get_num_threads(), flush=True)"
    )
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert check_ranks(2, "-c", code).split() == [str(threads)] * 2


def test_one_rank_is_the_identity() -> None:
    distributed.init()
    assert (distributed.rank(), distributed.size()) == (0, 1)
    assert (distributed.local_rank(), distributed.local_size()) == (0, 1)
    assert not distributed.is_initialized()
    tensor, array = lucid.ones(2), np.ones(2)
    for value in (tensor, array, 3, 2.5):
        assert distributed.all_reduce(value) is value
        assert distributed.broadcast(value) is value
        assert distributed.gather(value) == [value] == distributed.all_gather(value)
    distributed.barrier()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"all_reduce: op must be one of .*, got 'median'"):
        distributed.all_reduce(1.0, "median")
    with pytest.raises(TypeError, match=r"all_reduce: expected numbers, got str of dtype <U1"):
        distributed.all_reduce("a")
    with pytest.raises(ValueError, match=r"broadcast: expected a root from 0 to 0, got 1"):
        distributed.broadcast(1.0, root=1)


def _init(**environment: str) -> subprocess.CompletedProcess[str]:
    """Call init() where mpi4py is not installed."""
    code = "import sys; sys.modules['mpi4py'] = None\nfrom lucid import distributed as d; d.init()"
    kept = {name: value for name, value in os.environ.items() if name not in _LAUNCHERS}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**kept, **environment}
    )


@pytest.mark.parametrize(
    "environment", [{}, {"PMI_SIZE": "1"}, {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}]
)
def test_mpi4py_is_not_needed_by_one_rank(environment: dict[str, str]) -> None:
    done = _init(**environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {"PMI_SIZE": "2", "PMI_RANK": "0"},
        {"PMIX_RANK": "0"},
        {"OMPI_COMM_WORLD_SIZE": "4"},
        {"SLURM_STEP_NUM_TASKS": "2"},
    ],
)
def test_missing_mpi4py_is_named(environment: dict[str, str]) -> None:
    message = f"several ranks need mpi4py, which is not installed: {install('mpi')}"
    assert re.search(re.escape(message), _init(**environment).stderr)


def test_a_missing_library_is_told() -> None:
    pytest.importorskip("mpi4py")
    environment = {**os.environ, "PMI_SIZE": "2", "MPI4PY_LIBMPI": "/nowhere/libmpi.so"}
    command = [sys.executable, "-c", "from lucid import distributed; distributed.init()"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    message = "ImportError: several ranks need an MPI library, and mpi4py finds none: "
    assert f"{message}{install('mpi')}, or load" in done.stderr


def test_another_launcher_is_named() -> None:
    code = (
        "import mpi4py.MPI, os\n"
        "from lucid import distributed; distributed.init()\n"  # mpiexec says that it is alone
        "os.environ['PMI_SIZE'] = '4'; distributed.init()"
    )
    error = "RuntimeError: init: the launcher started 4 processes, but MPI knows of 1: "
    assert error in run_ranks(1, "-c", code).stderr


def test_abort_ends_all_ranks() -> None:
    code = (
        "from lucid import _ranks; _ranks.init()\n"
        "if _ranks.rank() == 1: _ranks.abort('no luck', 3)\n"
        "_ranks.barrier()"
    )
    done = run_ranks(2, "-c", code, timeout=30)
    assert done.returncode in (3, *ENDED[1:])
    assert re.search(r"^rank 1 of 2 \(.+\): no luck$", done.stderr, re.MULTILINE)


def test_abort_of_one_rank(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        _ranks.abort("no luck", 2)
    assert capsys.readouterr().err == "no luck\n"
