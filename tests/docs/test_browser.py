"""The built site in headless Chromium: diagrams, explorer, search, and nothing from elsewhere."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import lucid
from lucid import models
from lucid.models import configs
from lucid.visual._colours import COLOURS

WITH_DIAGRAMS = [
    "index",
    "models/MobileNet_V4",
    *(f"models/{name}" for name in models.list_models("mobilenet_v4_")),
    "tutorials/autograd",
    "explorer",
]
UNFOLD = "for (const chart of document.querySelectorAll('.lucid-chart')) chart.open = true"
DRAWN = """() => {
  const all = [...document.querySelectorAll(".diagram")];
  return all.length && all.every((d) => d.dataset.drawn || d.dataset.error);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", WITH_DIAGRAMS)
def test_every_diagram_is_drawn(visit, name, scheme):
    page = visit(f"{name}.html", color_scheme=scheme)
    page.evaluate(UNFOLD)
    page.wait_for_function(DRAWN)
    diagrams = page.locator(".diagram")
    assert page.locator("pre.mermaid").count() == 0
    for index in range(diagrams.count()):
        diagram = diagrams.nth(index)
        assert diagram.get_attribute("data-error") is None
        assert diagram.locator("svg .node").count() > 3
        assert "Syntax error" not in diagram.inner_text()


def test_no_page_has_errors_or_is_wider_than_a_phone(visit, site, address):
    """Every page at a phone's width: nothing to scroll sideways but tables and diagrams."""
    page = visit("index.html", width=390, height=844)
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).as_posix()
        # source code; what tutorials write; what the builder keeps for itself
        if name.startswith(("_modules/", "_images/", ".")):
            continue
        page.goto(f"{address}/{name}")
        wide = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, f"{name} is {wide} pixels too wide"


def test_search_finds_the_model(visit):
    page = visit("index.html")
    page.get_by_placeholder("Search").first.fill("MobileNet_V4")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=MobileNet_V4*")
    page.wait_for_selector("#search-results li a")
    titles = page.locator("#search-results li a").all_inner_texts()
    assert any("MobileNet_V4" in title for title in titles)


def test_a_diagram_zooms_moves_and_fills_the_window(visit):
    page = visit("models/mobilenet_v4_conv_small.html")
    page.locator(".lucid-chart > summary").click()
    page.wait_for_function(DRAWN)
    view = page.locator(".diagram-viewport")
    canvas = page.locator(".diagram-canvas")

    def transform() -> str:
        return canvas.evaluate("node => node.style.transform")

    seen = {transform()}
    for act in (
        lambda: page.get_by_role("button", name="Zoom in").click(),
        lambda: (view.focus(), page.keyboard.press("ArrowRight")),
        lambda: page.keyboard.press("-"),
        lambda: page.get_by_role("button", name="Show all of it").click(),
    ):
        act()
        assert transform() not in seen
        seen.add(transform())
    view.hover(position={"x": 200, "y": 60})  # it waits until the page scrolls no more
    box = view.bounding_box()
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 60)
    page.mouse.up()
    assert transform() not in seen
    view.focus()
    page.keyboard.press("f")
    assert page.locator("dialog.diagram-dialog").is_visible()
    full = view.bounding_box()
    assert full["width"] >= 1200
    assert full["height"] >= 800
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    assert view.is_visible()


def test_diagrams_follow_the_theme(visit):
    page = visit("models/mobilenet_v4_conv_small.html", color_scheme="light")
    page.evaluate(UNFOLD)
    page.wait_for_function(DRAWN)
    before = page.locator(".diagram svg").get_attribute("id")
    page.evaluate("document.body.dataset.theme = 'dark'")
    page.wait_for_function(
        "before => document.querySelector('.diagram svg').id !== before", arg=before
    )
    colour = page.locator(".diagram .cluster-label").first.evaluate(
        "node => getComputedStyle(node.querySelector('span, text') || node).color"
    )
    red = int(colour.split("(")[1].split(",")[0])
    assert red > 150, f"titles are {colour} on a dark page"
    fill = page.locator(".diagram .node.conv rect").first.evaluate(
        "node => getComputedStyle(node).fill"
    )
    assert fill == "rgb({}, {}, {})".format(*bytes.fromhex(COLOURS["conv"].dark_fill[1:]))


