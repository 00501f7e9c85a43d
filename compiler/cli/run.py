"""`edgec run`: one inference of a compiled model on arrays from a file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..files import check_file
from .common import show_json, table

if TYPE_CHECKING:
    from ..bundle.manifest import Bundle

EXAMPLES = """examples:
  edgec run build/ --inputs x.npz --save y.npz
  edgec run build/                                  random inputs: does it run at all?"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="DIR", help="a compiled bundle")
    parser.add_argument("--inputs", metavar="NPZ", help="arrays by input name (default: random ones)")
    parser.add_argument("--save", metavar="NPZ", help="write the outputs to a file")
    parser.add_argument("--threads", type=int, metavar="N", help="workers (default: as compiled)")
    parser.add_argument("--level", metavar="T", help="of a bundle for several levels of the CPU, the one to run")
    parser.add_argument("--json", action="store_true", help="print the outputs' values as JSON")


def run(args: argparse.Namespace) -> int:
    from ..bundle.firmware import bare
    from ..bundle.manifest import read_bundle
    from ..ports import random_inputs, read_arrays, write_arrays
    from ..runtime import load

    bundle = read_bundle(args.bundle)
    if args.save is not None:
        check_file(args.save)
    if bare(bundle):
        outputs = _in_firmware(bundle, args)
    else:
        with load(args.bundle, args.threads, level=args.level) as model:
            outputs = model.run(read_arrays(args.inputs) if args.inputs else random_inputs(model.inputs))
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
    from ..ports import given, random_inputs

    refuse_options(bundle, args.threads, args.level)
    firmware = Firmware(bundle)
    feed = given(args.inputs, firmware.inputs) if args.inputs else random_inputs(firmware.inputs)
    return firmware.run([feed])[0]
