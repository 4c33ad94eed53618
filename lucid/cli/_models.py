"""``lucid models`` and ``lucid summary``: what there is, and what is in it."""

from __future__ import annotations

import argparse
import json

from lucid import models
from lucid.cli._arguments import (
    AddCommand,
    add_model,
    build,
    input_shape,
    positive_int,
)
from lucid.cli._errors import UsageError
from lucid.models._published import IMAGENET_MEAN, IMAGENET_STD
from lucid.nn.utils import skip_init
from lucid.visual import summary
from lucid.visual._summary import table


def add_parsers(add_command: AddCommand) -> None:
    """Add both commands."""
    parser = add_command(
        "models",
        list_models,
        "List the models with their parameters and multiply-adds. Counted for 1000 classes and "
        "one 224×224 image of three channels. Names with mobilenetv4 are those of timm, and build "
        "what the authors released and weights are published for; those with mobilenet_v4 build "
        "the form of lucid's documentation page, with ReLU6 and the last convolution before the "
        "pooling.",
        "  lucid models hybrid --json\n  lucid models --pretrained conv_small",
    )
    parser.add_argument("filter", nargs="?", default="", help="only names that contain this")
    parser.add_argument(
        "--pretrained", action="store_true", help="list the published weights instead"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")

    parser = add_command(
        "summary",
        show_summary,
        "Show the layers of a model. One row for each layer, in the order they run: output "
        "shape, parameters, multiply-adds.",
        "  lucid summary mobilenet_v4_conv_small --size 256 --depth 2",
    )
    add_model(parser)
    parser.add_argument(
        "--depth", type=positive_int, help="fold modules this deep into one row (default: none)"
    )


def list_models(args: argparse.Namespace) -> int:
    """Run ``lucid models``."""
    names = models.list_models(args.filter, pretrained=args.pretrained)
    if not names:
        raise UsageError(f"no model's name contains {args.filter!r}; `lucid models` lists them all")
    if args.pretrained:
        return _list_pretrained(args)
    counts = {
        name: summary(skip_init(models.create_model, name), (1, 3, 224, 224)) for name in names
    }
    if args.json:
        rows = [
            {"name": name, "parameters": c.total_params, "multiply_adds": c.total_macs}
            for name, c in counts.items()
        ]
        print(json.dumps(rows, indent=2))
    else:
        header = ("model", "parameters", "multiply-adds")
        body = [(name, f"{c.total_params:,}", f"{c.total_macs:,}") for name, c in counts.items()]
        print(table([header, *body], left=1))
    return 0


def _list_pretrained(args: argparse.Namespace) -> int:
    entries = models.list_pretrained(args.filter)
    if args.json:
        print(json.dumps([{**entry._asdict(), "tag": entry.tag} for entry in entries], indent=2))
        return 0
    header = ("weights", "parameters", "size", "top-1 in % at size", "mean, std", "licence")
    body = [
        (
            entry.name,
            f"{entry.parameters:,}",
            str(entry.input_size[-1]),
            entry.accuracies() or f"({entry.num_classes:,} classes)",
            "ImageNet's" if entry.mean == IMAGENET_MEAN else f"{entry.mean[0]}, {entry.std[0]}",
            entry.license,
        )
        for entry in entries
    ]
    print(table([header, *body], left=1))
    mean, std = (" ".join(map(str, values)) for values in (IMAGENET_MEAN, IMAGENET_STD))
    print(f"ImageNet's mean is {mean}, its standard deviation {std}.")
    return 0


def show_summary(args: argparse.Namespace) -> int:
    """Run ``lucid summary``."""
    print(summary(build(args), input_shape(args), depth=args.depth))
    return 0
