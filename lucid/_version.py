"""The version of this copy of lucid, which files say that it writes."""

__version__ = "0.1.0"
