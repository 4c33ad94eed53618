"""Tools for parameters, their gradients, and sequences of different lengths."""

from lucid._check import name_errors as _name_errors
from lucid.nn.utils import parametrizations as parametrizations
from lucid.nn.utils import parametrize as parametrize
from lucid.nn.utils import rnn as rnn
from lucid.nn.utils._parameters import *
from lucid.nn.utils._parameters import skip_init as _skip_init

_name_errors(globals())
skip_init = _skip_init  # what it builds names itself
