"""Pipelines of passes, run in order; verification, dumps and timing happen here, not in the passes."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from .eir_file import SHARED, write_eir
from .errors import EdgecError, IRError, nearest
from .ir import Graph, Node, Value
from .op import OPS
from .ops.control import graphs_of
from .options import read_options, show_value
from .pass_table import PASSES, Pass, all_passes, find_pass, graph_pass
from .pipeline_text import Item, items_of
from .session import Session
from .text import show
from .verify import close, exact, lossy, verify

__all__ = [
    "PASSES",
    "Pass",
    "Stage",
    "all_passes",
    "close",
    "exact",
    "find_pass",
    "graph_pass",
    "lossy",
    "parse_pipeline",
    "run_pipeline",
    "show_pipeline",
]


@dataclass(frozen=True)
class Stage:
    """A pass in a pipeline, with its options."""

    row: Pass
    options: Mapping[str, object]

    def __str__(self) -> str:
        given = ", ".join(f"{self.row.options[k].spelling}={show_value(v)}" for k, v in self.options.items())
        return f"{self.row.name}{{{given}}}" if given else self.row.name


def parse_pipeline(spec: str, default: str = "") -> list[Stage]:
    """Read `"canonicalize, prune{sparsity=0.5}"`.

    `+name{...}@other` inserts after the first `other`, `-name` removes; a spec of only such edits, or none, is
    applied to `default`. The order that passes ask for is checked here.
    """
    base, edits = items_of(spec)
    if not base:
        base, more = items_of(default)
        edits = more + edits
    stages = [_stage(item) for item in base]
    for item in edits:
        _edit(stages, item, spec)
    _check_order(stages)
    return stages


def _stage(item: Item) -> Stage:
    row = find_pass(item.name)
    return Stage(row, read_options(row.options, item.options, f"pass {row.name!r}"))


def _edit(stages: list[Stage], item: Item, spec: str) -> None:
    names = [s.row.name for s in stages]
    where = item.anchor if item.sign == "+" else item.name
    if not where:
        raise EdgecError(f"pipeline {spec!r}: +{item.name} does not say after which pass; write +{item.name}@PASS")
    if where not in names:
        raise EdgecError(f"pipeline {spec!r}: pass {where!r} is not in it{nearest(where, names)}")
    if item.sign == "+":
        stages.insert(names.index(where) + 1, _stage(item))
    else:
        stages[:] = [s for s in stages if s.row.name != item.name]


def _check_order(stages: Sequence[Stage]) -> None:
    names = [s.row.name for s in stages]
    for place, stage in enumerate(stages):
        row = stage.row
        for other, reason in {**row.after, **row.needs}.items():
            why = f" ({reason})" if reason else ""
            if other in names and other not in names[:place]:
                raise EdgecError(f"pipeline: pass {row.name!r} must come after {other!r}{why}")
            if other in row.needs and other not in names:
                raise EdgecError(f"pipeline: pass {row.name!r} needs {other!r} before it{why}")


def show_pipeline(stages: Sequence[Stage]) -> str:
    """The pipeline as text that reads back to it."""
    return ", ".join(map(str, stages))


def run_pipeline(graph: Graph, spec: str | Sequence[Stage], session: Session | None = None) -> Graph:
    """Run the passes. An error of a pass names it, its position and the last rewrite in a note."""
    session = session or Session()
    default = session.target.pipeline if session.target else ""
    stages = parse_pipeline(spec, default) if isinstance(spec, str) else list(spec)
    importlib.import_module("edgec.compiler.ops")
    graph = replace(
        graph, output_names=tuple(name for name, _ in graph.results)
    )  # rewrites may rename values, not outputs
    verify(graph, session.verify)
    _report(graph, 0, "start", session)
    done: list[str] = []
    for place, stage in enumerate(stages):
        session.pass_name = stage.row.name
        started = time.perf_counter()
        try:
            new = _run(stage, graph, session)
            done.append(stage.row.name)
            _check(stage.row, graph, new, session, done)
        except Exception as error:
            error.add_note(f"in pass {place + 1} of {len(stages)}, {stage}; last: {session.last}")
            raise
        graph = new
        session.times.append((stage.row.name, time.perf_counter() - started))
        _report(graph, place + 1, stage.row.name, session)
    session.pass_name = ""
    return graph


def _run(stage: Stage, graph: Graph, session: Session) -> Graph:
    options = {**stage.options, **({"session": session} if stage.row.takes_session else {})}
    count = len(session.steps) + session.refused
    new = _everywhere(stage.row, graph, options)
    silent = len(session.steps) + session.refused == count
    if new is graph or not silent or stage.row.required or show_ids(new) == show_ids(graph):
        return new
    return new if session.step("all", graph.name) else graph


def _everywhere(row: Pass, graph: Graph, options: Mapping[str, object]) -> Graph:
    """The pass on a graph, and then on those that its control nodes own."""
    new = _called(row, graph, options)

    def inside(node: Node) -> tuple[Value, ...] | None:
        if OPS[node.op].kind != "control":
            return None
        before = graphs_of(node)
        after = {key: _everywhere(row, value, options) for key, value in before.items()}
        if all(show_ids(after[key]) == show_ids(before[key]) for key in before):
            return None
        return replace(node, attrs={**node.attrs, **after}).results

    return new.map(inside) if row.nested and any(OPS[n.op].kind == "control" for n in new.nodes()) else new


def _called(row: Pass, graph: Graph, options: Mapping[str, object]) -> Graph:
    """What the pass returns; whatever a pass from elsewhere raises is that one's defect, not edgec's."""
    module = row.fn.__module__
    try:
        new = row.fn(graph, **options)
    except Exception as error:
        if isinstance(error, EdgecError) or module.startswith("edgec."):
            raise
        said = f"{type(error).__name__}: {error}"
        raise EdgecError(f"pass {row.name!r} of module {module!r} fails: {said} (-v shows the trace)") from error
    if not isinstance(new, Graph):
        raise EdgecError(f"pass {row.name!r} of module {module!r} returns {new!r}; expected a Graph")
    return new


def show_ids(graph: Graph) -> tuple[int, ...]:
    """The identities of all nodes: equal exactly for graphs of the same records."""
    return tuple(id(node) for node in graph.nodes())


def _check(row: Pass, before: Graph, after: Graph, session: Session, stages: Sequence[str]) -> None:
    if session.verify <= 0:
        return
    for kind, old, new in (
        ("input", [(v.node.name, v) for v in before.inputs], [(v.node.name, v) for v in after.inputs]),
        ("output", before.results, after.results),
    ):
        was, now = ([(n, v.type.dtype, v.type.shape) for n, v in side] for side in (old, new))
        if was != now and not (row.inputs and kind == "input"):
            raise IRError(f"graph @{after.name}: the {kind}s changed from {was} to {now}; a pass must keep them")
    known = None if row.inputs else before
    verify(after, session.verify, stages=stages, before=known, promise=row.promise)


def _report(graph: Graph, place: int, name: str, session: Session) -> None:
    if place and not session.print_after.isdisjoint((name, "all")):
        session.out(f"# after {name}\n{show(graph, origins=True)}")
    if session.dump is not None:
        if place == 0:
            with suppress(OSError):  # not there; or no folder, which the next line says
                (session.dump / SHARED).unlink()
        write_eir(graph, session.dump / f"{place:02d}-{name}.eir", SHARED)
