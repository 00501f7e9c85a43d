"""The parts of a bundle that only describe it: manifest, report, CMake package."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

from ..dtypes import dtype
from ..program import Allocation, Port, Program, Step
from ..target import Target
from .manifest import ABI, SCHEMA
from .tables import scale_of


def manifest(program: Program, target: Target, version: str, code_bytes: int, files: Iterable[str]) -> dict[str, Any]:
    """The table that `manifest.py` documents."""
    return {
        "schema": SCHEMA,
        "edgec": version,
        "abi": ABI,
        "name": program.name,
        "model_sha256": program.model_sha256,
        "target": program.target,
        "triple": target.triple,
        "passes": program.passes,
        "threads": program.threads,
        "align": program.align,
        "isa": sorted(program.isa),
        "inputs": [_port(p) for p in program.inputs],
        "outputs": [_port(p) for p in program.outputs],
        "arena": {"bytes": program.arena_bytes, "lower_bound": program.lower_bound, "map": [_allocation(a) for a in program.arena_map]},
        "weights_bytes": len(program.weights),
        "code_bytes": code_bytes,
        "steps": [_step(s) for s in program.steps],
        "notes": list(program.notes),
        "files": sorted(files),
    }


def dump(table: dict[str, Any]) -> str:
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


def _port(port: Port) -> dict[str, Any]:
    scale, zero = scale_of(port)
    return {
        "name": port.name,
        "dtype": dtype(port.dtype).numpy.name,
        "shape": list(port.shape),
        "bytes": port.bytes,
        "offset": port.ref.offset if port.ref.region == "arena" else None,
        "scale": scale or None,
        "zero_point": zero if scale else None,
    }


def _allocation(a: Allocation) -> dict[str, Any]:
    row: dict[str, Any] = {"value": a.value, "offset": a.offset, "bytes": a.bytes, "first": a.first, "last": a.last}
    if getattr(a, "dtype", ""):
        row["dtype"] = dtype(getattr(a, "dtype")).numpy.name  # noqa: B009
    for key in ("shape", "layout"):
        if hasattr(a, key):
            row[key] = getattr(a, key)
    return row


def _step(s: Step) -> dict[str, Any]:
    return {
        "name": s.name,
        "kernel": s.row,
        "config": s.config,
        "origin": list(s.origin),
        "dtype": s.dtype,
        "tasks": s.tasks,
        "macs": s.macs,
        "bytes_moved": s.bytes_moved,
        "cost_us": round(s.cost_us, 3),
        "why": s.why,
    }


def cmake(name: str, units: Sequence[str], hosted: bool) -> str:
    """`<name>Config.cmake`: target `<name>::<name>`; the runtime is built from source unless the project has `edgec::edgec`."""
    sources = "\n".join(f"    ${{_dir}}/src/{unit}" for unit in units)
    threads = "  set(THREADS_PREFER_PTHREAD_FLAG ON)\n  find_package(Threads REQUIRED)\n" if hosted else ""
    needs = "Threads::Threads ${CMAKE_DL_LIBS} m" if hosted else "m"
    return f"""# find_package({name} CONFIG REQUIRED PATHS <this folder>); target_link_libraries(app PRIVATE {name}::{name})
if(TARGET {name}::{name})
  return()
endif()
set(_dir ${{CMAKE_CURRENT_LIST_DIR}})
if(NOT TARGET edgec::edgec)
{threads}  add_library(edgec_bundled_runtime STATIC EXCLUDE_FROM_ALL
{sources})
  target_include_directories(edgec_bundled_runtime PUBLIC ${{_dir}})
  set_target_properties(edgec_bundled_runtime PROPERTIES C_STANDARD 11 POSITION_INDEPENDENT_CODE ON OUTPUT_NAME edgec)
  target_link_libraries(edgec_bundled_runtime PUBLIC {needs})
  add_library(edgec::edgec ALIAS edgec_bundled_runtime)
