"""How long a kernel takes that moves more than it computes: launch, memory, and what few threads cannot hide."""

from __future__ import annotations

from edgec.compiler.target import Gpu

LATENCY_US = 0.5  # from a load to what depends on it, in memory that is not in the nearest cache


def memory_us(gpu: Gpu, moved: float, in_flight: float) -> float:
    """Time to move so many bytes, with so many of them under way at a time on the whole device."""
    rate = gpu.l2_gbytes if moved <= gpu.l2 / 2 else gpu.ram_gbytes
    turns = moved / max(in_flight, 1.0)
    return moved / (rate * 1e3) + LATENCY_US * max(0.0, turns - 1.0)


def streaming_us(gpu: Gpu, moved: float, in_flight: float, steps: float) -> float:
    """A kernel with so many steps of which each waits for memory, or for the whole block."""
    return gpu.launch_us + steps * LATENCY_US + memory_us(gpu, moved, in_flight)
