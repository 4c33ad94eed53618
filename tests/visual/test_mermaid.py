"""Diagrams: the chart of the documentation's page, what flows where, and names that bite."""

from __future__ import annotations

import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lucid
from lucid import models, nn
from lucid.autograd._function import is_observed
from lucid.visual import mermaid, svg
from tests.visual.charts import read

SHAPE = (1, 3, 224, 224)
SMALL = (1, 3, 64, 64)


# -- the page's chart -------------------------------------------------------------------------


def test_conv_medium_is_the_chart_of_the_page():
    """Titles with their nesting, labels and shapes; the arrows are ours."""
    page = Path(__file__).parent / "data" / "conv_medium.mmd"
    expected = read(page.read_text(encoding="utf-8")).whole.tree()
    drawn = read(mermaid(models.mobilenet_v4_conv_medium(), SHAPE)).whole.tree()
    assert drawn == expected


def test_conv_medium_flows_from_input_to_output():
    chart = read(mermaid(models.mobilenet_v4_conv_medium(), SHAPE))
    following: dict[str, list[str]] = {}
    for start, end, arrow in chart.edges:
        if arrow == "-->":
            following.setdefault(start, []).append(end)
    seen = ["input"]
    while seen[-1] in following:
        (next_,) = following[seen[-1]]
        seen.append(next_)
    assert seen[-1] == "output"
    assert set(seen) == set(chart.labels)


# -- what flows where -------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.first = nn.Linear(width, width)
        self.act = nn.ReLU()

    def forward(self, x):
        return x + self.act(self.first(x))


def test_a_residual_is_an_arrow_into_an_addition():
    chart = read(mermaid(Residual(), (2, 4)))
    assert chart.label_edges() == {
        ("Input", "Linear"),
        ("Linear", "ReLU"),
        ("ReLU", "+"),
        ("Input", "+"),
        ("+", "Output"),
    }


def test_a_run_of_residual_blocks():
    model = nn.Sequential(*(Residual() for _ in range(3)))
    chart = read(mermaid(model, (2, 4)))
    (whole,) = [part for part in chart.whole.parts if not isinstance(part, tuple)]
    assert whole.tree() == (
        "Sequential",
        [("Residual x 3", [("Input",), ("Output",), ("Linear",), ("ReLU",), ("+",)])],
    )
    assert ("m1_in", "m4", "-->") in chart.edges  # the residual of each
    assert ("m4", "m1_out", "-->") in chart.edges
    assert ("m1_out", "m1_in", "-.->") in chart.edges
    assert ("input", "m1_in", "-->") in chart.edges
    assert ("m1_out", "output", "-->") in chart.edges


def test_runs_fold_only_where_each_feeds_the_next():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

        def forward(self, x):
            a, b, c = (branch(x) for branch in self.branches)
            return lucid.cat([a, b, c], 1)

    chart = read(mermaid(Parallel(), (2, 4)))
    assert list(chart.labels.values()).count(("Linear",)) == 3
    assert chart.label_edges() == {("Input", "Linear"), ("Linear", "cat"), ("cat", "Output")}


def test_exact_repeats_have_the_same_shapes_and_settings():
    blocks = [nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 8)]
    for how in (True, "exact"):
        chart = read(mermaid(nn.Sequential(*blocks), (2, 4), collapse_repeats=how))
        labels = [label for label in chart.labels.values() if label[0].startswith("Linear")]
        assert labels == [("Linear x 2",), ("Linear",), ("Linear", "(2,4) → (2,8)")]
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Sequential(nn.Linear(8, 4)))
    assert "Sequential x 2" in mermaid(model, (2, 4), depth=1)
    assert "Sequential x 2" not in mermaid(model, (2, 4), depth=1, collapse_repeats="exact")
    assert "Linear x" not in mermaid(nn.Sequential(*blocks), (2, 4), collapse_repeats=False)


def test_attention_joins_queries_keys_and_values():
    chart = read(mermaid(models.mobilenet_v4_hybrid_medium(), SMALL))
    assert ("matmul", "matmul") in chart.label_edges()
    assert ("LayerScale", "+") in chart.label_edges()
    (attention, *_) = [g for g in chart.whole.groups() if g.title == "_MobileAttention"]
    assert [part[0] for part in attention.parts] == [
        *("BatchNorm2d", "Sequential", "Sequential", "Sequential"),
        *("matmul", "matmul", "Conv2d", "LayerScale", "+"),
    ]


