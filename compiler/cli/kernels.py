"""`edgec kernels`: every row of the kernel registry, and for one problem why each is rejected and which is picked."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from math import inf
from operator import itemgetter
from typing import Any

from ..errors import EdgecError
from ..tunings import Tunings, candidate
from .common import show_json, table

EXAMPLES = """examples:
  edgec kernels                                        all rows
  edgec kernels --target cortex-m4                     those that the target can run
  edgec kernels --op Conv --target rpi4 --shape 1x64x56x56 --shape 64x64x3x3 --shape 64 --attr pads=1,1,1,1
  edgec kernels --op MatMul --shape 1x128x768 --shape 768x768 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--op", metavar="OP", help="operator to explain, such as Conv")
    parser.add_argument("--target", metavar="T", help="board or CPU level (default: host; without --op: any)")
    parser.add_argument(
        "--shape", action="append", default=[], metavar="1x64x56x56", help="shape of each argument, in order"
    )
    parser.add_argument("--dtype", default="f32", metavar="TYPE", help="element type of the arguments (default: f32)")
    parser.add_argument("--attr", action="append", default=[], metavar="NAME=1,1", help="attribute of the operator")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="workers")
    parser.add_argument("--tune-db", metavar="FILE", help="measured times, shown beside the modelled ones and used")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    from .. import registry
    from ..driver import load_kernels
    from ..target import find_target
    from ..target_flags import check_threads

    load_kernels()
    if not args.op and (args.shape or args.attr):
        raise EdgecError("--shape and --attr are those of an operator: give --op too")
    check_threads(args.threads)
    if not args.op:
        every = [
            (r.name, ", ".join(sorted(r.ops)) or "any", ", ".join(sorted(r.isa)), r.summary)
            for r in registry.ROWS.values()
            if args.target is None or any(r.isa <= level.cpu.isa for level in find_target(args.target).programs)
        ]
        _print(sorted(every), ("kernel", "operators", "needs", ""), args.json)
        return 0
    problems = problems_of(args)
    tunings = Tunings.read(args.tune_db) if args.tune_db is not None else None
    found = [(problem.target.name, *_explained(problem, tunings)) for problem in problems]
    measured = () if tunings is None else ("measured us",)
    head: tuple[str, ...] = ("kernel", "tiles", "layouts", "cost us", *measured, "")
    if len(found) > 1:
        head = ("target", *head)
        _print([(name, *row) for name, rows, _ in found for row in rows], head, args.json)
    else:
        _print(found[0][1], head, args.json)
    for name, _, picked in found:
        if not picked:
            raise EdgecError(f"{args.op}: no kernel takes this problem on {name}")
    return 0


def _explained(problem: Any, tunings: Tunings | None) -> tuple[list[tuple[str, ...]], bool]:
    """A line for each tile of each row for this operator, the cheapest first, then why others offer none; whether any
    was picked."""
    from .. import registry

    offers = registry.choices(problem)
    picked = next(iter(tunings.applied(problem, offers) if tunings else offers), None)
    known = tunings.known(problem) if tunings else {}
    rows: list[tuple[float, tuple[str, ...]]] = []
    for name, row in sorted(registry.ROWS.items()):
        if row.ops and problem.anchor.op not in row.ops:
            continue
        answer = row.accepts(problem)
        offers = list(registry.choices_of(row, problem)) if answer is True else []
        if not offers:
            note = "rejected: " + (answer if isinstance(answer, str) else "no tile fits")
            rows.append((inf, (name, "", "", "", *([""] if tunings else []), note)))
        for offer in offers:
            config = " ".join(f"{k}={v}" for k, v in offer.config)
            layouts = (
                f"{', '.join(_layout(x) for x in offer.layouts_in)} -> {', '.join(map(_layout, offer.layouts_out))}"
            )
            us = known.get(candidate(offer))
            measured = [] if tunings is None else ["" if us is None else f"{us:.2f}"]
            state = "picked" if picked is not None and candidate(offer) == candidate(picked) else ""
            rows.append((offer.cost_us, (name, config, layouts, f"{offer.cost_us:.2f}", *measured, state)))
    return [row for _, row in sorted(rows, key=itemgetter(0))], picked is not None


def _layout(text: str | None) -> str:
    return "any" if text is None else text or "rows"


def problems_of(args: argparse.Namespace) -> Any:
    """The operator alone, on each level of the target; its first argument varies, the others are constants."""
    from ..dtypes import dtype
    from ..ir import Graph, Node, Type, Value
    from ..op import build, row
    from ..registry import Problem
    from ..target import find_target
    from .common import _pairs, _shape, _value

    shapes = [_shape(text, f"--shape {text}") for text in args.shape]
    least, most = row(args.op).arity
    if len(shapes) < max(least, 1):
        wanted = f"its {least} arguments" if least == most else f"{max(least, 1)} arguments or more"
        raise EdgecError(f"--op {args.op}: give the shapes of {wanted} with --shape, one by one; got {len(shapes)}")
    inputs = [Value(Node("Input", (), (Type(dtype(args.dtype).name, s),), {}, f"a{i}")) for i, s in enumerate(shapes)]
    values = {name: _value(text, f"--attr {name}={text}") for name, text in _pairs("--attr", args.attr)}
    many = {name for name, default in row(args.op).attrs.items() if isinstance(default, tuple)}
    attrs = {n: tuple(v) if isinstance(v, list) else (v,) if n in many else v for n, v in values.items()}
    out = build(args.op, *inputs, label=args.op, **attrs)
    body = Graph("body", tuple(inputs), out.node.results)
    fixed = frozenset(range(1, len(inputs)))
    return [Problem(body, target, args.threads, fixed) for target in find_target(args.target or "host").programs]


def _print(rows: Sequence[tuple[str, ...]], head: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        keys = [name or "note" for name in head]
        show_json([dict(zip(keys, row, strict=True)) for row in rows])
    else:
        print(table(head, rows))
