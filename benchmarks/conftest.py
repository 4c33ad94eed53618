"""Options of the kernel timings."""

import pytest

from benchmarks._case import VARIANTS


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Measure in one process, with nothing beside it, whatever the tests do."""
    config.option.numprocesses = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kernels")
    group.addoption(
        "--variants",
        default="conv_small",
        help=f"whose shapes are timed: all, or of {', '.join(VARIANTS)}, with commas",
    )
    group.addoption("--batch", type=int, default=1, help="images (default: 1)")
    group.addoption("--size", type=int, default=224, help="pixels of a side (default: 224)")
