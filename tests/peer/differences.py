"""Where lucid differs from PyTorch, and why: the only way past the comparison.

An entry that no longer tells a difference fails, so the table holds nothing that is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.peer.compare import Problem
    from tests.peer.tally import Case


@dataclass(frozen=True)
class Difference:
    """One difference.

    Args:
        names: lucid's names that it is about, without their home; empty for all.
        kinds: what it may come out as (``Problem.kind``).
        reason: why lucid is as it is.
        text: a part of the problem's sentence.
        when: which calls it is about.
    """

    names: str
    kinds: str
    reason: str
    text: str = ""
    when: Callable[[Case], Any] = lambda case: True

    def covers(self, case: Case) -> bool:
        """Return whether a call is one of those that it is about."""
        return (not self.names or case.who in self.names.split()) and bool(self.when(case))

    def explains(self, problem: Problem) -> bool:
        """Return whether a problem is of the kind that it tells of."""
        return problem.kind in self.kinds.split(", ") and self.text in problem.text


def number_for_tensor(case: Case) -> bool:
    """Return whether a number or a sequence stands where PyTorch wants a tensor."""
    return any(isinstance(argument, (bool, int, float)) for argument in case.args[:2])


INPLACE = """celu(inplace=True) dropout(inplace=True) dropout2d(inplace=True) elu(inplace=True)
    hardsigmoid(inplace=True) hardswish(inplace=True) hardtanh(inplace=True)
    leaky_relu(inplace=True) mish(inplace=True) relu(inplace=True) relu6(inplace=True)
    selu(inplace=True) silu(inplace=True)"""
NUMBERS = """bitwise_and bitwise_or bitwise_xor eq ge gt isclose le logical_and logical_or
    logical_xor lt max maximum min minimum ne pow remainder"""
NAMED = "Adagrad Adam AdamW RMSprop SGD"

DIFFERENCES: list[Difference] = [
    # What lucid does not have, and says so.
    Difference("add sub", "absent", "a multiple is written b * alpha", "alpha="),
    Difference("div", "absent", "whole numbers come from floor_divide", "rounding_mode="),
    Difference("round", "absent", "decimals are for printing", "decimals="),
    Difference("scatter", "absent", "scatter_add adds; nothing multiplies", "reduce="),
    Difference("max_pool2d", "absent", "no unpooling needs the indices", "return_indices="),
    Difference("MaxPool2d", "refused", "no unpooling needs the indices", "return_indices="),
    Difference("embedding", "absent", "the layer has max_norm, the function has not", "max_norm="),
    Difference("embedding", "absent", "gradients are not scaled", "scale_grad_by_freq="),
    Difference("instance_norm", "absent", "no model here keeps its statistics", "nn.functional"),
    Difference("InstanceNorm2d", "refused", "no model here keeps them", "track_running_stats="),
    Difference("interpolate", "absent", "the given factor is the one used", "recompute_scale_fa"),
    Difference("interpolate", "refused", "images have two axes and channels", "expected an input"),
    Difference("interpolate", "refused", "two modes are enough for images", "mode must be"),
    Difference("interpolate avg_pool2d conv2d", "refused", "images are floats", "floating-point"),
    Difference("norm", "refused", "there is no singular value decomposition", "'nuc'"),
    Difference("Adagrad SGD", "refused", "a rate is a number", "lr must be a number"),
    # What lucid does otherwise.
    Difference(INPLACE, "memory", "accepted without effect, so that models can be copied"),
    Difference(NUMBERS, "accepted", "numbers are taken as tensors", when=number_for_tensor),
    Difference("mean", "accepted", "integers are taken as float32", "could not infer"),
    Difference(NAMED, "refused", "a parameter twice would be moved twice", "more than once"),
    Difference(
        "",
        "value, refused",
        "PyTorch's ConstantLR and LinearLR never come back from 0 steps",
        when=lambda case: "total_iters=0)" in case.sample,
    ),
    Difference(
        "SequentialLR",
        "value",
        "PyTorch keeps the settings of OneCycleLR in the optimiser, once",
        when=lambda case: case.sample.count("OneCycleLR") == 2,
    ),
    Difference(
        "hardsigmoid Hardsigmoid",
        "gradient",
        "PyTorch's 1/6 is a float32",
        "differ",
        lambda case: case.dtype == "float64",
    ),
]
