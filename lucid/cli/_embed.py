"""``lucid embed``: images as the features that a model sees in them."""

from __future__ import annotations

import argparse

import numpy as np

from lucid._files import atomic_path
from lucid.cli._arguments import AddCommand
from lucid.cli._images import add_arguments, find_images, run, wants_parts, write_parts
from lucid.cli._output import Failures, add_output, check_new
from lucid.cli._weights import open_model
from lucid.distributed._tables import Features


def add_parsers(add_command: AddCommand) -> None:
    """Add the command."""
    parser = add_command(
        "embed",
        embed,
        "Write the pooled features of images. The file holds `features`, (N, 1280) float32, and "
        "`files`, the N names; numpy.load reads it. Images are found, and unreadable ones passed "
        "over, as by `lucid predict`.",
        "  lucid embed photos/ --weights timm/mobilenetv4_conv_small.e2400_r224_in1k -o o.npz\n"
        "  lucid embed 'shards-{000..099}.tar' --weights w.npz -o features/ --shard 3/8",
    )
    add_arguments(parser)
    add_output(parser, "the .npz file to write, or a folder for parts", required=True)


def embed(args: argparse.Namespace) -> int:
    """Run ``lucid embed``."""
    in_parts = wants_parts(args)
    if not in_parts:
        check_new(args.output, "--output", args.overwrite, (".npz",))
    failures = Failures("embed")
    source = find_images(args, failures)
    model = open_model("embed", args.weights, args.model).model
    if in_parts:
        return write_parts(model, Features(), source, args, failures)
    names: list[str] = []
    rows: list[np.ndarray] = []
    for item, row in run(model, Features(), source, args, failures):
        names.append(item.name)
        rows.append(row)
    with atomic_path(args.output) as path:
        np.savez(path, features=np.stack(rows), files=np.array(names))
    print(f"{len(names)} × {model.head_hidden_size} features in {args.output}")
    return failures.status
