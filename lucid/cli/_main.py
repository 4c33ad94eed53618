"""The parser of ``lucid``, and what becomes of errors."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from functools import partial

import lucid
from lucid._check import one_line
from lucid.cli import (
    _bench,
    _convert,
    _diagram,
    _embed,
    _eval,
    _export,
    _models,
    _on_ranks,
    _plan,
    _predict,
    _quantize,
    _train,
)
from lucid.cli._arguments import HelpFormatter, add_command
from lucid.cli._errors import CommandError, how_it_ended, raising_terminated

EPILOG = """\
examples:
  lucid models                                   what there is
  lucid summary mobilenetv4_conv_small           its layers, parameters, multiply-adds
  lucid diagram mobilenetv4_conv_small -o a.svg  how the data flow
  lucid train --data digits                      learn handwritten digits
  lucid eval runs/mobilenetv4_conv_small-digits
  lucid predict photos/ --weights timm/mobilenetv4_conv_small.e2400_r224_in1k
  lucid quantize runs/mobilenetv4_conv_small-digits -o digits.onnx
  lucid bench --batch-size 16 --layers           how fast this machine runs a model
  lucid plan --ranks 64 --network 10Gbit         what a step takes on many machines
  lucid convert model.npz model.safetensors --to timm
  lucid export runs/mobilenetv4_conv_small-digits -o digits.onnx

exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted, 143 terminated (by SIGTERM). predict
and embed end with 1 also if a picture could not be read; train and eval only if there are more
than --max-unreadable allows.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``lucid`` with ``argv`` (default: the process's arguments) and return its exit status.

    A wrong use that the parser finds, ``--help`` and ``--version`` end in SystemExit, as with
    every argparse program.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller (`>&-`): nobody reads it
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A terminal or file of another encoding than UTF-8 gets a question mark for what it cannot
        # show; an error would end the command after all its work.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        _on_ranks.join()
    except CommandError as error:
        print(f"lucid: {error}", file=sys.stderr)
        return error.status
    args = _on_ranks.parse(_parser(), argv)
    try:
        _on_ranks.check(args)
        with raising_terminated():
            status: int = args.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `lucid models | head`: the reader has seen enough
        return 0
    except KeyboardInterrupt as interrupt:
        return _on_ranks.ended(args.command, *how_it_ended(interrupt))
    except Exception as error:
        if args.debug:
            raise
        status = error.status if isinstance(error, CommandError) else 1
        return _on_ranks.ended(args.command, one_line(error), status)
    finally:
        try:
            sys.stdout.flush()
        except OSError:  # Python would try again at its end, and exit with a status of its own
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lucid",
        description="Train, evaluate, use and look at the models of lucid.",
        epilog=EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lucid {lucid.__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug",
        action="store_true",
        default=os.environ.get("LUCID_DEBUG", "0") not in ("", "0"),
        help="show the traceback of an error (also: LUCID_DEBUG=1)",
    )
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for module in (
        _models,
        _diagram,
        _train,
        _eval,
        _predict,
        _embed,
        _convert,
        _export,
        _quantize,
        _bench,
        _plan,
    ):
        module.add_parsers(partial(add_command, commands, common))
    return parser
