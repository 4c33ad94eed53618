"""A backend, or a number of threads, for a while."""

import contextlib

import pytest

from lucid import kernels


@contextlib.contextmanager
def on_backend(name):
    """Compute with a backend, or skip the test if it cannot be imported."""
    before = kernels.get_backend()
    try:
        kernels.set_backend(name)
    except ImportError as error:
        pytest.skip(str(error))
    yield
    kernels.set_backend(before)


@contextlib.contextmanager
def with_threads(count):
    """Compute with so many threads."""
    before = kernels.get_num_threads()
    kernels.set_num_threads(count)
    yield
    kernels.set_num_threads(before)
