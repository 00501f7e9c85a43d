"""`edgec targets`: the boards and CPU levels to compile for."""

from __future__ import annotations

import argparse
import dataclasses

from ..errors import EdgecError
from ..target import Target, find_target
from .common import show_json, table

EXAMPLES = """examples:
  edgec targets
  edgec targets host --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", metavar="T", help="show all that is known of one target")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    if args.target:
        return _one(find_target(args.target), _file(args.target), args.json)
    rows = all_summaries()
    if args.json:
        show_json([{"name": name, "summary": summary} for name, summary in rows])
    else:
        print(table(("target", ""), rows))
    return 0


def all_summaries() -> list[tuple[str, str]]:
    """`host` first, then every description by name."""
    from ..plugins import all_targets

    rows = [(name, find_target(name).summary) for name in sorted(all_targets())]
    try:
        host = find_target("host").summary
    except EdgecError as error:
        host = f"not available: {error}"
    return [("host", host), *rows]


def _file(name: str) -> str:
    """Where the description stands, to be copied and changed; this machine's stands nowhere."""
    from ..plugins import all_targets

    return "" if name == "host" else str(all_targets().get(name, name))


def _one(target: Target, file: str, as_json: bool) -> int:
    facts = {"file": file, **dataclasses.asdict(dataclasses.replace(target, levels=()))}
    facts["levels"] = [level.name for level in target.levels]
    cpu = {f"cpu.{key}": value for key, value in facts.pop("cpu").items()}
    shown = {key: sorted(v) if isinstance(v, frozenset) else v for key, v in {**facts, **cpu}.items()}
    if as_json:
        show_json(shown)
    else:
        rows = [(key, ", ".join(map(str, v)) if isinstance(v, (list, tuple)) else str(v)) for key, v in shown.items()]
        print(table(("", target.name), rows))
    return 0
