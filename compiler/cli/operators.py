"""`edgec operators`: which ONNX operators compile, and why others do not."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from ..errors import EdgecError, nearest
from .common import show_json, table

EXAMPLES = """examples:
  edgec operators
  edgec operators Resize LSTM
  edgec operators --json"""


@dataclass(frozen=True)
class Row:
    """An operator, the operator sets that changed it, and what becomes of it."""

    operator: str
    versions: tuple[int, ...]
    compiles: bool
    how: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="OPERATOR", help="show these only")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    known = {row.operator: row for row in rows()}
    for name in args.names:
        if name not in known:
            raise EdgecError(f"no operator {name!r} in ONNX{nearest(name, known) or '; edgec operators lists them'}")
    shown = [known[name] for name in args.names] or list(known.values())
    if args.json:
        show_json([asdict(row) for row in shown])
        return 0
    lines = [(r.operator, "yes" if r.compiles else "no", " ".join(map(str, r.versions)), r.how) for r in shown]
    print(table(("operator", "compiles", "operator sets", ""), lines))
    if not args.names:
        print(f"\n{sum(r.compiles for r in shown)} of {len(shown)} operators compile")
    return 0


def rows() -> Iterator[Row]:
    """Every operator of ONNX's own domain, and those of others that compile, by name."""
    import onnx

    from .. import importer  # noqa: F401  (fills the tables)
    from ..importer.read import OLDEST_OPSET
    from ..importer.table import CONVERTERS

    versions: dict[tuple[str, str], list[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain in ("", "ai.onnx.ml"):
            versions.setdefault((schema.domain, schema.name), []).append(schema.since_version)
    for (domain, name), found in sorted(versions.items()):
        full = f"{domain}.{name}" if domain else name
        if domain and full not in CONVERTERS:
            continue
        oldest = max((v for v in found if v <= OLDEST_OPSET), default=0) if not domain else 0
        kept = tuple(sorted(v for v in found if v >= oldest))
        yield Row(full, kept, *_how(full, onnx.defs.get_schema(name, domain)))


def _how(name: str, schema: object) -> tuple[bool, str]:
    from ..importer import sequences
    from ..importer.table import CONTROL, CONVERTERS, NEVER

    if name in NEVER:
        return False, "; ".join(NEVER[name])
    if name in CONTROL:
        return True, "steps around the graphs that it owns, or written out"
    if name in CONVERTERS:
        folds = CONVERTERS[name].__module__ == sequences.__name__
        return True, "nothing is left of it: members are known when the model is compiled" if folds else ""
    if getattr(schema, "has_function", False) or getattr(schema, "has_context_dependent_function", False):
        return True, "by its definition"
    return False, "this operator is not supported"
