"""`edgec inspect`: what a model or a bundle holds: arithmetic, parameters, memory over time, a row per step."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..errors import EdgecError, UnsupportedModel
from ..units import counted
from .common import add_model_options, binds_of, dims_of, footprint_lines, shapes_of, show_json, show_notes, size, table

EXAMPLES = """examples:
  edgec inspect model.onnx --dim batch=1
  edgec inspect model.onnx --target cortex-m4      what it would take there: modelled cycles, weights, arena
  edgec inspect build/ --json"""

_SUMMED = ("macs", "bytes_moved", "cost_us")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="MODEL|DIR", help="ONNX file or compiled bundle")
    add_model_options(parser)
    parser.add_argument("--target", metavar="T", help="of a model, also what each step would cost on this target")
    parser.add_argument("--level", metavar="T", help="of a bundle for several levels of the CPU, the one to show")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    path = Path(args.path)
    if path.is_dir() or path.suffix == ".json":
        from ..bundle.manifest import read_bundle

        if args.target is not None:
            raise EdgecError(f"--target {args.target}: {path} is a bundle, compiled for one; expected a model")
        if args.shape or args.dim or args.bind:
            raise EdgecError(f"--shape, --dim and --bind: {path} is a bundle, whose shapes are fixed; expected a model")
        bundle = read_bundle(path)
        bundle = bundle.at(args.level or bundle.levels[0])
        files = {name: (bundle.folder / name).stat().st_size for name in _libraries(bundle)}
        return _show_bundle(bundle.manifest, files, _levels(bundle), args.json)
    if args.level is not None:
        raise EdgecError(f"--level {args.level}: {path} is no bundle: only those have levels")
    if args.target is not None:
        from .inspect_target import show

        return show(args)
    return _show_model(args)


def _levels(bundle: Any) -> list[str]:
    """A line for each level of the CPU, where there are several."""
    tables = [bundle.at(level).manifest for level in bundle.levels]
    return [
        f"{level}: {counted(len(t['steps']), 'step')}, {sum(s['cost_us'] for s in t['steps']):,.0f} us modelled, "
        f"needs {', '.join(t['isa'])}"
        for level, t in zip(bundle.levels, tables, strict=True)
        if len(tables) > 1
    ]


def _libraries(bundle: Any) -> list[str]:
    return [p.name for p in (bundle.static_library, bundle.shared_library) if p.exists()]


def _show_bundle(manifest: dict[str, Any], files: dict[str, int], levels: list[str], as_json: bool) -> int:
    from ..bundle.manifest import live_bytes
    from ..compress import report as compressed
    from ..quantize import report as quantized

    live = live_bytes(manifest)
    total = sum(step["macs"] for step in manifest["steps"])
    kernels = _by_kernel(manifest["steps"])
    if as_json:
        show_json({**manifest, "macs": total, "kernels": kernels, "live_bytes": live, "file_bytes": files})
        return 0
    _show_ports(manifest["inputs"], manifest["outputs"])
    _show_steps(manifest, live)
    _show_kernels(kernels)
    for key, report in (("quantization", quantized), ("compression", compressed)):
        if found := manifest.get(key):
            print(f"\n{table(report.HEAD, report.rows(found['layers']))}\n")
            print("\n".join(report.lines(found)))
    _show_sums(manifest, total)
    for level in levels:
        print(f"level       {level}")
    for name, length in files.items():
        print(f"{name:<11} {size(length)}")
    return 0


def _show_steps(manifest: dict[str, Any], live: list[int]) -> None:
    rows = [
        (
            s["name"],
            s["kernel"],
            s["config"],
            ", ".join(s["origin"]),
            s["dtype"],
            s["macs"],
            s["bytes_moved"],
            f"{s['cost_us']:,.2f}",
            f"{s.get('tasks', 1)} by {s.get('grain', 1)}",
            now,
        )
        for s, now in zip(manifest["steps"], live, strict=True)
    ]
    head = ("step", "kernel", "tiles", "ONNX nodes", "type", "MACs", "bytes moved", "modelled us", "tasks by grain")
    print(table((*head, "live bytes"), rows))


def _by_kernel(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the steps of each kernel are together, the one modelled to take most of the time first."""
    found: dict[str, dict[str, Any]] = {}
    for step in steps:
        row = found.setdefault(step["kernel"], {"kernel": step["kernel"], "steps": 0, **dict.fromkeys(_SUMMED, 0)})
        row["steps"] += 1
        for key in _SUMMED:
            row[key] += step[key]
    return sorted(found.values(), key=lambda row: -row["cost_us"])


def _show_kernels(kernels: list[dict[str, Any]]) -> None:
    whole = sum(row["cost_us"] for row in kernels) or 1.0
    rows = [
        (*(row[key] for key in ("kernel", "steps", *_SUMMED[:2])), f"{us:,.1f}", f"{us / whole:.0%}")
        for row in kernels
        for us in [row["cost_us"]]
    ]
    print(f"\n{table(('kernel', 'steps', 'MACs', 'bytes moved', 'modelled us', 'of all'), rows)}")


