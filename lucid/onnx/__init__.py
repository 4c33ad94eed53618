"""ONNX files of models: written by :func:`export`, read as modules by :func:`load`."""

from lucid.onnx._export import export as export
from lucid.onnx._load import load as load
from lucid.onnx._traced import ExportError as ExportError
