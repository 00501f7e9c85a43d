"""`edgec inspect MODEL --target T`: what a model would cost there, step by step, before anything is compiled."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .common import binds_of, dims_of, progress_bar, shapes_of, shorten, show_json, show_notes, size, table

if TYPE_CHECKING:
    from ..driver import Costs
    from ..target import Target

_LARGEST = 5  # steps that are named again at the end


def show(args: argparse.Namespace) -> int:
    """Import the model, choose kernels, plan the memory, and print what was modelled."""
    from ..driver import costs_of
    from ..importer import import_model
    from ..plugins import load_plugins
    from ..target import find_target

    target = find_target(args.target)
    load_plugins()
    notes: list[str] = []
    shapes, dims, binds = shapes_of(args), dims_of(args), binds_of(args)
    with progress_bar("model"):
        graph = import_model(args.path, shapes=shapes, dims=dims, binds=binds, notice=notes.append)
        costs = costs_of(graph, target, 1)
    steps = _steps(costs, target)
    facts = {
        "target": target.name,
        "macs": sum(step["macs"] for step in steps),
        "cycles": sum(step["cycles"] for step in steps),
        "ms": costs.us / 1e3,
        "weights_bytes": costs.weights,
        "arena_bytes": costs.arena,
    }
    show_notes(notes)
    if args.json:
        show_json({"name": graph.name, **facts, "notes": notes, "steps": steps})
        return 0
    _print(steps, facts, target)
    return 0


def _steps(costs: Costs, target: Target) -> list[dict[str, Any]]:
    from ..macs import macs
    from ..op import body_of

    found = []
    for node in costs.kernels:
        cost = node.attrs["cost_us"]
        assert isinstance(cost, float)
        row = {"name": node.name, "kernel": node.attrs["row"], "macs": macs(body_of(node))}
        times = {"cycles": round(cost * _ghz(target) * 1e3), "ms": cost / 1e3}
        found.append(row | times | {"weights_bytes": _weights(node)})
    return found


def _ghz(target: Target) -> float:
    return target.gpu.ghz if target.gpu else target.programs[0].cpu.ghz


def _weights(node: Any) -> int:
    from ..layout import storage_bytes
    from ..op import is_const, viewed

    return sum(storage_bytes(arg.type) for arg in node.args if is_const(viewed(arg)))


def _print(steps: list[dict[str, Any]], facts: dict[str, Any], target: Target) -> None:
    total = facts["cycles"] or 1
    rows = [(*step.values(), f"{100 * step['cycles'] / total:.1f}") for step in steps]
    print(table(("step", "kernel", "MACs", "cycles", "ms", "weights", "% of time"), rows))
    print()
    for step in sorted(steps, key=lambda step: -step["cycles"])[:_LARGEST]:
        print(f"largest     {100 * step['cycles'] / total:.1f} %: {shorten(step['name'])}, {step['macs']:,} MACs")
    print(f"arithmetic  {facts['macs']:,} MACs")
    print(f"time        {facts['ms']:.3f} ms modelled: {facts['cycles']:,} cycles at {1000 * _ghz(target):g} MHz")
    print(f"weights     {size(facts['weights_bytes'])}")
    print(f"arena       {size(facts['arena_bytes'])}")
