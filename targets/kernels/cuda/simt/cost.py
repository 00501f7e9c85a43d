"""How long the kernels on plain multiply-add units take: waves of blocks, what a multiprocessor sustains, memory."""

from __future__ import annotations

from edgec.compiler.layout import storage_bytes
from edgec.compiler.registry import Problem
from edgec.compiler.target import Gpu

from ...common import ceil_div
from .tile import Product, Tile

ISSUE = 0.80  # share of the multiply-add rate that a well fed multiprocessor sustains
READ_CYCLES = 2.0  # of shared memory for 16 bytes of each lane, of which many are the same
OVERLAP = 0.15  # what the lesser demands add to the greatest
STEP_CYCLES = 90.0  # barrier and first loads of a step, which only another block hides
START_CYCLES = 1600.0  # from the start of a block to its first products, and its results' way out
LATENCY = 800.0  # cycles of a thread that loads, computes and stores
FLIGHT = 32768.0  # bytes that a multiprocessor has under way when it uses its share of the bandwidth
MEET_CYCLES = 2500.0  # a cut reduction: fences, counter, reading the parts


def memory_us(gpu: Gpu, bytes_moved: float, cold: float = 0.0) -> float:
    """Time to move so many bytes, `cold` of them from memory whatever the cache holds."""
    rate = gpu.l2_gbytes if bytes_moved <= gpu.l2 / 2 else gpu.ram_gbytes
    return (bytes_moved - cold) / (rate * 1e3) + cold / (gpu.ram_gbytes * 1e3)


def resident(gpu: Gpu, tile: Tile) -> int:
    """Blocks that a multiprocessor holds at a time."""
    by_registers = gpu.registers // (tile.registers * tile.threads)
    return max(1, min(gpu.threads // tile.threads, by_registers, gpu.shared // (tile.shared + 1024)))


def step_cycles(gpu: Gpu, tile: Tile) -> float:
    """One step of one block: multiply-adds, reads of shared memory, what comes from the second cache."""
    warps = tile.threads // 32
    fma = tile.rows * tile.columns * tile.step / gpu.f32_fma / ISSUE
    reads = warps * tile.step * (tile.height + tile.width) / 4 * READ_CYCLES
    near = (tile.rows + tile.columns) * tile.step * 4 / (gpu.l2_gbytes / (gpu.multiprocessors * gpu.ghz))
    return max(fma, reads, near) + OVERLAP * (fma + reads + near - max(fma, reads, near))


def product_us(problem: Problem, product: Product, tile: Tile) -> float:
    gpu = problem.target.gpu
    assert gpu is not None
    down, across = product.blocks(tile)
    blocks = down * across * product.batch * tile.split
    held = min(resident(gpu, tile), ceil_div(blocks, gpu.multiprocessors))
    work = step_cycles(gpu, tile)
    together = max(held * work, work + STEP_CYCLES) * product.steps(tile) + START_CYCLES
    rounds = blocks / (gpu.multiprocessors * held)
    cycles = together * max(1.0, ceil_div(blocks, gpu.multiprocessors * held) if rounds < 4 else rounds + 0.5)
    if tile.split > 1:
        cycles += MEET_CYCLES + tile.split * tile.rows * tile.columns * 4 / 64
    us = cycles / (gpu.ghz * 1e3)
    weights = max((storage_bytes(problem.body.inputs[i].type) for i in problem.constants), default=0)
    memory = memory_us(gpu, problem.bytes_moved + 2 * product.scratch(tile), weights if problem.cold else 0.0)
    return gpu.launch_us + max(us, memory) + 0.25 * min(us, memory)


def threads_us(problem: Problem, threads: int, block: int, instructions: float, loaded: float) -> float:
    """A kernel of independent threads: `instructions` and bytes `loaded` through the first cache, of each."""
    gpu = problem.target.gpu
    assert gpu is not None
    blocks = ceil_div(threads, block)
    on_one = ceil_div(blocks, gpu.multiprocessors) * block  # threads on the busiest multiprocessor
    together = min(on_one, gpu.threads // 2)
    cycles = on_one * max(instructions / gpu.f32_fma, loaded / 64.0)
    cycles += LATENCY * max(1.0, on_one / together) + instructions * min(1.0, gpu.f32_fma / on_one)
    us = cycles / (gpu.ghz * 1e3)
    memory = memory_us(gpu, problem.bytes_moved)
    return gpu.launch_us + max(us, memory) + 0.25 * min(us, memory)


def matvec_us(problem: Problem, rows: int, groups: int, warps: int, each: int, depth: int, lanes: int) -> float:
    """Few rows by a matrix that is read once: bandwidth, as far as enough is in flight; then sums meet."""
    gpu = problem.target.gpu
    assert gpu is not None
    bytes_each = 16.0 if lanes > 2 else 4.0 * lanes
    on_one = ceil_div(groups * warps, gpu.multiprocessors)  # warps of the busiest multiprocessor
    held = min(on_one, gpu.threads // 64)
    turns = ceil_div(depth, 32 * warps * lanes)
    in_flight = held * 32 * each * bytes_each * min(turns, 4)
    work = on_one * turns * (each * rows * lanes + 4 * (each + rows)) * 32 / gpu.f32_fma
    waves = on_one / held
    rounds = ceil_div(turns, 4) * waves
    cycles = max(work, rounds * LATENCY) + LATENCY + each * rows * 30 + (400 if warps > 1 else 0)
    share = min(1.0, in_flight / FLIGHT)
    memory = memory_us(gpu, problem.bytes_moved, problem.bytes_moved if problem.cold else 0.0) / share
    us = cycles / (gpu.ghz * 1e3)
    return gpu.launch_us + max(us, memory) + 0.25 * min(us, memory)


def map_us(problem: Problem, threads: int, block: int, turns: int, instructions: float) -> float:
    """A kernel that reads, computes and writes once: bandwidth, as far as enough is in flight."""
    gpu = problem.target.gpu
    assert gpu is not None
    on_one = ceil_div(ceil_div(threads, block), gpu.multiprocessors) * block
    held = min(on_one, gpu.threads)
    inputs = max(1, len(problem.body.inputs))
    share = min(1.0, held * turns * inputs * 16.0 / FLIGHT)
    cycles = LATENCY + on_one * (instructions + 8.0 * turns) / gpu.f32_fma
    us, memory = cycles / (gpu.ghz * 1e3), memory_us(gpu, problem.bytes_moved) / share
    return gpu.launch_us + max(us, memory) + 0.25 * min(us, memory)
