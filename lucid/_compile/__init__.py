"""Inference plans: a model traced, simplified, and bound to memory."""

from lucid._compile._compiled import CompiledModel as CompiledModel
from lucid._compile._compiled import compile as compile
