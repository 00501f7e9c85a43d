"""`edgec bench` of a bundle for a board without an operating system: instructions, counted in the board's emulator."""

from __future__ import annotations

import argparse
from typing import Any

from ..bundle.firmware import Counts, Firmware, refuse_options
from ..bundle.manifest import Bundle
from ..errors import EdgecError
from ..ports import random_inputs
from .common import show_json, size, table

_RUNS = 3  # more tell nothing new: the emulator counts, and clocks do not drift


def count(bundle: Bundle, args: argparse.Namespace) -> int:
    """Count and show; times are of one instruction per cycle, and the modelled ones of the manifest."""
    refuse_options(bundle, args.threads, args.level)
    if args.roofline is not None:
        raise EdgecError(f"{bundle.folder}: runs in an emulator, which has no peak: no roofline")
    if args.runs < 1:
        raise EdgecError(f"runs must be 1 or more, got {args.runs}")
    firmware = Firmware(bundle)
    found = firmware.count([random_inputs(firmware.inputs, seed) for seed in range(min(args.runs, _RUNS))])
    cpu = firmware.target.cpu
    most = max(found.runs)
    numbers: dict[str, Any] = {
        "instructions": most,
        "runs": list(found.runs),
        "ms_at_one_per_cycle": most / cpu.ghz * 1e-6,
        "modelled_ms": sum(step["cost_us"] for step in bundle.steps) / 1e3,
        "ghz": cpu.ghz,
        "stack_bytes": found.stack_bytes,
        "machine": firmware.machine.name,
    }
    if args.json:
        show_json(numbers | ({"layers": _layers(found, bundle)} if args.layers else {}))
        return 0
    if args.layers:
        print(_table(_layers(found, bundle)))
        print()
    print(f"{most:,} instructions per inference, counted on {firmware.machine.name}")
    print(
        f"{numbers['ms_at_one_per_cycle']:.3f} ms at {1000 * cpu.ghz:g} MHz and one instruction per cycle; "
        f"{numbers['modelled_ms']:.3f} ms modelled"
    )
    print(f"stack {size(found.stack_bytes)} from the call of ec_run on")
    return 0


def _layers(found: Counts, bundle: Bundle) -> list[dict[str, Any]]:
    """A row per step; `instructions_per_mac` 0 where it multiplies nothing."""
    return [
        {
            "name": name,
            "kernel": step["kernel"],
            "config": step["config"],
            "instructions": instructions,
            "macs": step["macs"],
            "instructions_per_mac": instructions / step["macs"] if step["macs"] else 0.0,
            "modelled_ms": step["cost_us"] / 1e3,
        }
        for (name, instructions), step in zip(found.layers, bundle.steps, strict=True)
    ]


def _table(layers: list[dict[str, Any]]) -> str:
    total = sum(row["instructions"] for row in layers) or 1
    rows = [
        (
            row["name"],
            row["kernel"],
            row["instructions"],
            f"{100 * row['instructions'] / total:.1f}",
            row["macs"],
            f"{row['instructions_per_mac']:.2f}" if row["macs"] else "",
            row["modelled_ms"],
        )
        for row in layers
    ]
    return table(("step", "kernel", "instructions", "%", "MACs", "per MAC", "modelled ms"), rows)
