"""The fast backend: kernels compiled for this machine by Numba."""

from lucid.kernels.numpy import *  # noqa: F403
