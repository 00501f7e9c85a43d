"""`edgec bisect`: find the rewrite that breaks a model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..bisect import Culprit, bisect, command, same_as
from ..eir_file import write_eir
from ..errors import EdgecError
from .common import show_json
from .graphs import add_graph_options, dump_folder, faults_shown, find_target, read_graph

EXAMPLES = """examples:
  edgec bisect model.onnx --passes "canonicalize, fold"
  edgec bisect model.eir --target rpi5 --check "python still_good.py" --dump around/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_graph_options(parser)
    parser.add_argument(
        "--check",
        metavar="CMD",
        help="command that gets an .eir file and exits 0 where it is good (default: same answers)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-3,
        metavar="X",
        help="of the default check, relative to the largest magnitude (default 1e-3)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the inputs of the default check (default 0)"
    )
    parser.add_argument("--dump", metavar="DIR", help="write the graphs before and after the rewrite")
    parser.add_argument("--json", action="store_true", help="print the rewrite as JSON; null where all is well")


def run(args: argparse.Namespace) -> int:
    target = find_target(args.target)
    if not args.passes and target is None:
        raise EdgecError("which passes? give --passes or --target")
    if args.seed < 0:
        raise EdgecError(f"--seed {args.seed}: expected a number that is not negative")
    if not args.tolerance >= 0:
        raise EdgecError(f"--tolerance {args.tolerance}: expected a number that is not negative")
    dump = dump_folder(args.dump)
    with faults_shown():
        graph = read_graph(args)
        check = command(args.check) if args.check else same_as(graph, args.tolerance, args.seed)
        found = bisect(graph, args.passes, check, target=target, verify=args.verify, progress=_progress)
    if found is not None and dump is not None:
        _dump(found, dump)
    _show(found, args.json)
    return 0 if found is None else 1


def _show(found: Culprit | None, as_json: bool) -> None:
    if as_json:
        show_json(found and _table(found))
    elif found is None:
        print("the check holds after all rewrites")
    else:
        print(f"rewrite {found.step.number} of {found.total} breaks it: {found.step}")
        if found.error:
            print(found.error)


def _table(found: Culprit) -> dict[str, object]:
    return {"number": found.step.number, "rewrite": str(found.step), "total": found.total, "error": found.error}


def _progress(limit: int, good: bool) -> None:
    print(f"{limit:6} rewrites: {'good' if good else 'bad'}", file=sys.stderr)


def _dump(found: Culprit, folder: Path) -> None:
    write_eir(found.before, folder / "before.eir")
    if found.after is not None:
        write_eir(found.after, folder / "after.eir")
