"""Compares a compiled bundle with ONNX Runtime on the same inputs: what "correct" means, measured.

The error of a value is its largest absolute difference, relative to the reference's largest magnitude. Where the two
differ by more than is allowed, the model in float64 decides (exact.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from math import inf, prod
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle.emulate import Emulated
from ..bundle.firmware import Firmware
from ..bundle.manifest import Bundle, read_bundle
from ..calibration.data import Source
from ..calibration.likeness import inputs_like
from ..errors import EdgecError, nearest
from ..execution.executor import executor
from ..execution.inputs import samples
from ..execution.model import Model
from ..layout import layout, unpack
from ..ports import Port, named_dtype
from .difference import Difference, relative_error, tolerance
from .exact import Arbiter
from .noise import expected, in_noise
from .reference import Arrays, Reference
from .remarks import said_of_constants, said_of_ties
from .steps import in_steps

# relative errors of a layer whose weights are stored in fewer bits add up over all layers
_STORED = {"f16": 1e-2, "int8": 1e-1, "int4": 3e-1}
_HALVES = 2e-2  # where every value is rounded to f16


_ROUNDED = (
    "the bundle computes in int8 by calibration data and its model in f32: they are near for inputs like that data "
    "(--inputs); to compare exactly, compile what `edgec quantize` writes"
)
_SMALLER = (
    "passes took weights out of the bundle's model: to compare, give the smaller model, as `edgec opt MODEL --passes "
    "... -o smaller.onnx` and `edgec compress` write it"
)


@dataclass(frozen=True)
class Comparison:
    """All compared values in the order they are computed; `skipped`: steps without a counterpart in the reference;
    `note`: why the two may differ though both are right."""

    differences: tuple[Difference, ...]
    skipped: tuple[str, ...] = ()
    note: str = ""

    @property
    def ok(self) -> bool:
        return all(d.ok for d in self.differences)


def verify(
    model: str | Path,
    bundle: str | Path,
    *,
    layers: bool = False,
    inputs: Source | None = None,
    calib_prep: str = "",
    runs: int = 1,
    binds: Mapping[str, Any] | None = None,
    level: str | None = None,
) -> Comparison:
    """Run ONNX model and bundle on `inputs`, or on `runs` seeded random ones; the worst of each value is reported.

    Random inputs of a bundle in 8 bits have the ranges, means and deviations of its calibration data.
    `inputs` and `calib_prep` are samples in any form that calibration data may have.
    `binds` gives the values of inputs that were fixed at compile time. A foreign bundle runs in an emulator.
    `level` is one of several that the bundle holds; default: the best that runs here.
    """
    compiled = read_bundle(bundle)
    ports = [Port(p["name"], p["dtype"], tuple(p["shape"])) for p in compiled.manifest["inputs"]]
    if layers and not any(s.get("results") for s in compiled.steps):
        raise EdgecError(f"{bundle}: its manifest does not say where values lie; compile it again with this version")
    reference = Reference(model, ports, binds or {}, everything=layers)
    if runs < 1:
        raise EdgecError(f"runs must be 1 or more, got {runs}")
    if inputs is not None and runs > 1:
        raise EdgecError(f"runs: {runs} with inputs that are given; so many random ones are tried where none are")
    seeds = range(runs)
    like = (compiled.manifest.get("quantization") or {}).get("inputs", [])
    feeds = (inputs_like(ports, like, s) for s in seeds) if inputs is None else samples(inputs, ports, calib_prep)
    noise = None if reference.quantized else expected(compiled.manifest)
    if layers and noise is not None:
        raise EdgecError(f"{bundle}: --layers: {_ROUNDED}")
    runner = executor(compiled, level)
    arbiter = Arbiter(model, ports, binds or {}, in_halves=_in_halves(compiled))
    found = [_compare(runner, reference, arbiter, feed, layers, noise) for feed in feeds]
    worst = [max(same, key=lambda d: (not d.ok, d.error)) for same in zip(*(f.differences for f in found), strict=True)]
    return Comparison(tuple(worst), found[0].skipped, _note(compiled.manifest, noise))


def _note(manifest: Mapping[str, Any], noise: float | None) -> str:
    """Why bundle and model may differ though both are right."""
    if noise is not None:
        return _ROUNDED
    smaller = (manifest.get("compression") or {}).get("layers", [])
    return _SMALLER if any(r["macs"] < r["macs_before"] for r in smaller) else ""


def _compare(
    runner: Model | Emulated | Firmware,
    reference: Reference,
    arbiter: Arbiter,
    feed: Arrays,
    layers: bool,
    noise: float | None,
) -> Comparison:
    """`noise`: what a bundle in 8 bits is held against, in dB (see noise.py)."""
    results = [(i, s, r) for i, s in enumerate(runner.bundle.steps) for r in s.get("results", [])] if layers else []
    stored = [row for row in results if row[2].get("bank") is None]
    probes = [(i, r["offset"], _stored_bytes(r)) for i, _, r in stored]
    outputs, memory = runner.trace(feed, probes)
    wanted = reference.run(feed)
    rows, skipped, least = [], [], _stored(runner.bundle)
    for (_, step, result), data in zip(stored, memory, strict=True):
        got = _unpacked(result, data)
        row = _closest(step, result["value"], got, reference.names, wanted, least)
        if row is None:
            skipped.append(step["name"])
        else:
            row = arbiter.judge(row, got, wanted[row.value], feed)
            rows.append(in_steps(row, got, wanted[row.value], tuple) if reference.quantized else row)
    for name, got in outputs.items():
        if name not in wanted:
            raise EdgecError(
                f"the ONNX model has no output {name!r}{nearest(name, wanted)}: is it the model of this bundle?"
            )
        error = relative_error(got, wanted[name]) if got.dtype == wanted[name].dtype else inf
        row = Difference("output", name, error, max(tolerance(got.dtype), least))
        row = arbiter.judge(row, got, wanted[name], feed)
        settled = said_of_constants(_settled(row, got, wanted[name], reference, feed), wanted[name])
        if noise is not None:
            settled = in_noise(settled, got, wanted[name], noise, runner.bundle.manifest)
        elif not reference.quantized:
            settled = arbiter.magnified(settled, got, feed)
            settled = said_of_ties(settled, got, wanted[name], partial(reference.second, feed, name))
        rows.append(settled)
    return Comparison(tuple(rows), tuple(skipped))


def _settled(
    row: Difference, got: npt.NDArray[Any], want: npt.NDArray[Any], reference: Reference, feed: Arrays
) -> Difference:
    """An output's difference; of a quantized model by steps of 8 bits."""
    if not reference.quantized:
        return row
    return in_steps(row, got, want, partial(reference.rounded_otherwise, feed, row.value))