def test_shared_modules_many_inputs_and_nested_outputs():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.act = nn.ReLU()
            self.drop = nn.Dropout()
            self.spare = nn.Linear(4, 2)

        def forward(self, x, y):
            x = self.act(self.linear(x))
            z = self.drop(x)  # in evaluation mode it returns what it got
            z += self.act(y)
            return [x, {"sum": (z,)}]

    chart = read(mermaid(Shared(), [(2, 4), (2, 4)]))
    assert list(chart.labels.values()).count(("ReLU",)) == 2, "one box a call"
    assert ("Linear", "not called") in chart.labels.values()
    assert chart.label_edges() == {
        ("Input 0", "Linear"),
        ("Linear", "ReLU"),
        ("ReLU", "Dropout"),
        ("ReLU", "+"),
        ("Dropout", "+"),
        ("Input 1", "ReLU"),
        ("ReLU", "Output 0"),
        ("+", "Output 1.sum.0"),
    }


def test_what_leaves_the_operations_is_still_connected():
    class Leaving(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.ReLU()

        def forward(self, x):
            x = self.second(self.first(x).detach())
            return lucid.Tensor(x.data * 2)

    assert read(mermaid(Leaving(), (2, 4))).label_edges() == {
        ("Input", "Linear"),
        ("Linear", "ReLU"),
        ("ReLU", "Output"),
    }


def test_features_have_an_arrow_each():
    model = models.mobilenet_v4_conv_small(features_only=True)
    chart = read(mermaid(model, SMALL))
    outputs = [label for label in chart.labels.values() if label[0].startswith("Output ")]
    assert outputs == [
        (f"Output {i}", f"({','.join(map(str, f.shape))})")
        for i, f in enumerate(model(lucid.zeros(*SMALL)))
    ]
    assert len([1 for _, end, _ in chart.edges if end.startswith("output")]) == 5


def test_integers_go_into_an_embedding():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
    chart = read(mermaid(model, (2, 7), dtype=np.int64))
    assert ("Embedding", "(2,7) → (2,7,4)") in chart.labels.values()
    assert ("Input", "Embedding") in chart.label_edges()


def test_layers_that_compute_nothing_are_arrows():
    model = nn.Sequential(
        nn.Identity(), nn.Sequential(nn.Flatten()), nn.Flatten(), nn.Linear(12, 2)
    )
    chart = read(mermaid(model, (1, 3, 2, 2)))
    assert chart.label_edges() == {
        ("Input", "Sequential"),
        ("Sequential", "Linear"),
        ("Linear", "Output"),
    }


# -- how it is drawn --------------------------------------------------------------------------


def test_without_a_shape_it_shows_what_is_registered():
    chart = read(mermaid(models.mobilenet_v4_conv_small()))
    groups = [group.title for group in chart.whole.groups()]
    assert groups[:4] == ["", "mobilenet_v4_conv_small", "conv0", "convbn_0"]
    assert not any("(" in line for label in chart.labels.values() for line in label)
    assert ("Conv2d", "BatchNorm2d") in chart.label_edges()
    assert "input" not in chart.labels


@pytest.mark.parametrize("direction", ["LR", "RL", "TB", "TD", "BT"])
def test_images_keep_boxes_apart_and_within_their_groups(direction):
    text = svg(models.mobilenet_v4_hybrid_medium(), SMALL, direction=direction)
    root = xml.etree.ElementTree.fromstring(text)
    name = "{http://www.w3.org/2000/svg}"
    whole = (0.0, 0.0, float(root.get("width")), float(root.get("height")))

    def rectangle(element):
        x, y, w, h = (float(element.get(key)) for key in ("x", "y", "width", "height"))
        return x, y, x + w, y + h

    def check(element, outer):
        inside = []
        for child in element.findall(f"{name}g"):
            box = rectangle(child.find(f"{name}rect"))
            assert min(box[0] - outer[0], box[1] - outer[1]) > -0.2
            assert min(outer[2] - box[2], outer[3] - box[3]) > -0.2
            for other in inside:
                assert (
                    box[0] >= other[2]
                    or box[2] <= other[0]
                    or box[1] >= other[3]
                    or box[3] <= other[1]
                )
            inside.append(box)
            check(child, box)
        return inside

    assert len(check(root, whole)) == 3


def test_depth_closes_what_is_deeper():
    model = models.mobilenet_v4_conv_small()
    chart = read(mermaid(model, SMALL, depth=1))
    assert list(chart.labels.values()) == [
        ("Sequential", "(1,3,64,64) → (1,32,32,32)"),
        ("Sequential", "(1,32,32,32) → (1,1280,2,2)"),
        ("AdaptiveAvgPool2d", "(1,1280,2,2) → (1,1280,1,1)"),
        ("Linear", "(1,1280) → (1,1000)"),
        ("Input", "(1,3,64,64)"),
        ("Output", "(1,1000)"),
    ]
    convolutions = sum(isinstance(m, nn.Conv2d) for m in model.modules())
    everything = read(mermaid(model, SMALL, depth=None, collapse_repeats=False))
    assert [label[0] for label in everything.labels.values()].count("Conv2d") == convolutions


def test_a_layer_alone():
    chart = read(mermaid(nn.Conv2d(3, 4, 3), (1, 3, 8, 8)))
    assert chart.label_edges() == {("Input", "Conv2d"), ("Conv2d", "Output")}
    assert read(mermaid(nn.Conv2d(3, 4, 3))).labels == {"m0": ("Conv2d",)}


def test_shapes_direction_and_title():
    text = mermaid(Residual(), (2, 4), show_shapes=False, direction="TB", title="Mine")
    chart = read(text)
    assert "flowchart TB\n" in text
    assert chart.labels["input"] == ("Input",)
    assert chart.whole.groups()[1].title == "Mine"
    model = Residual()
    model.name = "its own"
    assert read(mermaid(model)).whole.groups()[1].title == "its own"


def test_the_model_comes_back_as_it_was():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.register_buffer("count", lucid.zeros(1))
            self.register_buffer("nothing", None)

        def forward(self, x):
            self.count += 1
            return self.norm(x)

    model = Counting()
    model.norm.eval()
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    count = model.count
    mermaid(model, (2, 3, 4, 4))
    assert model.training
    assert not model.norm.training
    assert model.count is count
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(ValueError, match="mermaid: Counting does not run on an input of shape"):
        mermaid(model, (2, 5, 4, 4))
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not is_observed()


@pytest.mark.parametrize("name", models.list_models())
def test_every_model_has_a_chart_and_an_image(name):
    model = nn.utils.skip_init(models.create_model, name)
    read(mermaid(model))
    read(mermaid(model, SMALL, collapse_repeats="exact", depth=None))
    xml.etree.ElementTree.fromstring(svg(model, SMALL, collapse_repeats=False))


# -- wrong use --------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [mermaid, svg])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"depth": 0}, ValueError, "depth must be an integer of at least 1 or None, got 0"),
        ({"depth": True}, ValueError, "depth must be an integer"),
        ({"direction": "XY"}, ValueError, "direction must be one of .*got 'XY'"),
        ({"collapse_repeats": "some"}, ValueError, "True, False or 'exact', got 'some'"),
        ({"title": 3}, TypeError, "title must be a string, got int"),
        ({"input_shape": (1, -3)}, ValueError, "negative size"),
        ({"input_shape": "1,3"}, TypeError, "input_shape must be a tuple of integers"),
    ],
)
def test_wrong_arguments(draw, arguments, error, message):
    with pytest.raises(error, match=f"{draw.__name__}: .*{message}"):
        draw(Residual(), **arguments)


