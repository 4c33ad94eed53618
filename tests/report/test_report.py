"""The report: one page without scripts, every number of which is in the JSON beside it."""

from __future__ import annotations

import html.parser
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lucid
from lucid import data, models
from lucid.report import write_report, write_run_report
from lucid.report._seen import Seen, find_alike
from lucid.training import Description, Evaluation, Recipe, Run

PIL_Image = pytest.importorskip("PIL.Image")

HOSTILE = "<img src=x onerror=alert(1)>"
CLASSES = [HOSTILE, "a & b", "\x00\udcff \u202e"]


class Page(html.parser.HTMLParser):
    """What stands in a page: its elements, its numbers and its text; unclosed ones are an error."""

    VOID = ("img", "meta")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.numbers: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        number = attributes.get("value") if tag == "data" else attributes.get("data-value")
        if number is not None:
            self.numbers.append(number)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def numbers_in(value: Any) -> set[float]:
    """Return all numbers in a document."""
    if isinstance(value, dict):
        return set().union(*map(numbers_in, value.values()))
    if isinstance(value, list):
        return set().union(*map(numbers_in, value))
    return {float(value)} if isinstance(value, (int, float)) else set()


def some_answers(n: int = 60, classes: list[str] = CLASSES) -> Evaluation:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, len(classes), n)
    logits = generator.normal(size=(n, len(classes))) + 2 * np.eye(len(classes))[labels]
    return Evaluation(logits, labels, classes)


def make_pictures(folder: Path) -> Path:
    """Write three classes whose names are hostile; one picture cannot be read."""
    generator = np.random.default_rng(0)
    for index, name in enumerate((HOSTILE, "a & b", "c")):
        for number in range(12):
            (folder / name).mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 256, (40, 50, 3), np.uint8)
            pixels[:, :, index] = 255
            PIL_Image.fromarray(pixels).save(folder / name / f'{number} "<b>.png')
    (folder / "c" / '3 "<b>.png').write_bytes(b"no picture")
    return folder


