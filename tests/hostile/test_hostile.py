"""A small part of the attack; ``python -m tests.hostile`` is the whole of it."""

from __future__ import annotations

import sys

import pytest

from tests.hostile.__main__ import attack

pytest.importorskip("PIL")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux has it")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "count"),
    [
        ("files", 200),
        ("images", 120),
        ("onnx", 200),
        ("states", 200),
        ("arguments", 300),
        ("kills", 6),
        ("races", 4),
    ],
)
def test_no_trial_fails(part: str, count: int) -> None:
    assert attack(part, range(count), seed=0, jobs=1) == {}
