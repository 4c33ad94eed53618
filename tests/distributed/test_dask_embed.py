"""The example that divides pictures by Dask gives what one process gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lucid.distributed import map_images
from tests.distributed.test_map_images import features, fill

pytest.importorskip("dask.distributed")

EXAMPLE = Path(__file__).parents[2] / "examples" / "dask_embed.py"


@pytest.mark.slow
def test_equal_to_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not EXAMPLE.is_file():
        pytest.skip("not run from a checkout")
    monkeypatch.chdir(tmp_path)
    broken = fill(tmp_path, 120)
    command = [sys.executable, str(EXAMPLE), "photos", "w.npz", "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("share ") == 8
    map_images("photos", "w.npz", output="alone", workers=0)
    rows = {}
    for folder in ("out", "alone"):
        names, found = features(Path(folder))
        assert len(set(names)) == len(names) == 120 - len(broken)
        rows[folder] = dict(zip(names, found))
    assert rows["out"].keys() == rows["alone"].keys()
    for name, row in rows["alone"].items():
        np.testing.assert_allclose(rows["out"][name], row, rtol=1e-4, atol=1e-5)