def test_no_module():
    with pytest.raises(TypeError, match=r"mermaid: expected a lucid\.nn\.Module, got int"):
        mermaid(3)


# -- names that bite --------------------------------------------------------------------------

NASTY = [
    '"]; end\nsubgraph x["y',
    "<script>alert(1)</script>",
    "%%{init: {}}%%",
    "end",
    "`code`",
    "$$x^2$$",
    "fa:fa-car",
    "#quot;",
    "日本語 ß ﬂ°°35¶ß",
    "style x:y#z;",
    "click m1 href",
    "\x00\x1b\u2028",
]
names = st.one_of(
    st.sampled_from(NASTY), st.text(max_size=30, alphabet=st.characters(exclude_categories=()))
)


def model_of_names(title: str, key: str, kind: str) -> nn.Module:
    kind = kind.replace("\0", "").encode("utf-8", "replace").decode() or "Kind"
    part = type(kind, (Residual,), {})
    key = key.replace(".", "")
    key = "key" if not key or hasattr(nn.ModuleDict, key) else key

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.name = title
            self.parts = nn.ModuleDict({key: part()})

        def forward(self, x):
            return {title: self.parts[key](x), title + "x": {key: x}}  # two names

    return Net()


@settings(max_examples=60, deadline=None)
@given(names, names, names)
@example("x", "key", "Kind")  # also the name of an argument
def test_names_never_act(title, key, kind):
    model = model_of_names(title, key, kind)
    harmless = model_of_names("title", "key", "Kind")
    for shape in (None, (1, 4)):
        text = mermaid(model, shape)
        text.encode()  # no half of a surrogate pair
        chart, expected = read(text), read(mermaid(harmless, shape))
        assert chart.edges == expected.edges
        assert list(chart.labels) == list(expected.labels)
        assert [g.id for g in chart.whole.groups()] == [g.id for g in expected.whole.groups()]
        for line in text.splitlines()[1:]:
            assert "%%" not in line
            assert "$$" not in line
    root = xml.etree.ElementTree.fromstring(svg(model, (1, 4)))
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        *("svg", "style", "defs", "marker", "path", "rect", "g", "text")
    }


@pytest.mark.parametrize("name", NASTY)
def test_a_name_is_shown_as_it_is(name):
    shown = read(mermaid(Residual(), title=name)).whole.groups()[1].title
    cleaned = "".join(" " if c in "\n\u2028" else "\ufffd" if c in "\0\x1b" else c for c in name)
    assert shown.replace("\u200b", "") == cleaned
