"""`edgec opt`: run passes on a graph: IR or ONNX in, IR or ONNX out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..eir_file import write_eir
from ..errors import EdgecError, nearest
from ..files import check_file, check_other
from ..ir import Graph
from ..pipeline import PASSES, parse_pipeline, run_pipeline
from ..session import Session
from ..text import show
from .common import progress_bar, show_json, show_notes
from .graphs import add_graph_options, dump_folder, faults_shown, find_target, read_graph

EXAMPLES = """examples:
  edgec opt model.onnx --passes "canonicalize, fold" -o model.eir
  edgec opt model.eir --passes "+prune{sparsity=0.5}@fold" --target rpi5 --print-after prune
  edgec opt model.onnx --passes "canonicalize, fold, prune{channels=0.3}" --target host -o smaller.onnx
  edgec opt model.onnx --passes canonicalize --why scale_into_conv --limit 10 --time"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_graph_options(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write the result there, FILE.eir or FILE.onnx (default: print it)"
    )
    parser.add_argument(
        "--print-after", action="append", default=[], metavar="PASS|all", help="print the graph after a pass"
    )
    parser.add_argument("--dump", metavar="DIR", help="write NN-pass.eir after each pass, and weights.npz")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N rewrites")
    parser.add_argument("--why", action="append", default=[], metavar="RULE|all", help="say why a rule did not apply")
    parser.add_argument("--time", action="store_true", help="print the time of each pass")
    parser.add_argument("--steps", action="store_true", help="list the rewrites, numbered")
    parser.add_argument("--json", action="store_true", help="print graph, rewrites, times and notes as JSON")


def run(args: argparse.Namespace) -> int:
    if args.limit is not None and args.limit < 0:
        raise EdgecError(f"--limit {args.limit}: expected a number of rewrites")
    if args.json and args.print_after:
        raise EdgecError("--json: prints the graph at the end alone; --dump DIR writes those in between")
    if args.output:
        _check_output(args.output, args.path)
    session = Session(
        target=find_target(args.target),
        limit=args.limit,
        verify=args.verify,
        print_after=frozenset(args.print_after),
        dump=dump_folder(args.dump),
        why_rules=frozenset(args.why),
        why=lambda text: print(text, file=sys.stderr),
    )
    with faults_shown(), progress_bar("passes"):
        graph = read_graph(args)
        stages = parse_pipeline(args.passes, session.target.pipeline if session.target else "")
        _known("--print-after", session.print_after, {s.row.name for s in stages})
        graph = run_pipeline(graph, stages, session)
    _known("--why", session.why_rules, session.known_rules)
    if args.output:
        _write(graph, args.output)
    if args.json:
        _show_json(graph, session)
        return 0
    _report(args, session)
    last = {"all"} | {stage.row.name for stage in stages[-1:]}
    if not args.output and not last & session.print_after:
        print(show(graph, origins=True), end="")
    return 0


def _check_output(path: str, source: str) -> None:
    """An `EdgecError` where the result cannot be written; better known before the work."""
    if not source.endswith(".eir") or path.endswith(".onnx"):
        check_other(path, source)
    check_file(path)
    if Path(path).suffix not in (".eir", ".onnx") and (Path(path).is_file() or not Path(path).exists()):
        raise EdgecError(f"-o {path}: expected FILE.eir or FILE.onnx")


def _write(graph: Graph, path: str) -> None:
    if path.endswith(".onnx"):
        from ..exporter import save_model

        save_model(graph, path)
    else:
        write_eir(graph, Path(path))


def _show_json(graph: Graph, session: Session) -> None:
    steps = [{"number": step.number, "rewrite": str(step)} for step in session.steps]
    times = [{"pass": PASSES[name].name, "ms": 1000 * seconds} for name, seconds in session.times]
    show_json({"graph": show(graph, origins=True), "steps": steps, "times": times, "notes": session.notes})


def _known(flag: str, given: frozenset[str], known: set[str]) -> None:
    for name in sorted(given - known - {"all"}):
        what = "rule" if flag == "--why" else "pass"
        hint = nearest(name, known) if known else ""
        raise EdgecError(f"{flag} {name}: no such {what} in this pipeline{hint}")


def _report(args: argparse.Namespace, session: Session) -> None:
    for step in session.steps if args.steps else []:
        print(f"{step.number:5} {step}", file=sys.stderr)
    for name, seconds in session.times if args.time else []:
        print(f"{1000 * seconds:9.2f} ms  {PASSES[name].name}", file=sys.stderr)
    show_notes(session.notes)
