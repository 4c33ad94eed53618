"""`timeline`: what each rank does when, as a trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lucid
from lucid import distributed
from tests.distributed.launch import check_ranks

Span = tuple[float, float]


def _spans(events: list[dict[str, Any]], rank: int) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for event in events:
        if event["ph"] == "X" and event["pid"] == rank:
            span = event["ts"], event["ts"] + event["dur"]
            found.setdefault(event["name"], []).append(span)
    return found


def test_reductions_begin_while_backward_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    check_ranks(2, "tests/distributed/traced.py", str(path))
    events = json.loads(path.read_text())["traceEvents"]
    named = {e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert named == {"rank 0", "rank 1"}
    rows = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert [rows[0, i] for i in range(3)] == [
        "training",
        "operations of backward",
        "reduction of bucket 0",
    ]
    for rank in range(2):
        spans = _spans(events, rank)
        for start, end in (span for name in spans for span in spans[name]):
            assert 0 <= start <= end
        assert {name: len(spans[name]) for name in ("forward", "backward", "step")} == {
            "forward": 3,
            "backward": 3,
            "step": 3,
        }
        for forward, backward, wait, step in zip(
            *(spans[name] for name in ("forward", "backward", "wait for gradients", "step"))
        ):
            assert forward[1] <= backward[0] <= backward[1] <= wait[0] <= wait[1] <= step[0]
        buckets = sorted(name for name in spans if name.startswith("bucket"))
        assert len(buckets) == 4
        assert len(spans["Linear"]) == 12
        for bucket in buckets:
            for step in (1, 2):  # the order is learned in the first step
                begun, done = spans[bucket][step]
                assert spans["backward"][step][0] < begun < spans["backward"][step][1]
                assert done < spans["step"][step][0]


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with pytest.raises(ZeroDivisionError), distributed.timeline(path):
        raise ZeroDivisionError
    assert not path.exists()
    with distributed.timeline(path):
        with pytest.raises(RuntimeError, match="timeline: there is one already"):
            distributed.timeline(tmp_path / "other.json").__enter__()
        lucid.ones(1, requires_grad=True).exp().backward()
    names = [e["name"] for e in json.loads(path.read_text())["traceEvents"] if e["ph"] == "X"]
    assert names == ["Exp", "forward", "backward"]
    assert not (tmp_path / "other.json").exists()
