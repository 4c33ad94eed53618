"""ONNX files of models: written by :func:`export`."""

from lucid.onnx._export import export as export
from lucid.onnx._traced import ExportError as ExportError
