"""``lucid quantize``: a trained model with 8-bit integers, and what that costs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import lucid
from lucid import quantization
from lucid.cli._arguments import AddCommand, positive_int
from lucid.cli._data import add_unreadable, check_classes, checked, load, unreadable_share
from lucid.cli._errors import CommandError, UsageError, reading_run
from lucid.cli._output import Progress, add_output, check_new, tell
from lucid.cli._weights import check_weights, open_model
from lucid.data import DataLoader, Dataset, Images, Subset, load_images, readable
from lucid.data._dataset import with_transform
from lucid.models import MobileNet_V4
from lucid.models._checkpoints import as_metadata
from lucid.onnx import export
from lucid.quantization._observers import CALIBRATIONS
from lucid.training import Evaluation, Recipe, RunFiles
from lucid.training._recipe import SIZE

# So many layers are listed, those that lose most.
_LISTED = 10


def add_parsers(add_command: AddCommand) -> None:
    """Add the command."""
    parser = add_command(
        "quantize",
        quantize_model,
        "Write trained weights with 8-bit integers, about a quarter as large: as an ONNX file that "
        "ONNX Runtime and OpenVINO run, or as weights that lucid.quantization.restore reads. "
        "Training images show which values the layers take; the accuracy on the test images is "
        "printed before and after, and which layers lose most.",
        "  lucid quantize runs/mobilenetv4_conv_small-digits -o digits.onnx\n"
        "  lucid quantize flowers.safetensors --data flowers/ -o flowers8.onnx --images 500",
    )
    parser.add_argument(
        "weights",
        type=Path,
        help="a run's folder or a file that `lucid train` wrote; with --data any weights that "
        "`lucid predict` takes",
    )
    add_output(parser, "ends in .onnx, .safetensors or .npz", required=True)
    parser.add_argument(
        "--data", help="a folder with a folder of pictures for each class (default: the training's)"
    )
    parser.add_argument(
        "--calibration",
        choices=tuple(CALIBRATIONS),
        default="mse",
        help="how the range of a layer's values is chosen (default: mse)",
    )
    parser.add_argument(
        "--images",
        type=positive_int,
        default=256,
        help="so many training images show the ranges (default: 256)",
    )
    parser.add_argument(
        "--skip",
        nargs="+",
        default=(),
        metavar="MODULE",
        help="modules that stay in floating point, by their paths in `lucid summary`",
    )
    parser.add_argument("--batch-size", type=positive_int, default=32, help="default: 32")
    add_unreadable(parser, "default: that of the training")


def quantize_model(args: argparse.Namespace) -> int:
    """Run ``lucid quantize``."""
    output = check_new(args.output, "--output", args.overwrite, (".onnx", ".safetensors", ".npz"))
    check_weights(args.weights)
    files, recipe = RunFiles(args.weights), Recipe()
    if args.data is None or files.description.is_file():
        with reading_run():
            recipe = files.read_description().recipe
    if args.data is not None:
        recipe = replace(recipe, data=args.data)
    model, classes = open_model("quantize", str(args.weights), None)
    size = model.pretrained_cfg["input_size"][-1] if model.pretrained_cfg else SIZE
    images = load(
        lambda: load_images(
            recipe.data, size, model=model, augment=recipe.augment, limit=recipe.limit
        )
    )
    check_classes(images, classes, model.num_classes)
    for note in images.notes:
        tell("quantize", note)
    share = recipe.max_unreadable if args.max_unreadable is None else args.max_unreadable
    with unreadable_share(share), Progress("image") as progress:
        test, seen = readable(
            [images.test, _calibration_images(images, args.images)],
            share,
            tell=partial(tell, "quantize"),
            after_each=checked(progress),
        )
    before = Evaluation.measure(model, test, images.classes, batch_size=args.batch_size)
    try:
        small: Any = lucid.quantize(
            model,
            DataLoader(seen, args.batch_size),
            calibration=args.calibration,
            skip=args.skip,
        )
    except ValueError as error:
        kind = UsageError if "skip" in str(error) else CommandError
        raise kind(str(error).removeprefix("quantize: ")) from error
    after = Evaluation.measure(small, test, images.classes, batch_size=args.batch_size)
    _write(small, output, size, images.classes, model)
    print(small.layer_noise.text(_LISTED))
    print()
    for name, found in (("before", before), ("after", after)):
        score = found.score
        print(
            f"{name}: test accuracy {100 * score.accuracy:.2f} % ({score.correct} of {score.count})"
        )
    full = sum(tensor.data.nbytes for tensor in model.state_dict().values())
    written = output.stat().st_size
    print(f"{output}: {written / 1e6:.2f} MB, {100 * written / full:.1f} % of {full / 1e6:.2f} MB")
    return 0


def _calibration_images(images: Images, count: int) -> Dataset:
    """Return some of the training images, from all over them, none changed at random."""
    train = images.train
    if images.transform is not None:
        train = with_transform(train, images.transform)
    places = np.linspace(0, len(train) - 1, min(count, len(train))).round().astype(int)
    return Subset(train, places.tolist())


def _write(
    small: lucid.nn.Module, output: Path, size: int, classes: list[str], model: MobileNet_V4
) -> None:
    """Write the quantised model in the format that the file's name says."""
    if output.suffix == ".onnx":
        export(small, output, (2, model.in_channels, size, size), classes=classes)
        return
    known = {**(model.pretrained_cfg or {}), "architecture": model.name, "classes": classes}
    state = quantization.integer_state(small)
    lucid.save(state, output, metadata=as_metadata(known))
