"""Levels of a diagram: stages, the blocks in them, the layers in those."""

from __future__ import annotations

import re
import xml.etree.ElementTree
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

import lucid
from lucid import models, nn
from lucid.models import configs
from lucid.models._config import UIBSpec, read_config
from lucid.visual import mermaid, svg
from lucid.visual._chart import layers_of
from lucid.visual._colours import COLOURS, OTHERS
from lucid.visual._outline import outline
from lucid.visual._picture import count_text, rows_html
from tests.visual.charts import read

SMALL = (1, 3, 64, 64)
VARIANTS = models.list_models("mobilenet_v4_")
FORMS = {(1, 1): "UIB ExtraDW", (0, 1): "UIB IB", (1, 0): "UIB ConvNext", (0, 0): "UIB FFN"}


def rows(model, shape=SMALL):
    return outline(layers_of("test", model, shape))


def kinds_of(group) -> Counter[str]:
    """Return what a stage's configuration says that it holds."""
    found: Counter[str] = Counter()
    for spec in group.blocks:
        if isinstance(spec, UIBSpec):
            found[FORMS[bool(spec.start_dw_kernel), bool(spec.mid_dw_kernel)]] += 1
            found["MQA"] += spec.attention is not None
        elif group.block_name == "fused_ib":
            found["Fused IB"] += 1
        else:
            found[f"Conv {spec.kernel}×{spec.kernel}"] += 1
    return +found


def in_counts(text: str) -> Counter[str]:
    parts = (re.fullmatch(r"(?:(\d+) × )?(.+)", part) for part in text.split(", "))
    return Counter({part[2]: int(part[1] or 1) for part in parts})


@pytest.mark.parametrize("name", VARIANTS)
def test_stages_say_what_the_configuration_says(name):
    spec = read_config(getattr(configs, name.removeprefix("mobilenet_v4_"))())
    model = models.create_model(name)
    whole = rows(model)
    assert [row.title for row in whole.rows] == [
        *(group.name for group in spec.stages),
        *("pool", "classifier"),
    ]
    for row, group in zip(whole.rows, spec.stages):
        assert in_counts(row.text) == kinds_of(group)
        assert row.channels == group.blocks[-1].out_channels
        assert (row.kind == "attention") == ("MQA" in row.text)
    chart = read(mermaid(model, SMALL, level="stage"))
    labels = list(chart.labels.values())
    assert [label[:2] for label in labels[:-4]] == [
        (group.name, row.text) for group, row in zip(spec.stages, whole.rows)
    ]
    assert [label[0] for label in labels[-4:]] == ["pool", "classifier", "Input", "Output"]
    assert len(chart.edges) == len(labels) - 1


@pytest.mark.parametrize("name", ["mobilenet_v4_hybrid_medium", "mobilenetv4_conv_aa_medium"])
def test_figures_add_up_on_every_level(name):
    model = models.create_model(name)
    whole, counts = rows(model), lucid.summary(model, SMALL)
    assert (whole.params, whole.macs) == (counts.total_params, counts.total_macs)
    for row in whole.walk():
        if row.rows:
            assert row.params >= sum(inner.params for inner in row.rows)
            assert row.macs == sum(inner.macs for inner in row.rows), row.where
    layers = {layer.name: layer for layer in counts.layers}
    for row in whole.walk():
        if not row.rows and row.where in layers:
            layer = layers[row.where]
            assert (row.params, row.macs) == (layer.params, layer.macs) or row.title == "matmul"
            assert row.shape == layer.output_shape[1:] or row.title in ("+", "matmul")


def test_blocks_stand_in_their_stages():
    model = models.mobilenet_v4_hybrid_medium()
    chart = read(mermaid(model, SMALL, level="block", collapse_repeats=False))
    (whole,) = [part for part in chart.whole.parts if not isinstance(part, tuple)]
    stages = {part.title: part for part in whole.parts if not isinstance(part, tuple)}
    assert list(stages) == ["conv0", "layer1", "layer2", "layer3", "layer4", "layer5"]
    for row in rows(model).rows[:6]:
        labels = [label[0] for label in stages[row.title].parts]
        assert Counter(labels) == in_counts(row.text)
    assert len(chart.edges) == len(chart.labels) - 1
    folded = read(mermaid(models.mobilenet_v4_conv_small(), SMALL, level="block"))
    assert ("UIB IB x 4",) in folded.labels.values()


def test_operations_say_what_they_join():
    (stage,) = [r for r in rows(models.mobilenet_v4_hybrid_medium()).rows if r.title == "layer4"]
    block = next(row for row in stage.rows if row.text.startswith("MQA"))
    joined = {(row.title, row.text) for row in block.rows if row.title in ("+", "matmul")}
    assert ("+", "the block's input + layer_scale") in joined
    assert ("matmul", "query.proj, key.proj") in joined
    assert sum(row.macs for row in block.rows if row.title == "matmul") > 0


# -- models of one's own ----------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.second(self.first(x))


