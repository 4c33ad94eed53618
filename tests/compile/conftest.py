"""Every test here runs on each backend, some with several threads."""

import pytest

from lucid import kernels


@pytest.fixture(params=kernels.available_backends(), autouse=True)
def backend(request):
    before = kernels.get_backend()
    try:
        kernels.set_backend(request.param)
    except ImportError as error:
        pytest.skip(str(error))
    yield request.param
    kernels.set_backend(before)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = kernels.get_num_threads()
    kernels.set_num_threads(request.param)
    yield request.param
    kernels.set_num_threads(before)
