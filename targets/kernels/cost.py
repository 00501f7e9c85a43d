"""The cost model of register-tiled kernels: cycles of one core, from the ports, the latency and the memory behind them.

It need not be exact, only honest enough to rank tiles and kernels; `benchmarks/kernels.py` compares it with the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Literal, TypeVar

from edgec.compiler.target import Cpu, Target

T = TypeVar("T")

LOOP = 3.0  # cycles that a turn of a loop costs beside its work
TILE = 24.0  # cycles to start and leave a register tile
LOADS = 0.75  # share of the load ports' rate that a loop of broadcasts sustains
SLACK = 1.25  # a chain of multiply-adds that just fills the latency waits for its operands now and then
ISSUE = 1.5  # instructions that issue per cycle beside each multiply-add pipe's own
QUAD = 4  # elements of a pixel that are read at once where multiply-adds take them by lane
DEARER = 1.5  # times as long as the fastest offer that one may take whose code is smaller, where that is wanted
CALL_US = 0.3  # handing out a kernel
OVERLAP = 0.25  # share of the shorter of arithmetic and memory that the longer does not hide

Level = Literal["near", "middle", "far"]


def smallest(offers: Iterable[T], us: Callable[[T], float], code: Callable[[T], float], target: Target) -> T:
    """The offer of least code: on a microcontroller of all, elsewhere of those that take little longer than the
    fastest. Of equal ones the fastest."""
    every = list(offers)
    most = inf if target.microcontroller else DEARER * min(map(us, every))
    return min((o for o in every if us(o) <= most), key=lambda o: (code(o), us(o)))


def by_lane(cpu: Cpu) -> bool:
    """Whether multiply-adds take one factor from any lane of a register, as AArch64's do."""
    return "NEON" in cpu.isa and cpu.vector_bits == 128 and cpu.vector_registers == 32


def fits_registers(cpu: Cpu, pixels: int, vectors: int, quads: bool = False) -> bool:
    """Accumulators, one vector of each weight column, and one broadcast element: or, where they are read by `quads`,
    a vector of four elements of each pixel."""
    element = 0 if "MVE" in cpu.isa else 1  # Helium takes it from a register of the core
    return pixels * vectors + vectors + element + (pixels if quads else 0) <= cpu.vector_registers


def most_pixels(cpu: Cpu, vectors: int, quads: bool = False) -> int:
    """The largest number of pixels whose tile fits the registers; one, where none does."""
    return max((pixels for pixels in range(1, 64) if fits_registers(cpu, pixels, vectors, quads)), default=1)


def step_cycles(cpu: Cpu, pixels: int, vectors: float, widening: float = 0.0, quads: bool = False) -> float:
    """One step of the reduction over a tile: the slowest of multiply-adds, loads, latency and issue.

    `widening` counts instructions that make f32 of a vector of weights, on the ports of multiply-adds.
    `quads`: a load of a pixel's elements serves four steps.
    """
    work = (pixels + widening) * vectors
    loads = (pixels / QUAD if quads else pixels) + vectors
    return max(
        work / cpu.fma_per_cycle,
        loads / (LOADS * cpu.load_per_cycle),
        SLACK * cpu.fma_latency,
        (work + loads + 2) / (2 * cpu.fma_per_cycle + ISSUE),
    )


def tile_cycles(
    cpu: Cpu,
    pixels: int,
    vectors: float,
    steps: int,
    inner: int,
    epilogue: float = 2.0,
    widening: float = 0.0,
    quads: bool = False,
) -> float:
    """A whole tile: `steps` of the reduction in loops of `inner` turns, then `epilogue` operations per vector."""
    loops = steps / max(inner, 1) * 2 * LOOP
    ends = pixels * vectors * (1.0 + epilogue) / cpu.fma_per_cycle + TILE
    return steps * step_cycles(cpu, pixels, vectors, widening, quads) + loops + ends


@dataclass
class Traffic:
    """Bytes that enter the L1 cache: `near` from L2, `middle` from the shared cache, `far` from memory."""

    near: float = 0.0
    far: float = 0.0
    middle: float = 0.0

    def add(self, level: Level, moved: float) -> None:
        setattr(self, level, getattr(self, level) + moved)

    def cycles(self, cpu: Cpu) -> float:
        near, middle = self.near / cpu.l2_bytes_per_cycle, self.middle / cpu.l3_bytes_per_cycle
        return near + middle + self.far / cpu.ram_bytes_per_cycle


def level_of(cpu: Cpu, held: float) -> Level:
    """The cache from which `held` bytes come that were used not long ago; half of a cache is left to others."""
    return "near" if held <= cpu.l2 // 2 else "middle" if held <= cpu.l3 // 2 else "far"


def streamed(cpu: Cpu, moved: float) -> Traffic:
    """Traffic of a kernel that touches each of `moved` bytes once."""
    traffic = Traffic()
    traffic.add(level_of(cpu, moved), moved)
    return traffic


def microseconds(cpu: Cpu, cycles: float, traffic: Traffic) -> float:
    """Arithmetic overlaps with memory, but not perfectly."""
    memory = traffic.cycles(cpu)
    return (max(cycles, memory) + OVERLAP * min(cycles, memory)) / (cpu.ghz * 1e3) + CALL_US
