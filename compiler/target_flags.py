"""A target as flags change it: --arch for other GPUs, --memory for a board's regions, --optimize for small kernels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .errors import EdgecError, nearest
from .regions import read_regions
from .target import Target

ARCHS = ("sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_103", "sm_110", "sm_120", "sm_121", "emulated")
AIMS = ("speed", "size")


def with_archs(target: Target, archs: str | None) -> Target:
    """A target with a GPU, for other architectures: `sm_80,sm_90`, of which the last serves newer GPUs too.

    Kernels are chosen for the first of them.
    """
    if archs is None:
        return target
    if target.gpu is None:
        raise EdgecError(f"arch: {target.name} has no GPU; architectures are chosen for cuda, jetson ...")
    names = tuple(name.strip() for name in archs.split(","))
    for name in names:
        if name not in ARCHS:
            raise EdgecError(f"arch: {name!r} is unknown{nearest(name, ARCHS)}")
    usual = dict(target.gpu.others).get(names[0], target.gpu)
    return dataclasses.replace(target, gpu=dataclasses.replace(usual, archs=names))


def with_memory(target: Target, path: str | Path | None) -> Target:
    """A target on a board whose memory regions a file declares."""
    if path is None:
        return target
    if target.gpu or target.levels:
        raise EdgecError(f"memory: {target.name} has no regions to choose from; they are for one CPU, cortex-m4 ...")
    return dataclasses.replace(target, memory=read_regions(path))


def with_aim(target: Target, optimize: str) -> Target:
    """A target whose kernels are made fast (`speed`) or small (`size`); small ones there are for Cortex-M alone."""
    if optimize not in AIMS:
        raise EdgecError(f"optimize: {optimize!r} is unknown{nearest(optimize, AIMS)}")
    if optimize == "size" and not target.microcontroller:
        raise EdgecError(f"optimize: {target.name} has no kernels made for size; they are for Cortex-M")
    return dataclasses.replace(target, small=optimize == "size")
