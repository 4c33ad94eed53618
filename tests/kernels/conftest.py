"""Every kernel test runs once per backend that is installed."""

import pytest

from lucid import kernels


@pytest.fixture(params=kernels.available_backends())
def backend(request):
    """The module of a backend's kernels."""
    before = kernels.get_backend()
    try:
        kernels.set_backend(request.param)
    except ImportError as error:
        pytest.skip(str(error))
    yield kernels.active()
    kernels.set_backend(before)


@pytest.fixture(params=[1, 3])
def threads(request, backend):
    """How many threads the kernels of ``backend`` use."""
    before = kernels.get_num_threads()
    kernels.set_num_threads(request.param)
    yield request.param
    kernels.set_num_threads(before)
