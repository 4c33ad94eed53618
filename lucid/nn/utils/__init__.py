"""Tools for parameters, their gradients, and sequences of different lengths."""

from lucid._check import name_errors as _name_errors
from lucid.nn.utils import parametrizations as parametrizations
from lucid.nn.utils import parametrize as parametrize
from lucid.nn.utils import rnn as rnn
from lucid.nn.utils._parameters import *

_name_errors(globals())
