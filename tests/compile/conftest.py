"""Every test here runs on each backend, some with several threads."""

import pytest

from lucid import kernels
from tests.backends import on_backend, with_threads


@pytest.fixture(params=kernels.available_backends(), autouse=True)
def backend(request):
    with on_backend(request.param):
        yield request.param


@pytest.fixture(params=[1, 2])
def threads(request):
    with with_threads(request.param):
        yield request.param