def make_run(folder: Path) -> Run:
    """Return a finished run of one epoch on such pictures."""
    photos = str(make_pictures(folder / "photos"))
    recipe = Recipe(data=photos, epochs=1, size=32, batch_size=8, lr=0.01)
    with Run.create(folder / "run", recipe) as run:
        run.prepare(tell=lambda line: None)
        for _ in run.fit():
            pass
        run.finish()
        return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with its report."""
    run = make_run(tmp_path_factory.mktemp("finished"))
    done: list[tuple[int, int]] = []
    write_run_report(run, after_each=lambda *counts: done.append(counts))
    assert done[-1] == (35, 35)
    return run


# -- of a run ---------------------------------------------------------------------------------


def test_a_run_has_all_parts(finished):
    page = Page(finished.files.report)
    ids = [attributes.get("id") for tag, attributes in page.elements if tag == "section"]
    assert ids == [
        "score",
        "training",
        "classes",
        "confusion",
        "calibration",
        "mistakes",
        "suspects",
        "alike",
        "augmented",
        "recipe",
        "environment",
    ]
    assert "could not be made" not in page.text
    document = json.loads(finished.files.report_data.read_text())
    assert document["evaluation"] == finished.evaluation.document()
    assert document["recipe"]["size"] == 32
    assert document["training"]["history"] == finished.description.history
    assert len(document["mistakes"]) == len(finished.evaluation.mistakes())


def test_every_number_is_in_the_json(finished):
    known = numbers_in(json.loads(finished.files.report_data.read_text()))
    shown = [float(number) for number in Page(finished.files.report).numbers]
    assert len(shown) > 50
    assert set(shown) <= known


def test_numbers_in_the_text_are_marked(tmp_path):
    """All percentages and decimal fractions of the tables are `data` elements."""
    write_report(tmp_path / "a.html", some_answers())
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    cells = re.findall(r"<td>(.*?)</td>|<dd>(.*?)</dd>", text)
    for cell in map("".join, cells):
        assert not re.search(r"\d\.\d", re.sub(r"<data.*?</data>|<span.*?</span>", "", cell))


def test_nothing_is_loaded_and_nothing_runs(finished):
    page = Page(finished.files.report)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "base", "form"}
    links = [given for tag, given in page.elements if tag == "link"]
    assert links == [{"rel": "icon", "href": "data:,"}]  # which is empty
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "data", "xlink:href"):
                assert value.startswith(("data:image/", "#")) or tag == "link", (tag, value)
    assert "url(" not in finished.files.report.read_text(encoding="utf-8")


def test_names_are_text(finished):
    page = Page(finished.files.report)
    assert HOSTILE in page.text
    assert all(
        value.get("src", "").startswith("data:") for tag, value in page.elements if tag == "img"
    )


def test_names_that_no_page_can_hold(tmp_path):
    write_report(tmp_path / "a.html", some_answers(), title="\x00\udcff")
    page = Page(tmp_path / "a.html")
    assert "\ufffd\ufffd \ufffd" in page.text
    assert json.loads((tmp_path / "a.json").read_text())["evaluation"]["classes"] == CLASSES


def test_a_page_is_small(finished):
    assert finished.files.report.stat().st_size < 1_500_000


def test_large_pictures_are_made_small(tmp_path):
    for name in "ab":
        for part, count in (("train", 3), ("test", 2)):
            (tmp_path / "photos" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng(number).integers(0, 256, (900, 1600, 3), np.uint8)
                PIL_Image.fromarray(pixels).save(
                    tmp_path / "photos" / part / name / f"{number}.jpg"
                )
    images = data.load_images(tmp_path / "photos", 32)
    model = models.create_model("mobilenetv4_conv_small_035", num_classes=2).eval()
    model.pretrained_cfg = {"input_size": (3, 32, 32)}
    seen = Evaluation.measure(model, images.test, images.classes)
    write_report(tmp_path / "a.html", seen, model=model, images=images)
    page = Page(tmp_path / "a.html")
    sizes = [(value["width"], value["height"]) for tag, value in page.elements if tag == "img"]
    assert sizes
    assert all(max(map(int, size)) <= 200 for size in sizes)
    assert (tmp_path / "a.html").stat().st_size < 500_000


# -- what fails -------------------------------------------------------------------------------


def test_pictures_that_are_gone_leave_the_report(tmp_path):
    finished = make_run(tmp_path)
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    write_run_report(finished)
    page = Page(finished.files.report)
    document = json.loads(finished.files.report_data.read_text())
    assert document["evaluation"] == finished.evaluation.document()
    assert len(document["mistakes"]) == len(finished.evaluation.mistakes())
    if document["mistakes"]:
        assert "there is no file" in page.text


def test_one_broken_picture_leaves_the_others(tmp_path):
    finished = make_run(tmp_path)
    bad = next(path for path in Path(finished.recipe.data).rglob("*.png") if "<b>" in path.name)
    bad.write_bytes(b"damaged")
    write_run_report(finished)
    assert "could not be made" not in Page(finished.files.report).text


def test_a_part_that_fails_says_so(tmp_path, monkeypatch):
    def fail(*_: Any) -> None:
        raise RuntimeError("no <reliability>")

    monkeypatch.setattr("lucid.report._score.reliability_diagram", fail)
    write_report(tmp_path / "a.html", some_answers())
    assert "could not be made: no <reliability>" in Page(tmp_path / "a.html").text
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["calibration"] == {"error": "no <reliability>"}
    assert "confusion" in document["evaluation"]


def test_weights_that_are_not_finite(tmp_path):
    seen = Evaluation(np.full((4, 2), np.nan), np.array([0, 1, 0, 1]), ["a", "b"])
    write_report(tmp_path / "a.html", seen)
    assert "could not be made" not in Page(tmp_path / "a.html").text
    json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)


def test_a_history_with_losses_that_are_not_finite(tmp_path):
    description = Description(Recipe(), ["a", "b"], 1, [0.5], [0.5])
    for epoch in (1, 2, 3):
        record = {"epoch": epoch, "seconds": 1.0, "train_accuracy": 0.5}
        record |= {"train_loss": None, "validation_loss": None, "validation_accuracy": 0.5}
        description.add(record)
    write_report(tmp_path / "a.html", some_answers(classes=["a", "b"]), description=description)
    page = Page(tmp_path / "a.html")
    assert "no epoch has a number that is finite" in page.text
    assert "could not be made" not in page.text


def test_the_name_of_the_page(tmp_path):
    with pytest.raises(ValueError, match=r"expected a name ending in \.html, got .*page\.txt"):
        write_report(tmp_path / "page.txt", some_answers())


# -- sizes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 12, 13, 25, 26, 100, 150, 151, 1000])
def test_many_classes(tmp_path, count):
    names = [f"class number {index}" for index in range(count)]
    seen = some_answers(3 * count, names)
    write_report(tmp_path / "a.html", seen)
    page = Page(tmp_path / "a.html")
    matrix = [value for tag, value in page.elements if value.get("class") in ("good", "bad")]
    assert sum(int(value["data-value"]) for value in matrix) == 3 * count
    assert len(matrix) == np.count_nonzero(seen.confusion)
    assert ("class number 1" in page.text) == (count > 1)
    assert (tmp_path / "a.html").stat().st_size < 1_500_000


# -- pictures that are alike ------------------------------------------------------------------


def seen_of(features: np.ndarray) -> Seen:
    n = len(features)
    return Seen(Evaluation(np.zeros((n, 2)), np.zeros(n, int), ["a", "b"]), features)


def test_alike_is_the_cosine_of_what_differs_from_the_mean():
    generator = np.random.default_rng(0)
    parts = {
        name: seen_of(generator.normal(3, 1, size=(n, 16)).astype(np.float32))
        for name, n in (("train", 700), ("validation", 5), ("test", 600))
    }
    parts["test"].features[590] = 1.001 * parts["train"].features[650]
    every = np.concatenate([part.features for part in parts.values()]).astype(np.float64)
    mean = every.mean(axis=0)

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        a, b = a - mean, b - mean
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    found = find_alike(parts, least=0.5)
    assert found[0][:4] == ("test", 590, "train", 650)
    similarities = [pair.similarity for pair in found]
    assert similarities == sorted(similarities, reverse=True)
    for pair in found:
        own = parts[pair.part].features[pair.row]
        other = parts[pair.other_part].features[pair.other_row]
        assert pair.similarity == pytest.approx(cosine(own, other), abs=1e-5)
        before = {"validation": ["train"], "test": ["train", "validation"]}[pair.part]
        best = max(cosine(own, one) for name in before for one in parts[name].features)
        assert pair.similarity == pytest.approx(best, abs=1e-5)


def test_a_picture_twice_is_found(tmp_path):
    images = data.load_images(make_pictures(tmp_path / "photos"), 32, validation=0.2)
    twice = Path(str(data._dataset.paths_of(images.test)[0]))
    first = Path(str(data._dataset.paths_of(images.train)[0]))
    first.write_bytes(twice.read_bytes())
    lucid.manual_seed(0)
    model = models.create_model("mobilenetv4_conv_small_035", num_classes=3).eval()
    model.pretrained_cfg = {"input_size": (3, 32, 32)}
    train, validation, test = data.readable(
        [images.train, images.validation, images.test], tell=lambda line: None
    )
    images = replace(images, train=train, validation=validation, test=test)
    description = Description(Recipe(size=32), images.classes, 3, images.mean, images.std)
    seen = Evaluation.measure(model, images.test, images.classes)
    write_report(tmp_path / "a.html", seen, model=model, images=images, description=description)
    best = json.loads((tmp_path / "a.json").read_text())["alike"][0]
    assert best["similarity"] == pytest.approx(1, abs=1e-5)
    assert {best["first"]["file"], best["second"]["file"]} == {str(first), str(twice)}
