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


@pytest.mark.parametrize("ranks", [pytest.param(2, marks=pytest.mark.slow), 3])
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


def _init(*environments: dict[str, str]) -> list[str]:
    """Call init() where mpi4py is not installed, and return its errors in each environment."""
    code = (
        "import os, sys\n"
        "sys.modules['mpi4py'] = None\n"
        "from lucid import distributed\n"
        f"for environment in {environments!r}:\n"
        "    if not os.fork():  # a process of its own, without another start of lucid\n"
        "        os.environ.update(environment)\n"
        "        try:\n"
        "            distributed.init()\n"
        "            print('no error', flush=True)\n"
        "        except BaseException as error:\n"
        "            print(repr(error), flush=True)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )
    kept = {name: value for name, value in os.environ.items() if name not in _LAUNCHERS}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_mpi4py_is_not_needed_by_one_rank() -> None:
    slurm = {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
    assert _init({}, {"PMI_SIZE": "1"}, slurm) == ["no error"] * 3


def test_missing_mpi4py_is_named() -> None:
    errors = _init(
        {"PMI_SIZE": "2", "PMI_RANK": "0"},
        {"PMIX_RANK": "0"},
        {"OMPI_COMM_WORLD_SIZE": "4"},
        {"SLURM_STEP_NUM_TASKS": "2"},
    )
    message = f"several ranks need mpi4py, which is not installed: {install('mpi')}"
    assert len(errors) == 4
    assert all(message in error for error in errors), errors


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