def test_full_screen_shows_all_of_a_chart(visit):
    page = visit("models/mobilenet_v4_hybrid_large.html#open=lucid-chart")
    page.wait_for_function(DRAWN)
    frame, chart = page.locator(".diagram-viewport"), page.locator(".diagram-canvas svg")
    outer, inner = frame.bounding_box(), chart.bounding_box()
    assert inner["height"] <= outer["height"] + 1, "as high as its frame"
    assert inner["width"] > outer["width"]
    small = page.locator(".diagram-map")
    assert small.is_visible()
    before = page.locator(".diagram-map span").bounding_box()
    small.click(position={"x": small.bounding_box()["width"] * 0.8, "y": 10})
    assert page.locator(".diagram-map span").bounding_box()["x"] > before["x"] + 100
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("document.querySelector('.diagram-map').hidden")
    outer, inner = frame.bounding_box(), chart.bounding_box()
    assert inner["x"] >= outer["x"] - 1
    assert inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 1


@pytest.mark.parametrize(("kind", "begins"), [("SVG", "<svg "), ("Mermaid", "%%{init: ")])
def test_charts_are_saved(visit, kind, begins):
    page = visit("models/mobilenet_v4_conv_small.html#open=lucid-chart")
    page.wait_for_function(DRAWN)
    for place, name in ((".lucid-tools", kind), (".diagram-tools", kind)):
        with page.expect_download() as saved:
            page.locator(place).get_by_text(name, exact=True).click()
        suffix = {"SVG": ".svg", "Mermaid": ".mmd"}[kind]
        assert saved.value.suggested_filename == f"mobilenet_v4_conv_small{suffix}"
        text = Path(saved.value.path()).read_text(encoding="utf-8")
        assert text.startswith(begins)
        assert "mobilenet_v4_conv_small" in text
    if kind == "Mermaid":
        model = models.mobilenet_v4_conv_small()
        assert text.strip() == lucid.visual.mermaid(model, (1, 3, 224, 224)).strip()


# -- rows of stages ---------------------------------------------------------------------------


def opened(page: Any) -> list[str]:
    return page.evaluate(
        "[...document.querySelectorAll('.lucid-stages details[open]')].map(d => d.dataset.part)"
    )


def settled(page: Any, names: list[str]) -> None:
    page.wait_for_function(
        """names => JSON.stringify(names) === JSON.stringify(
            [...document.querySelectorAll('.lucid-stages details[open]')].map(d => d.dataset.part)
        )""",
        arg=names,
    )


def summary_of(page: Any, part: str) -> Any:
    return page.locator(f'details[data-part="{part}"] > summary')


