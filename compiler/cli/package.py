"""`edgec package`: a bundle for a microcontroller as a library of Arduino, PlatformIO or Zephyr."""

from __future__ import annotations

import argparse

from .common import show_json

EXAMPLES = """examples:
  edgec package build/ --as arduino -o ~/Arduino/libraries/mymodel
  edgec package build/ --as platformio -o lib/mymodel
  edgec package build/ --as zephyr -o modules/mymodel        then ZEPHYR_EXTRA_MODULES=.../modules/mymodel"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..bundle.packages import ECOSYSTEMS

    rows = "; ".join(f"{row.name}: {row.summary}" for row in ECOSYSTEMS.values())
    parser.add_argument("bundle", metavar="DIR", help="a compiled bundle")
    parser.add_argument("--as", dest="ecosystem", metavar="KIND", required=True, help=rows)
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="the folder to write")
    parser.add_argument("--json", action="store_true", help="print the files as JSON")


def run(args: argparse.Namespace) -> int:
    from ..bundle.manifest import read_bundle
    from ..bundle.packages import package

    files = package(read_bundle(args.bundle), args.ecosystem, args.output)
    if args.json:
        show_json({"files": files})
    else:
        print(f"{args.output}: {len(files)} files, a library of {args.ecosystem}")
    return 0
