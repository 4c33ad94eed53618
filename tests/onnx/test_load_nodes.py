"""ONNX's own tests of single nodes; ``python -m tests.onnx.nodes`` prints how many pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from tests.onnx.nodes import LEFT_OUT, cases, check, reason


@pytest.mark.slow
def test_every_node_of_an_operator_in_the_table_is_computed(tmp_path: Path) -> None:
    failed, passed, unused = {}, 0, set(LEFT_OUT)
    for case in cases():
        unused -= {pattern for pattern in LEFT_OUT if re.fullmatch(pattern, case.name)}
        if reason(case.name) is None:
            try:
                check(case, tmp_path)
                passed += 1
            except Exception as error:
                failed[case.name] = str(error)
    assert failed == {}
    assert unused == set()  # a reason for nothing
    assert passed > 1000
