"""Element by element: arithmetic, powers, exponentials, rounding, comparisons, choices.

An operation of one tensor is a function of arrays with its gradient beside it; any other is a class
with its value and its gradient, and a function that checks the arguments and applies it. Infinities
and NaN arise silently, as in PyTorch.
"""

from typing import TYPE_CHECKING

from lucid.ops._elementwise import (
    _aliases,
    _arithmetic,
    _choice,
    _comparison,
    _dtype,
    _exponential,
    _powers,
    _rounding,
    _special,
    _trigonometric,
)
from lucid.ops._elementwise._aliases import *
from lucid.ops._elementwise._arithmetic import *
from lucid.ops._elementwise._choice import *
from lucid.ops._elementwise._comparison import *
from lucid.ops._elementwise._dtype import *
from lucid.ops._elementwise._dtype import widened as widened
from lucid.ops._elementwise._exponential import *
from lucid.ops._elementwise._powers import *
from lucid.ops._elementwise._rounding import *
from lucid.ops._elementwise._special import *
from lucid.ops._elementwise._trigonometric import *

_FILES = (
    _aliases,
    _arithmetic,
    _choice,
    _comparison,
    _dtype,
    _exponential,
    _powers,
    _rounding,
    _special,
    _trigonometric,
)
if not TYPE_CHECKING:  # a checker reads literal lists alone, and without one takes all names
    __all__ = [name for file in _FILES for name in file.__all__]
