"""Differentiable operations. Importing this gives Tensor its methods."""

from lucid._check import name_errors as _name_errors
from lucid.ops import _methods as _methods
from lucid.ops._activation import *
from lucid.ops._attention import *
from lucid.ops._attributes import *
from lucid.ops._batch_norm import *
from lucid.ops._conv import *
from lucid.ops._conv_transpose import *
from lucid.ops._create import *
from lucid.ops._diagonal import *
from lucid.ops._distance import *
from lucid.ops._dropout import *
from lucid.ops._dtypes import *
from lucid.ops._elementwise import *
from lucid.ops._embedding import *
from lucid.ops._fold import *
from lucid.ops._gather import *
from lucid.ops._grid import *
from lucid.ops._index import *
from lucid.ops._join import *
from lucid.ops._layer_norm import *
from lucid.ops._linalg import *
from lucid.ops._linear import *
from lucid.ops._loss import *
from lucid.ops._margin_loss import *
from lucid.ops._matmul import *
from lucid.ops._pool import *
from lucid.ops._random import *
from lucid.ops._reduce import *
from lucid.ops._resize import *
from lucid.ops._scan import *
from lucid.ops._scatter import *
from lucid.ops._search import *
from lucid.ops._shape import *
from lucid.ops._shape import size as size
from lucid.ops._shape import view_as as view_as
from lucid.ops._statistics import *

_name_errors(globals())
