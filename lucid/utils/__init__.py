"""Where PyTorch has ``torch.utils.data``: it is :mod:`lucid.data`."""

from lucid.utils import data as data
