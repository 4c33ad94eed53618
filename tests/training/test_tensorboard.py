"""Event files, read back record by record."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from lucid import training
from lucid.cli import main
from lucid.training import Recipe, Run
from tests.training.test_from_recipe import Interrupt

pytest.importorskip("sklearn")
events = pytest.importorskip("tensorboardX.proto.event_pb2")

SMALL = Recipe(
    model="mobilenetv4_conv_small_035", epochs=2, batch_size=20, size=32, limit=40, save_minutes=0
)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def points(folder: str) -> dict[str, list[tuple[int, float]]]:
    """Return the points of each curve, without those that a later file hides."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(Path(folder).iterdir()):
        content = path.read_bytes()
        while content:  # a length, its checksum, an event, its checksum
            size = int.from_bytes(content[:8], "little")
            event = events.Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]
            if event.session_log.status == 1:  # TensorBoard hides what comes from this step on
                found = {tag: [p for p in old if p[0] < event.step] for tag, old in found.items()}
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_the_curves_are_those_of_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    # Names of files hold the second: as if all of it were done in one.
    clock = SimpleNamespace(time=lambda: 1_800_000_000.0)
    monkeypatch.setattr("tensorboardX.event_file_writer.time", clock)
    with Run.create("a", SMALL) as run:
        run.prepare()
        with pytest.raises(KeyboardInterrupt):
            list(run.fit([training.TensorBoard(), Interrupt(3)]))
    with Run.resume("a") as run:
        run.prepare()
        list(run.fit([training.TensorBoard()]))
        history = run.description.history
    found = points("a/tensorboard")
    assert [step for step, _ in found["step/loss"]] == [1, 2, 3, 4]
    assert [step for step, _ in found["step/learning_rate"]] == [1, 2, 3, 4]
    for part in ("train", "validation"):
        for what in ("loss", "accuracy"):
            steps, values = zip(*found[f"{what}/{part}"])
            assert steps == (2, 4)
            assert values == pytest.approx([record[f"{part}_{what}"] for record in history])
    assert found["step/loss"][3][1] == pytest.approx(history[1]["train_loss"])


def test_the_option() -> None:
    Path("small.toml").write_text(SMALL.toml())
    assert main(["train", "--recipe", "small.toml", "--output", "b.npz", "--tensorboard"]) == 0
    history = json.loads(Path("b.json").read_text())["history"]
    found = points("b.tensorboard")["loss/validation"]
    assert [value for _, value in found] == pytest.approx([r["validation_loss"] for r in history])
