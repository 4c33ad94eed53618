"""``lucid convert``: weights in another format, or under timm's names or lucid's."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import lucid
from lucid._files import SUFFIXES
from lucid.cli._arguments import AddCommand
from lucid.cli._errors import UsageError
from lucid.cli._output import add_overwrite, check_new, tell
from lucid.cli._weights import find_weights, name_of
from lucid.models import _timm
from lucid.models._checkpoints import as_metadata
from lucid.models._pretrained import convert, known_settings


def add_parsers(add_command: AddCommand) -> None:
    """Add the command."""
    parser = add_command(
        "convert",
        convert_weights,
        "Write weights in another format, PyTorch's .pth as .safetensors without PyTorch. In a "
        "checkpoint of a training, the model is found (state_dict, model, state_dict_ema, "
        "model_ema, a prefix module.), and what was taken is said. With --to, they are renamed for "
        "timm or for lucid: the arrays stay as they are, and are checked against the model first; "
        "what is known of them (classes, size and normalisation of the "
        "images) is written into the file. timm loads the result with strict=True. Weights of "
        "the form of lucid's documentation page fit timm's model too, but it computes something "
        "else from them (ReLU or GELU in place of ReLU6, and pooling before the last "
        "convolution): train them further there.",
        "  lucid convert checkpoint.pth model.safetensors\n"
        "  lucid convert checkpoint.pth average.safetensors --key state_dict_ema\n"
        "  lucid convert flowers.npz flowers.safetensors --to timm\n"
        "  lucid convert timm/mobilenetv4_conv_small.e2400_r224_in1k small.npz --to lucid",
    )
    parser.add_argument(
        "input",
        help="a .safetensors or .npz file, PyTorch's .pth, .pt, .bin or .pth.tar, or a Hugging "
        "Face repo id",
    )
    parser.add_argument("output", type=Path, help="the file to write, .safetensors or .npz")
    parser.add_argument(
        "--to", choices=("timm", "lucid"), help="whose names (default: as they are)"
    )
    parser.add_argument(
        "--key",
        help="the part of a checkpoint to take, such as state_dict_ema; a.b is b within a "
        "(default: found)",
    )
    parser.add_argument("--model", help="the model's name (default: told by the entries)")
    add_overwrite(parser)
    parser.set_defaults(parser=parser)


def convert_weights(args: argparse.Namespace) -> int:
    """Run ``lucid convert``."""
    check_new(args.output, "output", args.overwrite, SUFFIXES)
    if args.to is None:
        if args.model is not None:
            raise UsageError("--model says whose entries are renamed; give --to too")
        if args.key is None and Path(args.input).suffix == args.output.suffix:
            args.parser.error("--to timm or --to lucid is required between files of one format")
    checkpoint = find_weights("convert", args.input, args.key)
    if args.to is None:
        known = as_metadata(checkpoint.description) if checkpoint.description else {}
        lucid.save(checkpoint.state, args.output, metadata={**checkpoint.metadata, **known})
        print(f"{args.output}: {len(checkpoint.state)} arrays, under the names they had")
        return 0
    to_timm = args.to == "timm"
    if _timm.is_timm(checkpoint.state) == to_timm:
        raise UsageError(f"{args.input} has {args.to}'s names already")
    name = name_of("convert", checkpoint, args.model)
    state = convert(checkpoint, name, to_timm)
    known = known_settings(checkpoint, name)
    description = as_metadata({"architecture": name, **known})
    lucid.save(state, args.output, metadata={**checkpoint.metadata, **description})
    print(f"{args.output}: {name} under {args.to}'s names, {len(state)} arrays")
    if not _timm.is_timm_form(checkpoint.state):
        print(
            f"lucid convert: warning: {args.input} is in the form of lucid's documentation page. "
            "timm loads the result but computes something else from it: its activations are not "
            "ReLU6, and it pools before the last convolution",
            file=sys.stderr,
        )
    if to_timm and "bn_eps" in known:
        tell(
            "convert",
            f"warning: the batch norms add {known['bn_eps']:g} to a variance, which timm is not "
            f"told: give bn_eps={known['bn_eps']:g} to its create_model",
        )
    return 0
