"""Modules, layers and losses, with PyTorch's names, arguments and defaults."""

from lucid._check import name_errors as _name_errors
from lucid.nn import functional as functional
from lucid.nn import init as init
from lucid.nn import utils as utils
from lucid.nn._parameter import Parameter as Parameter
from lucid.nn.modules._activation import *
from lucid.nn.modules._attention import *
from lucid.nn.modules._batch_norm import *
from lucid.nn.modules._container import *
from lucid.nn.modules._conv import *
from lucid.nn.modules._distance import *
from lucid.nn.modules._dropout import *
from lucid.nn.modules._embedding import *
from lucid.nn.modules._linear import *
from lucid.nn.modules._loss import *
from lucid.nn.modules._margin_loss import *
from lucid.nn.modules._module import *
from lucid.nn.modules._norm import *
from lucid.nn.modules._padding import *
from lucid.nn.modules._pool import *
from lucid.nn.modules._recurrent import *
from lucid.nn.modules._resize import *
from lucid.nn.modules._sequential import *
from lucid.nn.modules._transformer import *

_name_errors(globals())
