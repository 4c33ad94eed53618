"""``lucid diagram``: a model as a chart, in a file or as text."""

from __future__ import annotations

import argparse
import html
from typing import Any

from lucid.cli._arguments import (
    AddCommand,
    add_model,
    build,
    input_shape,
    model_name,
    positive_int,
)
from lucid.cli._output import add_output, check_new, write
from lucid.visual import mermaid, svg
from lucid.visual._chart import LEVELS, REPEATS, layers_of
from lucid.visual._outline import outline
from lucid.visual._picture import rows_html, static

SUFFIXES = (".mmd", ".svg", ".html")

_PAGE = """\
<!DOCTYPE html>
<html lang="en" data-theme="auto">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ margin: 1rem; font-family: system-ui, sans-serif; }}
.lucid-model {{ max-width: 60rem; }}
figure {{ margin: 0; overflow: auto; }}
pre {{ overflow: auto; }}
{css}</style>
</head>
<body>
<h1>{title}</h1>
<div class="lucid-model">{rows}</div>
{image}
<details>
<summary>The same as Mermaid</summary>
<pre>{chart}</pre>
</details>
<script>
{script}</script>
</body>
</html>
"""


def add_parsers(add_command: AddCommand) -> None:
    """Add the command."""
    parser = add_command(
        "diagram",
        draw,
        "Draw a model: its stages, blocks or layers, shapes and the ways of the data. As a Mermaid "
        "chart, an SVG image or a page whose stages open into blocks and layers; neither of them "
        "needs anything else to be seen.",
        "  lucid diagram mobilenet_v4_conv_medium -o medium.svg\n"
        "  lucid diagram mobilenet_v4_hybrid_large --level stage -o hybrid.svg\n"
        "  lucid diagram mobilenet_v4_hybrid_medium --depth 3 --direction TB > hybrid.mmd",
    )
    add_model(parser)
    add_output(parser, "ends in .mmd (Mermaid), .svg or .html (default: print Mermaid)")
    parser.add_argument(
        "--level",
        choices=LEVELS,
        default="layer",
        help="a box a stage, a block in its stage, or a layer as --depth says (default: layer)",
    )
    parser.add_argument(
        "--depth",
        type=_depth,
        default=4,
        help="of layers: draw modules this deep as one box; `all` opens everything (default: 4)",
    )
    parser.add_argument(
        "--direction",
        choices=("LR", "RL", "TB", "BT"),
        help="from left to right, from top to bottom, … (default: LR; images of stages and blocks "
        "are rows with figures, from top to bottom)",
    )
    parser.add_argument(
        "--repeats",
        choices=tuple(REPEATS),
        default="like",
        help="of neighbours alike in kind, or in all shapes and settings too, draw one with the "
        "count; or draw all (default: like)",
    )
    parser.add_argument("--no-shapes", action="store_true", help="leave the shapes out")


def _depth(text: str) -> int | None:
    return None if text == "all" else positive_int(text)


def draw(args: argparse.Namespace) -> int:
    """Run ``lucid diagram``."""
    name = model_name(args.model)
    suffix = ".mmd"
    if args.output is not None:
        suffix = check_new(args.output, "--output", args.overwrite, SUFFIXES).suffix.lower()
    model, shape = build(args), input_shape(args)
    options: dict[str, Any] = {
        "depth": args.depth,
        "collapse_repeats": REPEATS[args.repeats],
        "show_shapes": not args.no_shapes,
        "level": args.level,
    }
    if args.direction is not None:
        options["direction"] = args.direction
    if suffix == ".svg":
        text = svg(model, shape, **options)
    elif suffix == ".mmd":
        text = mermaid(model, shape, **options)
    else:
        # The rows show stages and blocks; an image of the layers stands below them.
        image = svg(model, shape, **options) if args.level == "layer" else ""
        text = _PAGE.format(
            title=html.escape(name),
            rows=rows_html(outline(layers_of("diagram", model, shape))),
            image=f'<figure tabindex="0">\n{image}</figure>' if image else "",
            chart=html.escape(mermaid(model, shape, **options)),
            css=static("lucid-model.css"),
            script=static("lucid-model.js"),
        )
    write(text, "-" if args.output is None else args.output)
    if args.output is not None:
        print(args.output)
    return 0
