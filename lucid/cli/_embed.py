"""``lucid embed``: images as the features that a model sees in them."""

from __future__ import annotations

import argparse

import numpy as np

from lucid._files import atomic_path
from lucid.autograd import no_grad
from lucid.cli._arguments import AddCommand
from lucid.cli._images import add_arguments, find_images, read_batches
from lucid.cli._output import Failures, add_output, check_new
from lucid.cli._weights import open_model
from lucid.data.transforms import for_model


def add_parsers(add_command: AddCommand) -> None:
    """Add the command."""
    parser = add_command(
        "embed",
        embed,
        "Write the pooled features of images. The file holds `features`, (N, 1280) float32, and "
        "`files`, the N names; numpy.load reads it. Images are found, and unreadable ones passed "
        "over, as by `lucid predict`.",
        "  lucid embed photos/ --weights timm/mobilenetv4_conv_small.e2400_r224_in1k -o photos.npz",
    )
    add_arguments(parser)
    add_output(parser, "the .npz file to write", required=True)


def embed(args: argparse.Namespace) -> int:
    """Run ``lucid embed``."""
    check_new(args.output, "--output", args.overwrite, (".npz",))
    failures = Failures("embed")
    paths = find_images(args.images, failures)
    model = open_model("embed", args.weights, args.model).model
    names: list[str] = []
    features: list[np.ndarray] = []
    for good, images in read_batches(paths, for_model(model), args.batch_size, failures):
        with no_grad():
            features.append(
                model.forward_head(model.forward_features(images), pre_logits=True).data
            )
        names += map(str, good)
    with atomic_path(args.output) as path:
        np.savez(path, features=np.concatenate(features), files=np.array(names))
    print(f"{len(names)} × {model.head_hidden_size} features in {args.output}")
    return failures.status
