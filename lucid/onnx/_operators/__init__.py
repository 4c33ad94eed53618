"""How lucid computes each operator of ONNX: ``OPERATORS``, filled by the modules here."""

from lucid.onnx._operators import _elementwise as _elementwise
from lucid.onnx._operators import _image as _image
from lucid.onnx._operators import _norm as _norm
from lucid.onnx._operators import _quantize as _quantize
from lucid.onnx._operators import _reduce as _reduce
from lucid.onnx._operators import _shape as _shape
from lucid.onnx._operators._quantize import ROUNDED as ROUNDED
from lucid.onnx._operators._table import OPERATORS as OPERATORS
from lucid.onnx._operators._table import Operator as Operator
from lucid.onnx._operators._table import Weight as Weight