@pytest.mark.parametrize("width", [390, 720, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_whole_network_is_seen_first(visit, width, scheme):
    """Every stage below the last, nothing wider than the page; on a large one no scrolling."""
    page = visit("models/mobilenet_v4_hybrid_large.html", width=width, color_scheme=scheme)
    stages = page.locator(".lucid-stages > ol > li")
    assert stages.count() == 8
    boxes = [stages.nth(index).bounding_box() for index in range(8)]
    assert all(a["y"] + a["height"] <= b["y"] for a, b in pairwise(boxes))
    whole = page.locator(".lucid-stages").bounding_box()
    assert whole["height"] <= (700 if width >= 720 else 1100)
    for box in page.locator(".lucid-stages .lucid-row:visible").all():
        assert box.evaluate("row => row.scrollWidth <= row.clientWidth")
    assert "10 × UIB ExtraDW, 4 × MQA, UIB ConvNext" in stages.nth(3).inner_text()
    assert opened(page) == []


def test_rows_open_and_the_address_says_which(visit):
    page = visit("models/mobilenet_v4_hybrid_large.html")
    summary_of(page, "layers.2").click()
    summary_of(page, "layers.2.attention_6").click()
    both = ["layers.2", "layers.2.attention_6"]
    page.wait_for_function("location.hash === '#open=layers.2,layers.2.attention_6'")
    assert page.get_by_text("query.proj", exact=True).first.is_visible()
    page.go_back()
    settled(page, ["layers.2"])
    page.go_back()
    settled(page, [])
    assert page.evaluate("location.hash") == ""
    page.go_forward()
    page.go_forward()
    settled(page, both)
    other = visit("models/mobilenet_v4_hybrid_large.html#open=layers.2,layers.2.attention_6")
    settled(other, both)
    other.evaluate("location.hash = 'some-heading'")
    settled(other, both)


def test_all_rows_open_and_close_at_once(visit):
    page = visit("models/mobilenet_v4_conv_small.html")
    page.get_by_role("button", name="Expand all").click()
    page.wait_for_function("location.hash === '#open=all'")
    # 6 stages with blocks: 5 of convolutions, by two but for the first, and twice 6.
    assert len(opened(page)) == 6 + 1 + 3 * 2 + 2 * 6
    page.get_by_role("button", name="Collapse all").click()
    page.wait_for_function("location.hash === '#open='")
    settled(page, [])
    page.go_back()
    page.wait_for_function("document.querySelectorAll('.lucid-stages details[open]').length > 20")


def test_rows_by_keyboard(visit):
    page = visit("models/mobilenet_v4_conv_small.html")
    focused = "document.activeElement.closest('details').dataset.part"

    def press(*keys: str) -> str:
        for key in keys:
            page.keyboard.press(key)
        return page.evaluate(focused)

    summary_of(page, "conv0").focus()
    assert press("ArrowDown", "ArrowDown", "ArrowDown") == "layers.2"
    press("Enter")
    settled(page, ["layers.2"])
    assert press("Tab") == "layers.2.uib_0"
    press("Space")
    settled(page, ["layers.2", "layers.2.uib_0"])
    assert press("ArrowDown") == "layers.2.uib_1"
    assert press("ArrowRight") == "layers.2.uib_1"
    settled(page, ["layers.2", "layers.2.uib_0", "layers.2.uib_1"])
    assert press("ArrowLeft", "ArrowLeft") == "layers.2"
    press("ArrowLeft")
    assert "layers.2" not in opened(page)
    assert press("Home") == "conv0"
    assert page.url.split("#")[0].endswith("models/mobilenet_v4_conv_small.html")


@pytest.mark.parametrize(
    "link", ["#open=%%%", "#open=nonsense,__proto__", "#open", "#open=&open2=x"]
)
def test_rows_survive_a_damaged_link(visit, link):
    page = visit(f"models/mobilenet_v4_conv_small.html{link}")
    assert opened(page) == []


def test_the_tree_for_a_screen_reader_says_the_network(visit):
    page = visit("models/mobilenet_v4_hybrid_large.html#open=layers.2")
    settled(page, ["layers.2"])
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    tree = [node for node in tree if not node["ignored"]]

    def named(role: str) -> list[tuple[str, bool | None]]:
        found = [node for node in tree if node["role"]["value"] == role]
        return [
            (
                node.get("name", {}).get("value", ""),
                next(
                    (p["value"]["value"] for p in node["properties"] if p["name"] == "expanded"),
                    None,
                ),
            )
            for node in found
        ]

    lists = [name for name, _ in named("list")]
    assert "mobilenet_v4_hybrid_large: 8 stages, 37.8 M parameters, 2.61 G multiply-adds" in lists
    rows = named("DisclosureTriangle")
    first = "conv0 Conv 3×3 24 × 112 × 112 696 parameters 8.13 M multiply-adds"
    assert (first, False) in rows
    (stage,) = [row for row in rows if row[0].startswith("layer3 ")]
    assert stage[0].startswith("layer3 10 × UIB ExtraDW, 4 × MQA, UIB ConvNext 192 × 14 × 14")
    assert stage[1] is True
    assert sum(" MQA: " in name for name, _ in rows) == 4


def test_rows_open_without_scripts_and_from_the_disk(visit, site):
    page = visit(
        Path(site / "models" / "mobilenet_v4_conv_small.html").as_uri(), java_script_enabled=False
    )
    block = page.locator('details[data-part="layers.2.uib_0"] > summary')
    assert not block.is_visible()
    summary_of(page, "layers.2").click()
    block.click()
    assert page.get_by_text("start_dw.conv", exact=True).first.is_visible()
    page = visit(Path(site / "models" / "mobilenet_v4_conv_small.html").as_uri() + "#open=layers.2")
    settled(page, ["layers.2"])
    summary_of(page, "layers.3").click()
    page.wait_for_function("location.hash === '#open=layers.2,layers.3'")


def test_search_works_without_a_server(visit, site):
    page = visit((site / "search.html").as_uri() + "?q=Conv2d")
    page.wait_for_selector("#search-results li a")
    titles = page.locator("#search-results li a").all_inner_texts()
    assert any("Conv2d" in title for title in titles)


#: The text that is too pale on its background: a ratio below 4.5, or 3 for large letters (WCAG AA).
PALE = """() => {
  const parse = (colour) => {
    const parts = colour.match(/[\\d.]+/g).map(Number);
    return parts.length === 4 ? parts : [...parts, 1];
  };
  const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3]));
  const light = (colour) => {
    const part = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(colour[0]) + 0.7152 * part(colour[1]) + 0.0722 * part(colour[2]);
  };
  const pale = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const e = walker.currentNode.parentElement;
    if (!text || e.closest("script, style, noscript, .diagram, :disabled")) continue;
    if (!e.checkVisibility() || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const drawn = e.namespaceURI.endsWith("svg");
    const behind = [];
    for (let a = drawn ? e.closest("svg").parentElement : e; a; a = a.parentElement) {
      const colour = parse(getComputedStyle(a).backgroundColor);
      if (colour[3] > 0) behind.push(colour);
    }
    let back = [255, 255, 255];
    for (const colour of behind.reverse()) back = over(colour, back);
    const [high, low] = [light(over(parse(drawn ? style.fill : style.color), back)), light(back)]
      .sort((a, b) => b - a);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < (large ? 3 : 4.5)) pale.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return pale;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "name", ["index", "performance", "comparison", "explorer", "tutorials/train", "reference/nn"]
)
def test_text_stands_out_from_its_background(visit, name, scheme):
    page = visit(f"{name}.html", color_scheme=scheme)
    assert page.evaluate(PALE) == []


@pytest.mark.parametrize("width", [1400, 1024, 390])
@pytest.mark.parametrize("name", ["index", "performance", "comparison"])
def test_plots_are_as_wide_as_their_column_and_readable(visit, name, width):
    page = visit(f"{name}.html", width=width)
    plots = page.locator(".plot svg:visible, .card svg:visible")
    assert plots.count() >= 3
    for plot in plots.all():
        box = plot.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        drawn = float(plot.get_attribute("viewBox").split()[2])
        assert box["width"] / drawn * 11 > 10  # pixels of the smallest text
        assert ": " in plot.get_attribute("aria-label"), "it says its figures to a screen reader"
        outside = """svg => [...svg.querySelectorAll("text")].filter((text) => {
          const [own, all] = [text.getBoundingClientRect(), svg.getBoundingClientRect()];
          return own.left < all.left - 1 || own.right > all.right + 1;
        }).map((text) => text.textContent)"""
        assert plot.evaluate(outside) == []


def test_rows_are_folded_away_and_open(visit):
    page = visit("performance.html")
    folds = page.locator("details.rows:has(table)").all()  # others hold a plot
    unfolded = [fold.get_attribute("open") is not None for fold in folds]
    assert unfolded.count(False) >= 4
    assert unfolded.count(True) <= 1, "of the kinds of machine the first"
    for fold, shown in zip(folds, unfolded, strict=True):
        assert fold.locator("table").is_visible() == shown
        fold.locator("summary").click()
        assert fold.locator("table").is_visible() != shown


@pytest.mark.parametrize("width", [1400, 1024])
def test_help_texts_fit_their_boxes(visit, width):
    page = visit("reference/command_line.html", width=width)
    wide = "all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText)"
    assert page.locator("pre").evaluate_all(wide) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_code_is_not_underlined(visit, scheme):
    page = visit("index.html", color_scheme=scheme)
    lines = "all => all.map(e => getComputedStyle(e).textDecorationLine)"
    assert set(page.locator(".highlight .nn").evaluate_all(lines)) == {"none"}
    link = "e => getComputedStyle(e).textDecorationLine"
    assert page.locator("article p a.reference").first.evaluate(link) == "underline"


# -- explorer ---------------------------------------------------------------------------------


def explorer(visit: Any, link: str = "", **settings: Any) -> Any:
    page = visit(f"explorer.html{link}", **settings)
    page.wait_for_selector("#explorer-app[data-ready]")
    page.wait_for_function(DRAWN)
    return page


def total(page: Any, key: str, model: str = "a") -> int:
    cell = page.locator(f'[data-total="{model}-{key}"]')
    return int(cell.get_attribute("data-value"))


def open_stage(page: Any, name: str) -> None:
    page.locator(f'details[data-stage="{name}"] > summary').click()


def control(page: Any, path: str) -> Any:
    return page.locator(f'#explorer-form [data-path="{path}"]')


def assert_counts(page: Any, cfg: Any, classes: int = 1000, size: tuple[int, int] = (224, 224)):
    ours = lucid.summary(models.MobileNet_V4(cfg, classes), (1, 3, *size))
    assert total(page, "params") == ours.total_params
    assert total(page, "macs") == ours.total_macs
    assert total(page, "activations") == ours.total_activations


def test_explorer_shows_each_variant(visit):
    page = explorer(visit)
    for name in models.list_models("mobilenet_v4_"):
        page.locator("#explorer-variant").select_option(name)
        assert_counts(page, getattr(configs, name.removeprefix("mobilenet_v4_"))())
        page.locator("#explorer-rows").select_option("layers")
        layers = lucid.summary(models.create_model(name), (1, 3, 32, 32)).layers
        assert page.locator("#explorer-layers tbody tr").count() == len(layers)


def test_explorer_shows_released_architectures_and_pools(visit):
    page = explorer(visit)
    for name in ("mobilenetv4_conv_small_050", "mobilenetv4_hybrid_medium_075"):
        page.locator("#explorer-variant").select_option(name)
        assert_counts(page, configs.released(name))
    name = "mobilenetv4_conv_blur_medium"
    page.locator("#explorer-variant").select_option(name)
    cfg = configs.released(name)
    assert_counts(page, cfg)
    open_stage(page, "layer2")
    control(page, "layer2.aa").select_option("avg")
    cfg["layer2"]["aa"] = "avg"
    assert_counts(page, cfg)
    control(page, "layer2.aa").select_option("none")
    del cfg["layer2"]["aa"]
    assert_counts(page, cfg)


def test_explorer_edits_in_the_form(visit):
    page = explorer(visit)
    cfg = configs.conv_small()
    open_stage(page, "layer3")
    control(page, "layer3.block_specs[1].expand").fill("3.5")
    cfg["layer3"]["block_specs"][1]["expand"] = 3.5
    assert_counts(page, cfg)
    control(page, "layer3.block_specs[0].mid_dw_downsample").uncheck()
    cfg["layer3"]["block_specs"][0]["mid_dw_downsample"] = False
    assert_counts(page, cfg)
    control(page, "layer3.act").select_option("gelu")
    cfg["layer3"]["act"] = "gelu"
    assert_counts(page, cfg)
    page.get_by_label("Add a block behind layer3.block_specs[5]").click()
    rows = cfg["layer3"]["block_specs"]
    rows.append({**rows[5]})
    cfg["layer3"]["num_blocks"] = 7
    assert_counts(page, cfg)
    control(page, "layer3.block_specs[6].attention").check()
    attention = {"num_heads": 4, "key_dim": 64, "value_dim": 64, "kv_stride": 1}
    attention |= {"query_h_stride": 1, "query_w_stride": 1}
    attention |= dict.fromkeys(("use_layer_scale", "use_multi_query", "use_residual"), True)
    rows[6]["attention"] = attention
    assert_counts(page, cfg)
    page.get_by_label("Remove layer3.block_specs[2]").click()
    del rows[2]
    cfg["layer3"]["num_blocks"] = 6
    assert_counts(page, cfg)
    # The next stage takes what the last block of this one gives.
    control(page, "layer3.block_specs[5].out").fill("112")
    rows[5]["out"] = cfg["layer4"]["block_specs"][0]["in"] = 112
    assert_counts(page, cfg)
    page.locator("#explorer-classes").fill("10")
    page.locator("#explorer-height").fill("128")
    assert_counts(page, cfg, 10, (128, 224))
    # What stands in the JSON is a configuration for lucid.
    page.locator(".explorer-json > summary").click()
    assert json.loads(page.locator("#explorer-json").input_value()) == cfg
    page.get_by_role("button", name="Undo all edits").click()
    assert_counts(page, configs.conv_small(), 10, (128, 224))


def test_explorer_changes_the_kind_of_a_stage(visit):
    page = explorer(visit)
    open_stage(page, "layer1")
    control(page, "layer1.block_name").select_option("fused_ib")
    cfg = json.loads(page.locator("#explorer-json").input_value())
    assert cfg["layer1"]["block_name"] == "fused_ib"
    assert_counts(page, cfg)


def test_explorer_edits_the_json(visit):
    page = explorer(visit)
    cfg = configs.hybrid_medium()
    cfg["layer4"]["block_specs"][0] = list(cfg["layer4"]["block_specs"][0].values())
    page.locator(".explorer-json > summary").click()
    page.locator("#explorer-json").fill(json.dumps(cfg))
    assert_counts(page, cfg)


def test_explorer_explains_what_is_wrong(visit):
    page = explorer(visit)
    open_stage(page, "layer4")
    before = total(page, "params")
    path = "layer4.block_specs[1].start_dw_kernel"
    control(page, path).fill("4")
    cfg = configs.conv_small()
    cfg["layer4"]["block_specs"][1]["start_dw_kernel"] = 4
    with pytest.raises(ValueError, match="start_dw_kernel") as caught:
        models.MobileNet_V4(cfg)
    error = page.locator("#explorer-error")
    assert error.locator("p").inner_text() == str(caught.value)
    assert control(page, path).get_attribute("aria-invalid") == "true"
    assert total(page, "params") == before
    control(page, path).fill("7")
    assert not error.is_visible()
    assert control(page, path).get_attribute("aria-invalid") is None
    assert total(page, "params") > before

    page.locator(".explorer-json > summary").click()
    page.locator("#explorer-json").fill('{"conv0": ')
    assert "no JSON" in error.inner_text()
    page.locator("#explorer-json").fill("[]")
    with pytest.raises(TypeError) as wrong:
        models.MobileNet_V4([])
    assert error.inner_text().strip() == str(wrong.value)


def test_explorer_shares_its_state_by_the_link(visit):
    page = explorer(visit)
    page.locator("#explorer-variant").select_option("mobilenet_v4_conv_medium")
    open_stage(page, "layer2")
    control(page, "layer2.block_specs[1].expand").fill("5")
    page.locator("#explorer-other").select_option("mobilenet_v4_hybrid_large")
    page.locator("#explorer-width").fill("160")
    page.wait_for_function("location.hash.includes('acfg') && location.hash.includes('x160')")
    link = page.evaluate("location.hash")
    other = explorer(visit, link)
    for model in ("a", "b"):
        for key in ("params", "macs", "activations"):
            assert total(other, key, model) == total(page, key, model)
    assert other.locator("#explorer-title").inner_text() == "mobilenet_v4_conv_medium, edited"
    other.wait_for_function("document.querySelectorAll('.diagram[data-drawn]').length === 2")
    assert other.locator("#explorer-layers figure").count() == 2


def test_explorer_keeps_the_model_to_compare_with(visit):
    page = explorer(visit)
    open_stage(page, "layer4")
    control(page, "layer4.block_specs[1].expand").fill("2")
    page.locator("#explorer-other").select_option("this")
    kept = total(page, "params", "b")
    assert kept == total(page, "params")
    control(page, "layer4.block_specs[1].expand").fill("6")
    assert total(page, "params", "b") == kept
    assert total(page, "params") > kept


@pytest.mark.parametrize(
    "link",
    ["#a=nonsense", "#a=__proto__", "#acfg=%%%&a=mobilenet_v4_conv_small", "#classes=-1&size=0x"],
)
def test_explorer_survives_a_damaged_link(visit, link):
    page = explorer(visit, link)
    assert_counts(page, configs.conv_small())
    notice = page.locator("#explorer-notice")
    assert notice.is_visible()
    assert "This link is damaged" in notice.inner_text()
    assert "mobilenet_v4_conv_small, 1000 classes, 224×224" in notice.inner_text()
    page.locator("#explorer-variant").select_option("mobilenet_v4_conv_medium")
    assert not notice.is_visible()


def test_explorer_says_which_part_of_a_link_is_damaged(visit):
    page = explorer(visit, "#a=mobilenet_v4_conv_large&acfg=%%%&b=nothing")
    text = page.locator("#explorer-notice").inner_text()
    assert "its changes to mobilenet_v4_conv_large cannot be read" in text
    assert 'there is no model "nothing"' in text
    whole = explorer(visit, "#a=mobilenet_v4_conv_large&classes=10&size=96x96")
    assert not whole.locator("#explorer-notice").is_visible()


@pytest.mark.parametrize("width", [1400, 1024, 390])
def test_explorer_keeps_totals_and_errors_in_sight(visit, width):
    page = explorer(visit, width=width, height=800)
    for name in ("layer1", "layer2", "layer3", "layer4"):
        open_stage(page, name)
    last = control(page, "layer4.block_specs[3].start_dw_kernel")
    last.focus()
    last.scroll_into_view_if_needed()
    page.wait_for_function("scrollY > 300")
    sight = page.locator(".explorer-sight").bounding_box()
    assert sight["y"] >= 0
    assert sight["y"] + sight["height"] < 300
    on_top = "p => document.elementFromPoint(p.x, p.y).closest('.explorer-sight') !== null"
    totals = page.locator('[data-total="a-params"]').bounding_box()
    point = {"x": totals["x"] + totals["width"] / 2, "y": totals["y"] + totals["height"] / 2}
    assert page.evaluate(on_top, point)
    last.fill("4")
    error = page.locator("#explorer-error").bounding_box()
    assert 0 <= error["y"] < 400


def test_explorer_opens_from_the_disk(visit, site):
    """Without a server, as a file."""
    page = visit(Path(site / "explorer.html").as_uri())
    page.wait_for_selector("#explorer-app[data-ready]")
    page.wait_for_function(DRAWN)
    assert_counts(page, configs.conv_small())


def test_explorer_by_keyboard_at_a_phones_width(visit):
    page = explorer(visit, width=390, height=844)
    page.locator('details[data-stage="layer3"] > summary').focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    focused = page.evaluate("document.activeElement.dataset.path")
    assert focused == "layer3.block_name"
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
