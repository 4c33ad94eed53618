"""The ``lucid`` command."""

from lucid.cli._main import main as main
