"""``lucid export``: a model as an ONNX file, and how far its outputs are from lucid's."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import cast

import numpy as np

from lucid import models, nn
from lucid._extras import install
from lucid.autograd import no_grad
from lucid.autograd._tensor import wrap
from lucid.cli._arguments import AddCommand, image_size, model_name, non_negative_int, positive_int
from lucid.cli._errors import CommandError, UsageError
from lucid.cli._output import add_output, check_new, tell
from lucid.cli._predict import class_names, read_classes
from lucid.cli._weights import Opened, open_model
from lucid.data.transforms._presets import for_channels
from lucid.models import MobileNet_V4
from lucid.models._checkpoints import DEFAULT
from lucid.onnx import ExportError, export
from lucid.onnx._export import DEFAULT_OPSET
from lucid.web import write_page

# Outputs that differ by more than this part of the largest are no rounding.
_TOLERANCE = 1e-3


def add_parsers(add_command: AddCommand) -> None:
    """Add the command."""
    parser = add_command(
        "export",
        export_model,
        "Write a model as an ONNX file, for ONNX Runtime, OpenVINO, browsers and phones. The file "
        "takes any number of images and says itself what images it expects and what its classes "
        "are called. Where ONNX Runtime is installed, it runs the file and says how far the "
        "outputs differ from lucid's.",
        "  lucid export timm/mobilenetv4_conv_small.e2400_r224_in1k -o small.onnx\n"
        "  lucid export runs/mobilenetv4_conv_small-digits -o digits.onnx --softmax\n"
        "  lucid export mobilenetv4_conv_medium --weights w.safetensors -o m.onnx --dynamic-size",
    )
    parser.add_argument(
        "model",
        help="a name that `lucid models` lists, or weights: a file, a run's folder, a name that "
        "`lucid models --pretrained` lists, or a Hugging Face repo id",
    )
    add_output(parser, "ends in .onnx", required=True)
    parser.add_argument(
        "--weights", help="the weights of the model that is named (default: fresh random ones)"
    )
    parser.add_argument(
        "--size",
        type=image_size,
        metavar="PIXELS",
        help="height and width of the images; HxW if they differ (default: what the weights say, "
        "or 224)",
    )
    parser.add_argument(
        "--dynamic-size", action="store_true", help="let the file take images of any size"
    )
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        help="let the file take so many images only (default: any number)",
    )
    parser.add_argument(
        "--opset",
        type=positive_int,
        default=DEFAULT_OPSET,
        help=f"version of ONNX's operators (default: {DEFAULT_OPSET})",
    )
    parser.add_argument("--softmax", action="store_true", help="end with probabilities")
    parser.add_argument(
        "--keep-batch-norm",
        action="store_true",
        help="leave batch norms as they are, not multiplied into the convolutions",
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names of the classes: one a line, or a JSON list (default: those of the training, "
        "ImageNet's for 1000 classes)",
    )
    parser.add_argument(
        "--web",
        type=Path,
        metavar="FOLDER",
        help="also write a page there that classifies pictures in a browser with the model; serve "
        "the folder, such as by `python -m http.server`",
    )
    parser.add_argument(
        "--runtime",
        type=Path,
        metavar="FOLDER",
        help="onnxruntime-web's files for --web (default: fetched by npm, once)",
    )
    parser.add_argument(
        "--num-classes", type=non_negative_int, help="without weights (default: 1000)"
    )


def export_model(args: argparse.Namespace) -> int:
    """Run ``lucid export``."""
    check_new(args.output, "--output", args.overwrite, (".onnx",))
    if args.web is not None and args.softmax:
        raise UsageError("--web: the page takes logits; leave out --softmax")
    given = None if args.classes is None else read_classes(args.classes)
    opened = _open(args)
    model = opened.model
    known = model.pretrained_cfg or {}
    size = args.size or known.get("input_size", DEFAULT["input_size"])[1:]
    shape = (args.batch_size or 2, model.in_channels, *size)
    weighted = model.pretrained_cfg is not None
    names = class_names(opened, given, model.num_classes) if given is not None or weighted else None
    try:
        export(
            model,
            args.output,
            shape,
            dynamic_batch=args.batch_size is None,
            dynamic_size=args.dynamic_size,
            opset=args.opset,
            fold_batch_norm=not args.keep_batch_norm,
            softmax=args.softmax,
            classes=names if model.num_classes else None,
        )
    except ValueError as error:
        kind = CommandError if isinstance(error, ExportError) else UsageError
        raise kind(str(error).removeprefix("export: ")) from error
    height, width = size
    megabytes = args.output.stat().st_size / 1e6
    print(
        f"{args.output}: {model.name}, {megabytes:.1f} MB, opset {args.opset}, images of "
        f"{'any size' if args.dynamic_size else f'{height}×{width}'}"
    )
    print(_compared(args.output, model, shape, args.softmax))
    if args.web is not None:
        known = {**DEFAULT, **known}
        description = {
            "name": model.name,
            "channels": model.in_channels,
            "size": list(size),
            **{key: for_channels(known[key], model.in_channels) for key in ("mean", "std")},
            "crop_pct": known["crop_pct"],
            "classes": names,
        }
        try:
            write_page(args.output, args.web, description, runtime=args.runtime)
        except (FileNotFoundError, ValueError) as error:
            raise CommandError(str(error)) from error
        print(f"{args.web}/index.html shows it; `python -m http.server -d {args.web}` serves it")
    return 0


def _open(args: argparse.Namespace) -> Opened:
    """Return the model that the arguments name, with its weights."""
    if args.model not in models.list_models():
        if args.weights is not None or not any(sign in args.model for sign in "./\\"):
            model_name(args.model)  # whose error names the closest
        return open_model("export", _without_count(args).model, None)
    if args.weights is not None:
        return open_model("export", _without_count(args).weights, args.model)
    tell("export", f"{args.model} has fresh random weights; --weights names others")
    count = 1000 if args.num_classes is None else args.num_classes
    return Opened(cast(MobileNet_V4, models.create_model(args.model, num_classes=count)), None)


def _without_count(args: argparse.Namespace) -> argparse.Namespace:
    if args.num_classes is not None:
        raise UsageError("--num-classes is for models without weights; those say their own")
    return args


def _compared(path: Path, model: nn.Module, shape: tuple[int, ...], softmax: bool) -> str:
    """Return in words how far the outputs of the file, run elsewhere, are from the model's.

    Raises:
        CommandError: if that is more than rounding.
    """
    try:
        runtime = importlib.import_module("onnxruntime")
    except ModuleNotFoundError:
        return f"ONNX Runtime is not installed and did not run it: {install('test')}"
    dtype = next(model.parameters()).dtype
    images = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    with no_grad():
        expected = model.eval()(wrap(images))
    expected = (expected.softmax(-1) if softmax else expected).data
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: images})
    except Exception as error:
        raise CommandError(
            f"{path} is written, but ONNX Runtime {runtime.__version__} does not run it: {error}"
        ) from error
    largest, difference = (float(np.abs(each).max()) for each in (expected, found - expected))
    words = (
        f"ONNX Runtime {runtime.__version__}: outputs differ from lucid's by at most "
        f"{difference:.1e}, where the largest is {largest:.2g}"
    )
    if not difference <= _TOLERANCE * max(largest, 1e-6):
        raise CommandError(f"{words}: that is more than rounding")
    return words
