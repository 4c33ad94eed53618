"""The names of :mod:`lucid.data`, where PyTorch has them."""

from lucid.data import *  # noqa: F403  # all of them