endif()
add_library({name}::{name} STATIC IMPORTED GLOBAL)
set_target_properties({name}::{name} PROPERTIES
  IMPORTED_LOCATION ${{_dir}}/lib{name}.a
  INTERFACE_INCLUDE_DIRECTORIES ${{_dir}}
  INTERFACE_LINK_LIBRARIES "edgec::edgec;m")
unset(_dir)
"""


_STYLE = """body{font:14px/1.4 system-ui,sans-serif;margin:2em;max-width:90em;color:#222}
table{border-collapse:collapse;margin:1em 0}th,td{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:left}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.map{position:relative;border:1px solid #999;background:#f6f6f6}
.map div{position:absolute;background:#4a90d9aa;border:1px solid #25c;box-sizing:border-box;overflow:hidden;font-size:9px}"""


def report(table: dict[str, Any]) -> str:
    """`report.html`: sizes, steps and memory map on one page, without scripts or other files."""
    e, arena = html.escape, table["arena"]
    facts = [("target", f"{table['target']} ({table['triple']})"), ("passes", table["passes"]), ("threads", table["threads"]), ("instruction sets", ", ".join(table["isa"]) or "none beyond the base")]
    sizes = [("arena", arena["bytes"]), ("arena, lower bound", arena["lower_bound"]), ("weights", table["weights_bytes"]), ("code", table["code_bytes"])]
    rows = [
        f"<tr><td class=n>{i}<td>{e(s['name'])}<td>{e(s['kernel'])} {e(s['config'])}<td>{e(', '.join(s['origin']))}<td>{s['dtype']}"
        f"<td class=n>{s['macs']:,}<td class=n>{s['bytes_moved']:,}<td class=n>{s['cost_us']:.1f}<td>{e(s['why'])}"
        for i, s in enumerate(table["steps"])
    ]
    ports = [f"<tr><td>{word}<td>{e(p['name'])}<td>{p['dtype']}<td>{p['shape']}<td class=n>{p['bytes']:,}" for word in ("inputs", "outputs") for p in table[word]]
    return f"""<!doctype html><meta charset=utf-8><title>{e(table["name"])}</title><style>{_STYLE}</style>
<h1>{e(table["name"])}</h1><p>Compiled by edgec {e(table["edgec"])}.</p>
<table>{"".join(f"<tr><th>{k}<td>{e(str(v))}" for k, v in facts)}{"".join(f"<tr><th>{k}<td class=n>{v:,} bytes" for k, v in sizes)}</table>
<h2>Inputs and outputs</h2><table>{"".join(ports)}</table>
<h2>Steps</h2><table><tr><th class=n>#<th>step<th>kernel<th>ONNX nodes<th>type<th class=n>MACs<th class=n>bytes moved<th class=n>model &micro;s<th>why
{chr(10).join(rows)}</table>
<h2>Memory</h2><p>Arena offsets to the right, steps downwards.</p>{_map(table)}
{"".join(f"<p>{e(note)}" for note in table["notes"])}
"""


def _map(table: dict[str, Any]) -> str:
    total, steps = max(table["arena"]["bytes"], 1), max(len(table["steps"]), 1)
    height = min(max(steps * 8, 80), 1200)
    boxes = []
    for a in table["arena"]["map"]:
        first, last = max(a["first"], 0), min(max(a["last"], a["first"]), steps - 1)
        place = f"left:{100 * a['offset'] / total:.3f}%;width:{100 * a['bytes'] / total:.3f}%;top:{100 * first / steps:.3f}%;height:{100 * (last - first + 1) / steps:.3f}%"
        boxes.append(f'<div style="{place}" title="{html.escape(a["value"], quote=True)}: {a["bytes"]:,} bytes at {a["offset"]:,}, steps {a["first"]}-{a["last"]}"></div>')
    return f'<div class=map style="height:{height}px">{"".join(boxes)}</div>'
