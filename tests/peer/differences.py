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
        if self.names and case.who not in self.names.split():
            return False
        if self.kinds == "absent" and self.text.endswith("="):  # an argument by name
            return self.text[:-1] in case.kwargs
        return bool(self.when(case))

    def explains(self, problem: Problem) -> bool:
        """Return whether a problem is of the kind that it tells of."""
        return problem.kind in self.kinds.split(", ") and self.text in problem.text


def holds_nan(case: Case) -> bool:
    """Return whether NaN is in the input."""
    return bool(case.args[0].isnan().any())


def holds_complex(case: Case) -> bool:
    """Return whether a complex number is among the arguments."""
    return any(isinstance(argument, complex) for argument in case.args)


def holds_number(case: Case) -> bool:
    """Return whether a number stands where PyTorch wants a tensor."""
    return any(isinstance(argument, (bool, int, float)) for argument in case.args[:2])


def float64(case: Case) -> bool:
    """Return whether the arguments are in float64."""
    return case.dtype == "float64"


def scaled(case: Case) -> bool:
    """Return whether the arguments are in float64, and the function has an alpha."""
    return float64(case) and "alpha" in case.kwargs


def weighted(case: Case) -> bool:
    """Return whether weights in float32 go with numbers in float64."""
    return float64(case) and case.kwargs.get("aweights") is not None


def uint8(case: Case) -> bool:
    """Return whether the arguments are in uint8, to be converted."""
    return case.dtype == "uint8" and "dtype" in case.kwargs


def wrapping(case: Case) -> bool:
    """Return whether differences are those of uint8."""
    return case.dtype == "uint8"


def no_steps(case: Case) -> bool:
    """Return whether a schedule has no steps."""
    return "total_iters=0)" in case.sample


def within_more(case: Case) -> bool:
    """Return whether the tensor is a view of a larger one, which is looked at too."""
    return case.sample == "as_strided.partial_views"


def two_cycles(case: Case) -> bool:
    """Return whether two schedules with settings in the optimiser follow each other."""
    return case.sample.count("Cycl") == 2


IN_PLACE = "alpha_dropout dropout1d dropout3d feature_alpha_dropout "
IN_PLACE += "celu dropout dropout2d elu hardsigmoid hardswish hardtanh leaky_relu mish relu relu6"
IN_PLACE = " ".join(f"{name}(inplace=True)" for name in f"{IN_PLACE} selu silu threshold".split())
IMAGES = " ".join(
    f"{name}{axes}d"
    for name in ("avg_pool", "conv", "conv_transpose", "max_pool")
    for axes in (1, 2, 3)
)
IMAGES += " interpolate upsample_bilinear upsample_nearest local_response_norm"
COMPARE = "eq ge gt isclose le lt max maximum min minimum ne greater greater_equal less less_equal"
COMPARE = f"{COMPARE} not_equal arctan2 atan2 bitwise_left_shift bitwise_right_shift clamp_max"
COMPARE += " clamp_min copysign float_power fmax fmin fmod gcd heaviside hypot lcm ldexp logaddexp"
COMPARE += " logaddexp2 nextafter xlogy xlog1py"
TAKE_NUMBERS = f"bitwise_and bitwise_or bitwise_xor logical_and logical_or logical_xor {COMPARE}"

DISTANCES = "margin_ranking_loss pairwise_distance triplet_margin_loss"
DISTANCES += " triplet_margin_with_distance_loss"

DIFFERENCES: list[Difference] = [
    # What lucid does not have, and says so.
    Difference(IMAGES, "refused", "images are floats", "floating-point"),
    Difference("batch_norm", "refused", "a vector has no channels", "got (0,)"),
    Difference("norm", "refused", "linalg.matrix_norm has the nuclear one", "'nuc'"),
    Difference("where", "absent", "there are no complex numbers", "complex", holds_complex),
    Difference("as_strided", "refused, value", "what surrounds a view is unseen", "", within_more),
    # What lucid does otherwise.
    Difference("AvgPool3d LocalResponseNorm", "accepted", "any float is one", "'Half'"),
    Difference(IN_PLACE, "memory", "accepted without effect: results are new, and graphs simple"),
    Difference(TAKE_NUMBERS, "accepted", "numbers are taken as tensors", "", holds_number),
    Difference("pow remainder", "accepted", "two numbers are taken as tensors", "", holds_number),
    Difference("", "accepted", "float16 is computed all the same", "implemented for 'Half'"),
    Difference("mean", "accepted", "integers are taken as float32", "could not infer"),
    Difference(
        "SGD Adam AdamW RMSprop Adagrad Adadelta Adamax NAdam RAdam LBFGS",
        "refused",
        "a parameter twice would be moved twice",
        "appears more than once",
    ),
    Difference("norm", "second gradient", "where it is 0 it has none: 0, not NaN", "for nan"),
    # What PyTorch does of which lucid does not make a rule.
    Difference("", "value, refused", "no way back from a schedule of no steps", "", no_steps),
    Difference("SequentialLR", "value", "the second's settings count for both", "", two_cycles),
    Difference("softmin", "value", "uint8 wraps around before it is converted", "", uint8),
    Difference(DISTANCES, "value", "differences of uint8 wrap around", "", wrapping),
    Difference("soft_margin_loss SoftMarginLoss", "value", "e^x overflows", "for inf"),
    Difference("hardsigmoid Hardsigmoid", "gradient", "1/6 is a float32", "differ", float64),
    Difference("cov", "gradient, second gradient", "float32 weights stay so", "differ", weighted),
    Difference("celu", "gradient", "1/alpha is a float32", "differ", scaled),
    Difference(
        "celu elu selu hardtanh relu6",
        "gradient",
        "whether NaN passes depends on its place in a vector",
        "differ",
        holds_nan,
    ),
]