def _show_sums(manifest: dict[str, Any], total: int) -> None:
    arena = manifest["arena"]
    print(
        f"\n{manifest['name']} for {manifest['target']} ({manifest['triple']}), compiled by edgec {manifest['edgec']}"
    )
    print(f"arithmetic  {total:,} MACs")
    us = sum(step["cost_us"] for step in manifest["steps"])
    print(f"modelled    {us:,.0f} us{'' if manifest.get('device') else ' on one core'}, not measured")
    print(f"arena       {size(arena['bytes'])}; lower bound {arena['lower_bound']:,}")
    if device := manifest.get("device"):
        print(
            f"on device   arena, weights, {size(device['zeros_bytes'])} of counters; here {size(device['host_bytes'])}"
        )
    print(f"weights     {size(manifest['weights_bytes'])}")
    print(f"code        {size(manifest['code_bytes'])}")
    for line in footprint_lines(manifest.get("footprint"), 11):
        print(line)
    for row in manifest.get("memory") or []:
        held = ", ".join(f"{what} {row[what]:,}" for what in ("arena", "weights", "code") if row[what])
        kernels = counted(len(row["kernels"]), "kernel") if row["kernels"] else ""
        print(f"{row['region']:<11} {', '.join(filter(None, [held, kernels])) or 'nothing'} of {row['size']:,} bytes")


def _show_model(args: argparse.Namespace) -> int:
    from ..importer import import_model
    from ..layout import packed_bytes
    from ..op import is_const

    notes: list[str] = []
    try:
        graph = import_model(
            args.path, shapes=shapes_of(args), dims=dims_of(args), binds=binds_of(args), notice=notes.append
        )
    except UnsupportedModel as error:
        return _show_refusals(error, args.json)
    steps = _steps(graph)
    constants = {v for n in graph.nodes() for v in n.args if is_const(v)} | {v for v in graph.outputs if is_const(v)}
    facts = {
        "macs": sum(s["macs"] for s in steps),
        "parameters": sum(v.type.size for v in constants),
        "weights_bytes": sum(packed_bytes(v.type) for v in constants),
        "peak_live_bytes": max((s["live_bytes"] for s in steps), default=0),
    }
    ports = {
        "inputs": [_port(v.name, v.type) for v in graph.inputs],
        "outputs": [_port(name, v.type) | _count_of(v) for name, v in graph.results],
    }
    show_notes(notes)
    if args.json:
        show_json({"name": graph.name, **ports, **facts, "notes": notes, "steps": steps})
        return 0
    _show_ports(ports["inputs"], ports["outputs"])
    print(table(("node", "operator", "result", "MACs", "parameters", "live bytes"), [tuple(s.values()) for s in steps]))
    print(f"\narithmetic  {facts['macs']:,} MACs")
    print(f"parameters  {facts['parameters']:,} ({size(facts['weights_bytes'])})")
    print(f"memory      {size(facts['peak_live_bytes'])} of values alive at once before fusion")
    return 0


def _steps(graph: Any) -> list[dict[str, Any]]:
    """A row per node that computes something."""
    from ..op import OPS, is_const

    nodes = [n for n in graph.nodes() if OPS[n.op].kind != "source"]
    return [
        {
            "name": n.name,
            "op": n.op,
            "type": ", ".join(map(str, n.types)),
            "macs": _macs(n),
            "parameters": sum(a.type.size for a in n.args if is_const(a)),
            "live_bytes": now,
        }
        for n, now in zip(nodes, _live_bytes(graph, nodes), strict=True)
    ]


def _show_refusals(error: UnsupportedModel, as_json: bool) -> int:
    """Every node and input that cannot be compiled, and why; the exit code of a model that is refused."""
    if as_json:
        show_json({"unsupported": [asdict(entry) for entry in error.entries]})
        return 1
    rows = [(e.node, e.op, e.opset or "", "; ".join(filter(None, (e.why, e.help)))) for e in error.entries]
    print(table(("node", "operator", "opset", "why it is refused; what would help"), rows))
    print(f"\n{error.where}: {len(rows)} of its nodes and inputs cannot be compiled")
    return 1


def _macs(node: Any) -> int:
    """Multiply-accumulates of one node, whatever computes its arguments."""
    from ..ir import Graph, Node, Value
    from ..macs import macs

    inputs = tuple(Value(Node("Input", (), (a.type,))) for a in node.args)
    return macs(Graph("", inputs, replace(node, args=inputs).results))


def _port(name: str, kind: Any) -> dict[str, Any]:
    from ..dtypes import dtype

    return {"name": name, "dtype": dtype(kind.dtype).numpy.name, "shape": list(kind.shape)}


def _count_of(value: Any) -> dict[str, Any]:
    """Of an output whose size depends on data: along which axis."""
    from ..op import int_attr

    return {"count": {"axis": int_attr(value.node, "axis")}} if value.node.op == "Edgec.Sized" else {}


def _show_ports(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
    from ..bundle.report import shown_shape

    rows = [("input", p) for p in inputs] + [("output", p) for p in outputs]
    print(table(("", "name", "type", "shape"), [(w, p["name"], p["dtype"], shown_shape(p)) for w, p in rows]))
    print()


def _live_bytes(graph: Any, nodes: list[Any]) -> list[int]:
    """Bytes of values alive during each node, one buffer per value."""
    from ..layout import storage_bytes
    from ..op import is_const

    place = {node: i for i, node in enumerate(nodes)}
    last = {a: i for i, n in enumerate(nodes) for a in n.args if not is_const(a)}
    last.update((v, len(nodes)) for v in graph.outputs if not is_const(v))
    change = [0] * (len(nodes) + 2)
    for value, end in last.items():
        change[place.get(value.node, 0)] += storage_bytes(value.type)
        change[min(end, len(nodes) - 1) + 1] -= storage_bytes(value.type)
    out, now = [], 0
    for i in range(len(nodes)):
        now += change[i]
        out.append(now)
    return out
