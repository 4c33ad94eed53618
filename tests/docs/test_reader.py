"""What a reader needs: text that can be read in light and dark, and answers two clicks away."""

from __future__ import annotations

import pytest

# Text whose contrast with what lies behind it is below WCAG 2.1's level AA (1.4.3): 4.5, or 3 for
# large text. Behind is what the browser finds there, shapes of drawings included.
UNREADABLE = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (colour, under) => {  // colours as the browser writes them, blended
    canvas.fillStyle = `rgb(${under.join()})`;
    canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map(
      (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const filled = (element, style) =>
    element instanceof SVGElement && element.tagName !== "svg"
      ? (element.closest("text, marker") ? "transparent" : style.fill)
      : style.backgroundColor;
  const behind = (element, x, y) => {
    const pile = document.elementsFromPoint(x, y).reverse();
    return pile.reduce((under, one) => {
      if (one === element || element.contains(one)) return under;
      const style = getComputedStyle(one), fill = filled(one, style);
      return fill === "none" || style.opacity === "0" ? under : over(fill, under);
    }, over(getComputedStyle(document.body).backgroundColor, [255, 255, 255]));
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true }))
      continue;
    if (element.closest("script, style, noscript, [aria-hidden=true], .visually-hidden, :disabled"))
      continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    window.scrollTo({ top: scrollY + box.top - innerHeight / 2, behavior: "instant" });
    const place = range.getClientRects()[0];
    const x = place.left + place.width / 2, y = place.top + place.height / 2;
    if (!(x > 0 && x < innerWidth && y > 0 && y < innerHeight)) continue;
    if (!document.elementsFromPoint(x, y).some((one) => one === element || one.contains(element) || element.contains(one)))
      continue;
    const style = getComputedStyle(element);
    let under = behind(element, x, y);
    if (!(element instanceof SVGElement)) under = over(style.backgroundColor, under);
    const ink = over(element instanceof SVGElement ? style.fill : style.color, under);
    const [a, b] = [light(ink), light(under)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (contrast < (large ? 3 : 4.5))
      found.add(`${node.data.trim().slice(0, 30)}: ${contrast.toFixed(2)}, ${ink} on ${under} (${element.tagName}.${element.getAttribute("class")})`);
  }
  return [...found].slice(0, 20);
}"""  # noqa: E501
PAGES = [
    "index",
    "performance",
    "comparison",
    "checkpoints",
    "installation",
    "from_pytorch",
    "names",
    "mobilenet_v4",
    "design",
    "explorer",
    "models/mobilenet_v4_hybrid_large",
    "reference/optim",
    "reference/command_line",
    "tutorials/train",
    "tutorials/own_network",
    "_modules/lucid/nn/modules/_conv",
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_all_text_can_be_read(visit, name, scheme):
    page = visit(f"{name}.html", color_scheme=scheme)
    page.wait_for_load_state("networkidle")
    assert page.evaluate(UNREADABLE) == []


def test_unreadable_text_is_found(visit):
    page = visit("index.html")
    page.evaluate("document.querySelector('article p').style.color = '#999'")
    assert any("A deep-learning library" in told for told in page.evaluate(UNREADABLE))


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize(
    ("way", "answer"),
    [
        (["Classify a folder"], "lucid train --data"),
        (["Classify a folder"], "lucid predict"),
        (["Use trained weights"], "lucid predict"),
        (["Is it fast on my machine?"], "lucid bench"),
    ],
)
def test_a_question_is_answered_within_two_clicks(visit, way, answer, width):
    """How do I classify my pictures; is it fast on my machine."""
    page = visit("index.html", width=width, height=844)
    assert len(way) <= 2
    for words in way:
        page.get_by_role("main").or_(page.locator("article")).first.get_by_role(
            "link", name=words
        ).click()
        page.wait_for_load_state()
    assert answer in page.locator("article").inner_text()
    if page.url.endswith("#on-your-machine"):
        place = page.get_by_role("heading", name="On your machine").bounding_box()
        assert 0 <= place["y"] < 844 / 2
