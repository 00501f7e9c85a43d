"""A target as flags change it (--arch, --memory, --optimize), and what it must be able for (--threads, --self-test)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .errors import EdgecError, nearest
from .memory.regions import read_regions
from .target import Target, find_target
from .toolchain import has_os

ARCHS = ("sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_103", "sm_110", "sm_120", "sm_121", "emulated")
AIMS = ("speed", "size")
MOST_THREADS = 256  # MAX_WORKERS of runtime/src/pool.c


def target_for(
    target: str | Path | Target, arch: str | None, memory: str | Path | None, optimize: str | None, threads: int
) -> Target:
    """The target of a compilation, which must be able to run it with so many workers."""
    chosen = with_archs(target if isinstance(target, Target) else find_target(target), arch)
    chosen = with_memory(chosen, memory)
    chosen = with_aim(chosen, optimize) if optimize is not None else chosen
    check_threads(threads)
    if chosen.gpu and threads > 1:
        raise EdgecError(f"threads: {threads} workers; a model for {chosen.name} runs on the GPU, begun by one thread")
    if threads > 1 and not has_os(chosen):
        raise EdgecError(
            f"threads: {threads} workers; {chosen.name} has no operating system that would run more than one"
        )
    return chosen


def check_threads(threads: int) -> None:
    """An `EdgecError` where it is no number of workers that a pool can have."""
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MOST_THREADS:
        raise EdgecError(f"threads: {threads!r} is not a number of workers; 1 to {MOST_THREADS}")


def check_self_test(target: Target) -> None:
    """An `EdgecError` for a target that no self-test is made for."""
    if target.gpu:
        raise EdgecError(f"self_test: {target.name} runs models on a GPU; it is for models on a CPU")
    if target.levels:
        raise EdgecError(f"self_test: {target.name} has several levels, which round otherwise; compile for one of them")


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
    """A target whose kernels are made fast (`speed`) or small (`size`); small ones there are for CPUs."""
    if optimize not in AIMS:
        raise EdgecError(f"optimize: {optimize!r} is unknown{nearest(optimize, AIMS)}")
    if optimize == "size" and target.gpu:
        raise EdgecError(f"optimize: {target.name} has no kernels made for size; they are for CPUs")
    small = optimize == "size"
    levels = tuple(dataclasses.replace(level, small=small) for level in target.levels)
    return dataclasses.replace(target, small=small, levels=levels)
