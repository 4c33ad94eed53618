"""``lucid convert``: weights under timm's names or lucid's."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import lucid
from lucid.cli._arguments import add_command, model_name
from lucid.cli._errors import UsageError
from lucid.cli._run import prepare_output
from lucid.models import _timm
from lucid.models._pretrained import convert, identify, open_checkpoint


def add_parsers(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "convert",
        common,
        convert_weights,
        "Rename weights for timm or for lucid. The arrays stay as they are, and are checked "
        "against the model first; timm loads the result with strict=True. Weights of lucid's own "
        "form, the paper's, fit timm's model too, but it computes something else from them "
        "(ReLU or GELU in place of ReLU6, and pooling before the last convolution): train them "
        "further there.",
        "  lucid convert flowers.npz flowers.safetensors --to timm\n"
        "  lucid convert timm/mobilenetv4_conv_small.e2400_r224_in1k small.npz --to lucid",
    )
    parser.add_argument("input", help="a .safetensors or .npz file, or a Hugging Face repo id")
    parser.add_argument("output", type=Path, help="the file to write, .safetensors or .npz")
    parser.add_argument("--to", choices=("timm", "lucid"), required=True, help="whose names")
    parser.add_argument("--model", help="the model's name (default: told by the entries)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")


def convert_weights(args: argparse.Namespace) -> int:
    """Run ``lucid convert``."""
    prepare_output(args.output)
    if args.output.exists() and not args.overwrite:
        raise UsageError(f"{args.output} is there already; give --overwrite to replace it")
    given = None if args.model is None else model_name(args.model)
    checkpoint = open_checkpoint(args.input)
    to_timm = args.to == "timm"
    if _timm.is_timm(checkpoint.state) == to_timm:
        raise UsageError(f"{args.input} has {args.to}'s names already")
    name = given or identify(checkpoint.state)
    if name is None:
        raise UsageError(
            f"{args.input} does not have the entries of any model; give --model to see what it "
            "lacks"
        )
    state = convert(checkpoint, name, to_timm)
    lucid.save(state, args.output)
    print(f"{args.output}: {name} under {args.to}'s names, {len(state)} arrays")
    if not _timm.is_timm_form(checkpoint.state):
        print(
            f"lucid convert: warning: {args.input} is in lucid's own form, the paper's. timm loads "
            "the result but computes something else from it: its activations are not ReLU6, and "
            "it pools before the last convolution",
            file=sys.stderr,
        )
    return 0
