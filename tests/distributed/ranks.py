"""Run on several ranks by ``test_core_ranks.py``: the exchanges of ``lucid.distributed``."""

from __future__ import annotations

import numpy as np

import lucid
from lucid import distributed

assert distributed.size() == 1  # before init()
assert not distributed.is_initialized()
distributed.init()
distributed.init()
rank, size = distributed.rank(), distributed.size()
assert size > 1
assert distributed.is_initialized()
assert (distributed.local_rank(), distributed.local_size()) == (rank, size)  # of one machine

ranks = np.arange(size)
assert distributed.all_reduce(rank + 1) == (ranks + 1).sum()
assert distributed.all_reduce(float(rank), "mean") == ranks.mean()
assert distributed.all_reduce(rank, "mean") == ranks.mean()
assert distributed.all_reduce(rank, "max") == size - 1
assert distributed.all_reduce(rank, "min") == 0
for dtype in ("float16", "float32", "float64", "int64", "uint8"):
    array = np.full((2, 3), rank, dtype).T
    total = distributed.all_reduce(array)
    assert total.dtype == array.dtype
    assert total.shape == (3, 2)
    assert (total == ranks.sum()).all()
    assert (array == rank).all()  # as it was
    assert (distributed.broadcast(array, root=1) == 1).all()
tensor = lucid.Tensor(np.full(3, rank, np.float64), dtype="float64")
total = distributed.all_reduce(tensor)
assert isinstance(total, lucid.Tensor)
assert total.dtype == np.float64
assert total.tolist() == [ranks.sum()] * 3
assert distributed.broadcast(tensor, root=1).tolist() == [1.0] * 3
assert distributed.broadcast({"rank": rank}, root=1) == {"rank": 1}
assert distributed.broadcast(np.float32(rank), root=1) == 1
assert distributed.broadcast(np.zeros(0), root=1).shape == (0,)
# Sums whose order would show are the same on all ranks.
noise = np.random.default_rng(rank).normal(size=10_001).astype(np.float32)
assert len(set(distributed.all_gather(distributed.all_reduce(noise).tobytes()))) == 1
assert distributed.all_gather(str(rank)) == [str(one) for one in ranks]
assert distributed.gather(rank, root=1) == (list(ranks) if rank == 1 else None)
distributed.barrier()
if rank == 0:
    print(f"{size} ranks, {lucid.get_num_threads()} threads")
