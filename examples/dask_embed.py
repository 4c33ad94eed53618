"""The features of many pictures by way of Dask, which divides them as Ray does for `map_images`.

    pip install -e ".[dask]"
    python examples/dask_embed.py photos/ weights.npz features/

Each task is one share of the pictures and writes parts of its own, so a task that Dask runs again
goes on behind the parts that are there. A cluster's address takes the place of `Client`'s
arguments; all its machines have to see the pictures and the output by the same names.
"""

import sys
from functools import partial

from dask.distributed import Client, as_completed

from lucid import distributed

SHARES = 8  # more than workers: who is done early takes another


def embed(share: int, source: str, weights: str, output: str) -> str:
    """Write one share of the features."""
    parts = distributed.map_images(source, weights, output=output, workers=0, shard=(share, SHARES))
    return f"share {share} of {SHARES}: {len(parts.finished)} parts, {parts.errors} unreadable"


if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1) as client:
        names = ("source", "weights", "output")
        task = partial(embed, **dict(zip(names, sys.argv[1:], strict=True)))
        for done in as_completed(client.map(task, range(SHARES), retries=3)):
            print(done.result())
