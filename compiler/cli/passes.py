"""`edgec passes`: the passes there are, with options, promises, order and documentation."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

from ..errors import EdgecError, nearest
from ..options import show_value
from ..pipeline import Pass, all_passes
from ..plugins import RULES
from ..rules.language import load_rules
from .common import show_json, table

EXAMPLES = """examples:
  edgec passes
  edgec passes canonicalize
  edgec passes --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="pass to describe in full")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    known = all_passes()
    if args.name and args.name not in known:
        raise EdgecError(f"unknown pass {args.name!r}{nearest(args.name, known)}")
    chosen = [known[args.name]] if args.name else list(known.values())
    if args.json:
        show_json([_record(row) for row in chosen])
    elif args.name:
        print(_full(chosen[0]))
    else:
        print(table(("pass", "answers", "what it does"), [(p.name, p.promise, p.summary) for p in chosen]))
        print("\n`edgec passes NAME` shows options, order and rules of a pass.")
    return 0


def _rules(row: Pass) -> list[tuple[str, str]]:
    """Name and place of the rules in the pass's own file and in those of plugins."""
    own = Path(inspect.getfile(row.fn)).with_suffix(".rules")
    return [(r.name, r.where) for r in load_rules(*([own] if own.exists() else []), *RULES.get(row.name, []))]


def _record(row: Pass) -> dict[str, object]:
    options = [
        {"name": o.spelling, "expects": o.expected, "default": None if o.required else show_value(o.default)}
        for o in row.options.values()
    ]
    order = {"after": dict(row.after), "needs": dict(row.needs)}
    return {
        "name": row.name,
        "promise": row.promise,
        "options": options,
        "order": order,
        "doc": row.doc,
        "rules": [name for name, _ in _rules(row)],
        "from": row.fn.__module__,
    }


def _full(row: Pass) -> str:
    lines = [f"{row.name}: {row.doc}", "", f"answers: {row.promise}    defined in {row.fn.__module__}"]
    for word, others in (("after", row.after), ("needs", row.needs)):
        lines += [f"{word} {name}" + (f": {reason}" if reason else "") for name, reason in others.items()]
    lines += [f"  {option}  ({option.expected})" for option in row.options.values()]
    if rules := _rules(row):
        lines += ["", table(("rule", "where"), rules)]
    return "\n".join(lines)
