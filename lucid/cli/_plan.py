"""``lucid plan``: what a training step takes on many ranks, before there are any."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lucid
from lucid import distributed, kernels, models
from lucid.cli._arguments import (
    AddCommand,
    add_input,
    fraction,
    input_shape,
    model_name,
    positive_float,
    positive_int,
)
from lucid.cli._output import add_format, add_overwrite, check_new, write
from lucid.distributed._wire import bandwidth
from lucid.training._environment import processor

_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}


def add_parsers(add_command: AddCommand) -> None:
    """Add the command."""
    parser = add_command(
        "plan",
        plan,
        "Tell what a training step takes on 1, 2, 4 … ranks, and from which batch a rank they pay. "
        "The step of one rank is measured here; what the network adds to it is computed, of its "
        "bandwidth and latency, and of what the sums of gradients take while backward goes on. The "
        "machines are taken to be like this one.",
        "  lucid plan --ranks 64 --network 10Gbit\n"
        "  lucid plan --ranks 16 --network 100Gbit --latency 2us --ranks-per-machine 4\n"
        "  lucid plan --ranks 8 --network 1Gbit --model mobilenet_v4_conv_large --batch-size 32",
    )
    parser.add_argument(
        "--ranks", type=positive_int, required=True, help="the largest number of ranks"
    )
    parser.add_argument(
        "--network",
        type=_network,
        default="10Gbit",
        metavar="BANDWIDTH",
        help="between machines, such as 10Gbit or 1.1GB, a second (default: 10Gbit)",
    )
    parser.add_argument(
        "--latency",
        type=_seconds,
        default=50e-6,
        metavar="TIME",
        help="of an empty message between machines, half of what a ping takes (default: 50us, as "
        "of TCP; InfiniBand has some 2us)",
    )
    parser.add_argument(
        "--ranks-per-machine",
        type=positive_int,
        default=1,
        metavar="N",
        help="ranks that share a machine's cores, memory and network (default: 1)",
    )
    parser.add_argument(
        "--model",
        default="mobilenet_v4_conv_small",
        help="a name that `lucid models` lists (default: mobilenet_v4_conv_small)",
    )
    add_input(parser, batch_size=16, of="the batch of a rank")
    parser.add_argument(
        "--sync-bn", action="store_true", help="with statistics of all ranks in batch norm"
    )
    parser.add_argument(
        "--float16", action="store_true", help="with gradients of half the bytes on the way"
    )
    parser.add_argument(
        "--worth",
        type=fraction,
        default=0.9,
        help="the efficiency from which on more ranks pay (default: 0.9)",
    )
    parser.add_argument(
        "--backend", choices=("numpy", "numba"), help="default: numba where llvmlite is installed"
    )
    parser.add_argument(
        "--threads",
        type=positive_int,
        help="of a rank (default: OMP_NUM_THREADS, or the processors among the machine's ranks)",
    )
    parser.add_argument(
        "--seconds", type=positive_float, default=5.0, help="for the measurement (default: 5)"
    )
    add_format(parser, "--json")
    add_overwrite(parser)


def plan(args: argparse.Namespace) -> int:
    """Run ``lucid plan``."""
    name = model_name(args.model)
    if args.json not in (None, "-"):
        check_new(Path(args.json), "--json", args.overwrite)
    lucid.manual_seed(0)
    model = models.create_model(name, in_channels=args.channels)
    before = kernels.get_backend(), kernels.get_num_threads()
    try:
        if args.backend is not None:
            kernels.set_backend(args.backend)
        backend = kernels.get_backend()
        threads = args.threads or max(1, kernels.get_num_threads() // args.ranks_per_machine)
        kernels.set_num_threads(threads)
        step = distributed.measure_step(model, input_shape(args), seconds=args.seconds)
    finally:
        kernels.set_backend(before[0])
        kernels.set_num_threads(before[1])
    planned = distributed.plan(
        step,
        args.ranks,
        distributed.Wire(bandwidth(args.network), args.latency),
        ranks_per_machine=args.ranks_per_machine,
        wire="float16" if args.float16 else None,
        sync_batch_norm=args.sync_bn,
        worth=args.worth,
    )
    facts = {
        "model": name,
        "input_shape": list(input_shape(args)),
        "processor": processor(),
        "backend": backend,
        "threads": threads,
        "lucid": lucid.__version__,
        "network": args.network,
        "latency": args.latency,
        "ranks_per_machine": args.ranks_per_machine,
    }
    if args.json is not None:
        steps = [{**asdict(one), "images_per_second": one.images_per_second} for one in planned]
        write(
            json.dumps({**facts, "measured": asdict(step), "steps": steps}, indent=1) + "\n",
            args.json,
        )
    if args.json != "-":
        print(text(facts, step, planned))
    return 0


def text(facts: dict[str, Any], step: distributed.StepTimes, planned: distributed.Plan) -> str:
    """Return what is printed."""
    shape = "×".join(map(str, facts["input_shape"]))
    parts = ", ".join(
        f"{part} {getattr(step, part) * 1e3:.1f} ms"
        for part in ("forward", "backward", "optimizer")
    )
    measured = f"{facts['processor']}, {facts['backend']}, threads: {facts['threads']}"
    network = f"{facts['network']} and {facts['latency'] * 1e6:g} µs between machines"
    return (
        f"{facts['model']}, {shape} a rank, {step.nbytes / 1e6:.1f} MB of gradients\n"
        f"measured on {measured}\n"
        f"a step of one rank: {parts}\n"
        f"computed for {network}, ranks on each: {facts['ranks_per_machine']}\n\n"
        f"{planned}\n\n"
        "images: of all ranks; sums of gradients, what of them is exposed, and waiting for the\n"
        f"slowest rank: in ms; {planned.worth:.0%} from: the smallest batch a rank that efficient"
    )


def _network(text: str) -> str:
    """Check a bandwidth; it is printed as it is."""
    try:
        bandwidth(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).partition(": ")[2]) from error
    return text


def _seconds(text: str) -> float:
    """Parse a time such as 50us or 0.1ms."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*(s|ms|us|µs)", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"expected a time such as 50us or 0.1ms, got {text!r}")
    return float(found[1]) * _UNITS[found[2]]
