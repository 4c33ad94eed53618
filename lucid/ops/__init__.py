"""Differentiable operations. Importing this gives Tensor its methods.

Those of layers are loaded when one is first asked for, so that `import lucid` stays quick.
"""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from lucid._check import name_errors as _name_errors
from lucid.ops import _methods as _methods
from lucid.ops._activation import *
from lucid.ops._attributes import *
from lucid.ops._create import *
from lucid.ops._diagonal import *
from lucid.ops._dtypes import *
from lucid.ops._elementwise import *
from lucid.ops._gather import *
from lucid.ops._index import *
from lucid.ops._join import *
from lucid.ops._linalg import *
from lucid.ops._matmul import *
from lucid.ops._random import *
from lucid.ops._reduce import *
from lucid.ops._scan import *
from lucid.ops._scatter import *
from lucid.ops._search import *
from lucid.ops._shape import *
from lucid.ops._shape import size as size
from lucid.ops._shape import view_as as view_as
from lucid.ops._statistics import *

_name_errors(globals())

_OF_LAYERS = (
    "_attention", "_batch_norm", "_conv", "_conv_transpose", "_distance", "_dropout",
    "_embedding", "_fold", "_grid", "_layer_norm", "_linear", "_loss", "_margin_loss", "_pool",
    "_resize",
)  # fmt: skip

if _TYPE_CHECKING:
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
else:

    def _load() -> None:
        for file in _OF_LAYERS:
            module = _importlib.import_module(f"lucid.ops.{file}")
            globals().update({name: getattr(module, name) for name in module.__all__})
        _name_errors(globals())

    def __getattr__(name: str) -> _Any:
        if not name.startswith("_") and "conv2d" not in globals():
            _load()
            if name in globals():
                return globals()[name]
        raise AttributeError(f"module 'lucid.ops' has no attribute {name!r}")

    def __dir__() -> list[str]:
        _load()
        return sorted(globals())
