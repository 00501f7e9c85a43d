"""Decides what a self-test compares with: a compiled model runs once, on memory that is zero, and steps are digested.

The model runs where it would: in this process, or in the emulator of its board. The interpreter says whether its
outputs are right, before anything is stored.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .bundle.emulate import Emulated
from .bundle.firmware import Firmware
from .bundle.manifest import Bundle
from .bundle.write import write_bundle
from .errors import EdgecError
from .execution.executor import executor
from .execution.model import Model
from .interpret import interpret
from .ir import Graph
from .layout import layout
from .pipeline import parse_pipeline, run_pipeline
from .ports import named_dtype
from .program import Digest, Golden, Program, Ref
from .session import Session
from .target import Target
from .verify import difference

_BASIS, _PRIME = 2166136261, 16777619  # of FNV-1a in 32 bits

Arrays = Mapping[str, npt.NDArray[Any]]


def tested(program: Program, target: Target, feed: Arrays, graph: Graph | None) -> Program:
    """The program with what its self-test compares with: it runs once on `feed`, as a bundle that nobody sees.

    `graph`: the model, where its outputs are what they are in numpy.
    """
    judge = graph
    if graph is not None:
        judge = run_pipeline(graph, parse_pipeline("canonicalize, fold, integers"), Session(target=target))
    with tempfile.TemporaryDirectory(prefix="edgec-") as temporary:
        bundle = write_bundle(program, target, Path(temporary) / "once")
        return replace(program, golden=golden(bundle, judge, feed))


def golden(bundle: Bundle, graph: Graph | None, feed: Arrays) -> Golden:
    """Run a bundle on inputs. `graph`: what its outputs must be, where nothing was rounded on purpose."""
    whole = [
        {**port, "count": None} for port in bundle.manifest["outputs"]
    ]  # what lies behind the entries that count too
    bundle = replace(bundle, manifest={**bundle.manifest, "outputs": whole})
    places = _places(bundle)
    outputs, found = _ran(executor(bundle), feed, places)
    if graph is not None:
        _compare(interpret(graph, feed), outputs)
    held = [np.ascontiguousarray(feed[port["name"]]) for port in bundle.manifest["inputs"]]
    digests = [
        Digest(step, Ref("arena", at), size, fnv1a(what)) for (step, at, size), what in zip(places, found, strict=True)
    ]
    return Golden(b"".join(array.tobytes() for array in (*held, *outputs.values())), tuple(digests))


def _ran(
    runner: Model | Emulated | Firmware, feed: Arrays, places: list[tuple[int, int, int]]
) -> tuple[Arrays, list[bytes]]:
    if not isinstance(runner, Model):
        return runner.trace(feed, places)  # memory of a new program is zero
    with runner:
        runner.arena[:] = 0
        _, found = runner.trace(feed, places)
        return runner.whole_outputs(), found


def _places(bundle: Bundle) -> list[tuple[int, int, int]]:
    """Step, offset in the arena and bytes of every value that a step leaves there."""
    rows = []
    for number, step in enumerate(bundle.steps):
        for result in step.get("results", []):
            if result.get("bank") is None:
                shape = layout(result["layout"], len(result["shape"])).physical(tuple(result["shape"]))
                rows.append((number, result["offset"], prod(shape) * named_dtype(result["dtype"]).itemsize))
    return rows


def _compare(wanted: Arrays, got: Arrays) -> None:
    for name, want in wanted.items():
        found = got[name][tuple(slice(n) for n in want.shape)]
        if problem := difference(want, found, "close"):
            raise EdgecError(f"self_test: output {name!r} is wrong where it is compiled already: {problem}")


def fnv1a(data: bytes) -> int:
    """The digest of edgec/selftest.h."""
    value = _BASIS
    for byte in data:
        value = (value ^ byte) * _PRIME & 0xFFFFFFFF
    return value