class Net(nn.Module):
    """A list of blocks that is not called itself, and a skip past it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(4, 2)
        self.spare = nn.Linear(4, 3)

    def forward(self, x):
        x = y = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x + y)


def test_a_list_of_blocks_is_a_stage():
    whole = rows(Net(), (1, 4))
    assert [(row.title, row.text) for row in whole.rows] == [
        ("stem", "Linear"),
        ("blocks", "3 × Block"),
        ("head", "Linear"),
        ("spare", "Linear"),
    ]
    assert whole.params == sum(p.data.size for p in Net().parameters())
    chart = read(mermaid(Net(), (1, 4), level="stage"))
    assert chart.label_edges() == {
        *(("Input", "stem"), ("stem", "blocks"), ("stem", "+"), ("blocks", "+")),
        *(("+", "head"), ("head", "Output")),
    }
    assert any(label[-1] == "not called" for label in chart.labels.values())
    blocks = read(mermaid(Net(), (1, 4), level="block"))
    assert ("Block x 3",) in blocks.labels.values()


def test_what_runs_twice_has_its_parameters_once_and_places_of_its_own():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.head = Block(), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.block(self.block(x)))

    whole = rows(Twice(), (1, 4))
    assert [row.params for row in whole.rows] == [40, 0, 10]
    places = [row.where for row in whole.walk()]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(4, 2),
        nn.Sequential(),
        nn.Sequential(nn.Linear(4, 4), nn.ReLU()),
        nn.Sequential(nn.Sequential(nn.Sequential(Block(), Block()), nn.Sequential(Block()))),
        Block(),
        Net(),
    ],
)
@pytest.mark.parametrize("shape", [None, (1, 4)])
def test_small_models(model, shape):
    whole = rows(model, shape)
    assert whole.params == sum(p.data.size for p in model.parameters())
    xml.etree.ElementTree.fromstring(f"<div>{rows_html(whole)}</div>")
    for level in ("stage", "block"):
        read(mermaid(model, shape, level=level))
        for direction in (None, "LR", "TB"):
            xml.etree.ElementTree.fromstring(svg(model, shape, level=level, direction=direction))


# -- how it is drawn --------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["stage", "block"])
def test_images_have_a_box_a_stage(level):
    text = svg(models.mobilenet_v4_hybrid_large(), SMALL, level=level)
    root = xml.etree.ElementTree.fromstring(text)
    assert float(root.get("width")) == 700
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "10 × UIB ExtraDW, 4 × MQA, UIB ConvNext" in words
    boxes = [e for e in root.iter("{http://www.w3.org/2000/svg}rect") if e.get("class") == "row"]
    assert len(boxes) == 8
    edges = [(float(e.get("y")), float(e.get("height"))) for e in boxes]
    assert all(y + height < below for (y, height), (below, _) in pairwise(edges))
    assert float(root.get("height")) <= (600 if level == "stage" else 2000)


def test_bars_and_maps_are_to_scale():
    whole = rows(models.mobilenet_v4_conv_small(), (1, 3, 224, 224))
    root = xml.etree.ElementTree.fromstring(
        svg(models.mobilenet_v4_conv_small(), (1, 3, 224, 224), level="stage")
    )
    rectangles = list(root.iter("{http://www.w3.org/2000/svg}rect"))
    bars = [float(e.get("width")) for e in rectangles if e.get("class") == "macs"][1:]
    most = max(row.macs for row in whole.rows)
    assert bars == [pytest.approx(max(bars) * row.macs / most, abs=0.06) for row in whole.rows]
    maps = [e for e in rectangles if (e.get("class") or "").startswith("map")][1:]
    widths = [float(e.get("width")) for e in maps]
    assert widths[0] / widths[2] == pytest.approx((112 / 28) ** 0.5, abs=0.02)


def test_numbers_are_short():
    texts = [count_text(n) for n in (0, 999, 1000, 12_345, 999_499, 3_774_024, 2_608_550_400)]
    assert texts == ["0", "999", "1.00 k", "12.3 k", "999 k", "3.77 M", "2.61 G"]
    assert count_text(999_999) == "1.00 M"


def test_the_page_has_the_colours_of_the_image():
    css = Path(lucid.visual.__file__).with_name("static") / "lucid-model.css"
    found = dict(
        re.findall(r"--([\w-]+): light-dark\((#\w+, #\w+)\)", css.read_text(encoding="utf-8"))
    )
    expected = {kind: (c.line, c.dark_line) for kind, c in COLOURS.items()} | OTHERS
    for name in set(expected) - {"page", "port"}:
        assert found[name] == ", ".join(expected[name]), name


def luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(c * weight for c, weight in zip(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_are_clear():
    """WCAG 2.1, level AA: texts 4.5 to 1 on what is behind them, bars and boxes 3 to 1."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for kind, colour in COLOURS.items():
        assert contrast(colour.fill, colour.line) >= 4.5, kind
        assert contrast(colour.dark_fill, colour.dark_line) >= 4.5, kind
        for dark, fill in enumerate((colour.fill, colour.dark_fill)):
            assert contrast(fill, OTHERS["ink"][dark]) >= 4.5
            assert contrast((colour.line, colour.dark_line)[dark], OTHERS["page"][dark]) >= 3
    for dark, page in enumerate(OTHERS["page"]):
        for name in ("ink", "faint"):
            assert contrast(OTHERS[name][dark], page) >= 4.5
        for name in ("params", "macs"):
            assert contrast(OTHERS[name][dark], page) >= 3


@pytest.mark.parametrize("draw", [mermaid, svg])
def test_there_are_three_levels(draw):
    with pytest.raises(ValueError, match=r"level must be one of .*got 'net'"):
        draw(Block(), level="net")
