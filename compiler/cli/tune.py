"""`edgec tune`: what databases of measured kernels hold, and one made of several."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import EdgecError
from ..tunings import Tunings, default_path
from ..units import counted
from .common import show_json, table

EXAMPLES = """examples:
  edgec tune --list                                  the user's own database
  edgec tune --list tuned.json --json
  edgec tune --merge laptop.json server.json -o all.json

`edgec compile --tune SECONDS` measures; `edgec compile --tune-db FILE` uses what was measured. Where several files know
the same kernel on the same machine, the last one counts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", nargs="?", const="", metavar="FILE", help="show a database (default: the user's)")
    what.add_argument("--merge", nargs="+", metavar="FILE", help="databases to make one of")
    parser.add_argument("-o", "--output", dest="out", metavar="FILE", help="where --merge writes")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    if args.merge is not None:
        return _merge(args.merge, args.out)
    if args.out is not None:
        raise EdgecError("-o: only --merge writes a file")
    path = Path(args.list) if args.list else default_path()
    if not args.list and not path.exists():
        raise EdgecError(f"{path}: is not there yet: `edgec compile MODEL --tune SECONDS` measures")
    rows = [
        (kernel, machine, compiler, len(us), min(us, key=us.__getitem__, default=""), min(us.values(), default=0.0))
        for (compiler, machine, kernel), us in sorted(Tunings.read(path).rows.items())
    ]
    head = ("kernel", "machine", "compiler", "candidates", "best", "us")
    if args.json:
        show_json([dict(zip(head, row, strict=True)) for row in rows])
        return 0
    print(
        table(
            ("us", "candidates", "best", "kernel"),
            [(f"{us:.1f}", n, best, kernel) for kernel, _, _, n, best, us in rows],
        )
    )
    for machine, compiler in sorted({(row[1], row[2]) for row in rows}):
        print(f"measured on {machine} by {compiler}")
    print(f"{counted(len(rows), 'kernel')} in {path}")
    return 0


def _merge(files: list[str], out: str | None) -> int:
    if out is None:
        raise EdgecError("--merge: give the file to write with -o")
    whole = Tunings()
    for file in files:
        whole.merge(Tunings.read(file))
    whole.write(out)
    print(f"{counted(len(whole.rows), 'kernel')}: {out}")
    return 0
