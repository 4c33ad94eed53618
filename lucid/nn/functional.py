"""Layers as functions: ``lucid.nn.functional``, usually imported as ``F``."""

from __future__ import annotations

from lucid._check import name_errors as _name_errors
from lucid.ops import pad as pad
from lucid.ops import sigmoid as sigmoid
from lucid.ops import tanh as tanh
from lucid.ops._activation import *
from lucid.ops._attention import *
from lucid.ops._batch_norm import *
from lucid.ops._conv import *
from lucid.ops._conv_transpose import *
from lucid.ops._distance import *
from lucid.ops._dropout import *
from lucid.ops._embedding import *
from lucid.ops._fold import *
from lucid.ops._grid import *
from lucid.ops._layer_norm import *
from lucid.ops._linear import *
from lucid.ops._loss import *
from lucid.ops._margin_loss import *
from lucid.ops._pool import *
from lucid.ops._resize import *

_name_errors(globals())
