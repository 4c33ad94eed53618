"""Further names that PyTorch has for the same operations."""

from lucid.ops._elementwise._arithmetic import abs as absolute
from lucid.ops._elementwise._arithmetic import div as divide
from lucid.ops._elementwise._arithmetic import mul as multiply
from lucid.ops._elementwise._arithmetic import neg as negative
from lucid.ops._elementwise._arithmetic import sub as subtract
from lucid.ops._elementwise._choice import clamp as clip
from lucid.ops._elementwise._comparison import ge as greater_equal
from lucid.ops._elementwise._comparison import gt as greater
from lucid.ops._elementwise._comparison import le as less_equal
from lucid.ops._elementwise._comparison import lt as less
from lucid.ops._elementwise._comparison import ne as not_equal
from lucid.ops._elementwise._rounding import sign as sgn
from lucid.ops._elementwise._rounding import trunc as fix
from lucid.ops._elementwise._trigonometric import acos as arccos
from lucid.ops._elementwise._trigonometric import acosh as arccosh
from lucid.ops._elementwise._trigonometric import asin as arcsin
from lucid.ops._elementwise._trigonometric import asinh as arcsinh
from lucid.ops._elementwise._trigonometric import atan as arctan
from lucid.ops._elementwise._trigonometric import atan2 as arctan2
from lucid.ops._elementwise._trigonometric import atanh as arctanh

__all__ = [
    "absolute", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh",
    "clip", "divide", "fix", "greater", "greater_equal", "less", "less_equal", "multiply",
    "negative", "not_equal", "sgn", "subtract",
]  # fmt: skip
