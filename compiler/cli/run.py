"""`edgec run`: one inference of a compiled model on arrays from a file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..files import check_file
from .common import add_inputs, show_json, table

if TYPE_CHECKING:
    from ..bundle.manifest import Bundle
    from ..ports import Port

EXAMPLES = """examples:
  edgec run build/ --inputs x.npz --save y.npz
  edgec run build/ --inputs cat.jpg --calib-prep torch
  edgec run build/                                  random inputs: does it run at all?"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="DIR", help="a compiled bundle")
    add_inputs(parser, "--inputs", "a sample, instead of random numbers")
    parser.add_argument("--save", metavar="NPZ", help="write the outputs to a file")
    parser.add_argument("--threads", type=int, metavar="N", help="workers (default: as compiled)")
    parser.add_argument("--level", metavar="T", help="of a bundle for several levels of the CPU, the one to run")
    parser.add_argument("--json", action="store_true", help="print the outputs' values as JSON")


def run(args: argparse.Namespace) -> int:
    from ..bundle.firmware import bare
    from ..bundle.manifest import read_bundle
    from ..execution.model import load
    from ..ports import write_arrays

    bundle = read_bundle(args.bundle)
    if args.save is not None:
        check_file(args.save)
    if bare(bundle):
        outputs = _in_firmware(bundle, args)
    else:
        with load(args.bundle, args.threads, level=args.level) as model:
            outputs = model.run(_feed(args, model.inputs))
    if args.save is not None:
        write_arrays(args.save, outputs)
    if args.json:
        show_json({name: value.astype(float).tolist() for name, value in outputs.items()})
        return 0
    rows = []
    for name, value in outputs.items():
        wide = value.astype(float)
        stats = (float(wide.min()), float(wide.mean()), float(wide.max())) if value.size else (0.0, 0.0, 0.0)
        rows.append((name, value.dtype.name, "x".join(map(str, value.shape)), *stats))
    print(table(("output", "type", "shape", "least", "mean", "largest"), rows))
    return 0


def _in_firmware(bundle: Bundle, args: argparse.Namespace) -> dict[str, Any]:
    from ..bundle.firmware import Firmware, refuse_options

    refuse_options(bundle, args.threads, args.level)
    firmware = Firmware(bundle)
    return firmware.run([_feed(args, firmware.inputs)])[0]


def _feed(args: argparse.Namespace, ports: Sequence[Port]) -> dict[str, Any]:
    from ..execution.inputs import sample
    from ..ports import random_inputs

    return random_inputs(ports) if args.inputs is None else sample(args.inputs, ports, args.calib_prep or "")
