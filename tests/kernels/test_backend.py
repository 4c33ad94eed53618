"""Both backends offer exactly the kernels of the contract, with its parameters."""

import inspect

import pytest

from lucid.kernels.backend import Backend

KERNELS = [name for name in vars(Backend) if not name.startswith("_")]


def parameters(function):
    """Return the names, kinds and defaults of a function's parameters, in order."""
    return [
        (p.name, p.kind, p.default)
        for p in inspect.signature(function).parameters.values()
        if p.name != "self"
    ]


@pytest.mark.parametrize("name", KERNELS)
def test_parameters(backend, name):
    assert parameters(getattr(backend, name)) == parameters(getattr(Backend, name))


@pytest.mark.parametrize("name", KERNELS)
def test_each_kernel_says_what_it_does(backend, name):
    assert getattr(backend, name).__doc__


def test_nothing_else_is_offered(backend):
    offered = {
        name
        for name, value in vars(backend).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert offered == set(KERNELS)
