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

__all__ = [
    "absolute", "clip", "divide", "greater", "greater_equal", "less", "less_equal", "multiply",
    "negative", "not_equal", "subtract",
]  # fmt: skip
