"""Every kernel test runs once per backend that is installed."""

import pytest

from lucid import kernels
from tests.backends import on_backend, with_threads


@pytest.fixture(params=kernels.available_backends())
def backend(request):
    """The module of a backend's kernels."""
    with on_backend(request.param):
        yield kernels.active()


@pytest.fixture(params=[1, 3])
def threads(request, backend):
    """How many threads the kernels of ``backend`` use."""
    with with_threads(request.param):
        yield request.param
