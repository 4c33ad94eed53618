"""What carries messages between ranks, and how long a sum over all of them takes on it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from lucid._check import one_of

_BANDWIDTH = re.compile(r"(\d+(?:\.\d*)?)\s*([kMGT]?)(bit|B)(?:/s)?")
_PREFIXES = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Wire:
    """What carries messages between two ranks.

    Attributes:
        bandwidth: bytes a second; may be ``math.inf``.
        latency: seconds until the first byte of a message is there.
    """

    bandwidth: float
    latency: float


def bandwidth(text: str) -> float:
    """Return the bytes a second that a text such as ``"10Gbit"`` or ``"1.1GB/s"`` says.

    Raises:
        ValueError: if it says something else, or nothing a second.
    """
    found = _BANDWIDTH.fullmatch(text.strip())
    number = float(found[1]) * _PREFIXES[found[2]] if found else 0.0
    if not (found and number):
        raise ValueError(f"network: expected a bandwidth such as 10Gbit or 1.1GB, got {text!r}")
    return number / 8 if found[3] == "bit" else number


# Each returns for a number of ranks: messages one after another, and how often a byte is sent, and
# added to another one, meanwhile.


def _recursive_doubling(ranks: int) -> tuple[float, float, float]:
    rounds, rest = _rounds(ranks)
    return rounds + rest, rounds + rest, rounds + rest / 2


def _halving_doubling(ranks: int) -> tuple[float, float, float]:
    rounds, rest = _rounds(ranks)
    share = 1 - 1 / (1 << rounds)
    return 2 * rounds + rest, 2 * share + rest, share + rest / 2


def _ring(ranks: int) -> tuple[float, float, float]:
    share = 1 - 1 / ranks
    return 2 * (ranks - 1), 2 * share, share


def _rounds(ranks: int) -> tuple[int, int]:
    """Return the rounds of a power of two of ranks, and the messages for those beyond it.

    They hand their values to a neighbour first, and get the sum back.
    """
    rounds = ranks.bit_length() - 1
    return rounds, 0 if ranks == 1 << rounds else 2


#: Thakur, Rabenseifner and Gropp (2005), "Optimization of Collective Communication Operations in
#: MPICH", section 4.5. The ring: Patarasuk and Yuan (2009), "Bandwidth optimal all-reduce
#: algorithms for clusters of workstations".
ALGORITHMS: dict[str, Callable[[int], tuple[float, float, float]]] = {
    "recursive_doubling": _recursive_doubling,
    "halving_doubling": _halving_doubling,
    "ring": _ring,
}


def all_reduce_seconds(
    ranks: int, nbytes: float, wire: Wire, add: float = 0.0, algorithm: str | None = None
) -> float:
    """Return how long a sum over all ranks takes, which each of them gets.

    Args:
        ranks: how many take part.
        nbytes: of each rank's values.
        wire: between any two of them.
        add: seconds to add a byte.
        algorithm: ``"recursive_doubling"``, ``"halving_doubling"`` (Rabenseifner's reduce-scatter
            and allgather) or ``"ring"``; None: the fastest, as MPI libraries choose by size.

    Example:
        >>> from lucid.distributed._wire import Wire, all_reduce_seconds
        >>> all_reduce_seconds(4, 8e6, Wire(1e9, 1e-5), algorithm="ring")  # 6 messages of 2 MB
        0.01206
    """
    if ranks == 1:
        return 0.0
    names = tuple(ALGORITHMS)
    if algorithm is not None:
        names = (one_of(algorithm, names, "algorithm", "all_reduce_seconds"),)
    return min(
        messages * wire.latency + nbytes * (sent / wire.bandwidth + added * add)
        for messages, sent, added in (ALGORITHMS[name](ranks) for name in names)
    )