def _in_halves(bundle: Bundle) -> bool:
    return re.search(r"(?:^|, )half\b", bundle.manifest.get("passes", "")) is not None


def _stored(bundle: Bundle) -> float:
    """What is allowed at least where a bundle stores its weights, or all values, in fewer bits."""
    passes = bundle.manifest.get("passes", "")
    if _in_halves(bundle):
        return _HALVES
    found = re.search(r"(?:^|, )weights\b(?:\{[^}]*\bstore=(\w+))?", passes)
    return _STORED[found[1] or "f16"] if found else 0.0


def _stored_bytes(result: Mapping[str, Any]) -> int:
    shape = layout(result["layout"], len(result["shape"])).physical(tuple(result["shape"]))
    return prod(shape) * named_dtype(result["dtype"]).itemsize


def _is_half(kind: np.dtype[Any]) -> bool:
    return kind.name in ("float16", "bfloat16")


def _alike(theirs: np.dtype[Any], ours: np.dtype[Any]) -> bool:
    """Whether values may be compared: of the same type, or real ones that either holds in half precision."""
    return theirs == ours or (theirs.kind == "f" and ours == np.float16) or (_is_half(theirs) and ours == np.float32)


def _in_order(theirs: npt.NDArray[Any], ours: npt.NDArray[Any]) -> bool:
    """Whether elements lie in the same order: axes of the one are axes of the other, some of them joined."""
    ends = [set(accumulate(shape, mul)) for shape in (theirs.shape, ours.shape)]
    return theirs.size == ours.size and (ends[0] | {1} <= ends[1] | {1} or ends[1] | {1} <= ends[0] | {1})


def _unpacked(result: Mapping[str, Any], data: bytes) -> npt.NDArray[Any]:
    return unpack(np.frombuffer(data, named_dtype(result["dtype"])), result["layout"], tuple(result["shape"]))


def _closest(
    step: Mapping[str, Any],
    value: str,
    got: npt.NDArray[Any],
    names: Mapping[str, list[str]],
    wanted: Arrays,
    least: float,
) -> Difference | None:
    """The stored value against that value of the ONNX nodes behind the step which it is nearest to.

    Which of them a fused step ends with is not recorded: passes may have reordered them.
    """
    candidates = dict.fromkeys(n for o in (value, *reversed(step["origin"])) for n in names.get(o, []))
    same = [n for n in candidates if n in wanted and _alike(wanted[n].dtype, got.dtype) and _in_order(wanted[n], got)]
    errors = [(relative_error(got.reshape(wanted[n].shape), wanted[n]), i) for i, n in enumerate(same)]
    if not errors:
        return None
    error, index = min(errors)
    allowed = max(tolerance(got.dtype), tolerance(wanted[same[index]].dtype), least)
    return Difference(step["name"], same[index], error, allowed)
