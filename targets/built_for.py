"""What the kernel that is being built is for, a core or an accelerator, and the vectorized loop around what is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgec.compiler.target import Cpu

from .lets import ESTIMATES, TABLE, Lanes

_lanes: list[Lanes] = []  # the vectorized loops that are being built, innermost last
_device = [False]  # whether a kernel for an accelerator is being built


@contextmanager
def device_code() -> Iterator[None]:
    """Until it ends, `function` makes kernels for an accelerator: their parameters are the pointers themselves, and
    one call, that of one thread, does one task."""
    _device.append(True)
    try:
        yield
    finally:
        _device.pop()


_cores: list[Cpu] = []  # that of the kernel that is being built


@contextmanager
def core(cpu: Cpu) -> Iterator[None]:
    """Until it ends, kernels are for this core."""
    _cores.append(cpu)
    try:
        yield
    finally:
        _cores.pop()


@contextmanager
def vector_loop(lanes: Lanes) -> Iterator[None]:
    """Until it ends, what is made is under this loop."""
    _lanes.append(lanes)
    try:
        yield
    finally:
        _lanes.pop()


def innermost() -> Lanes | None:
    """The vectorized loop around what is made, if any."""
    return _lanes[-1] if _lanes else None


def has_fpu() -> bool:
    """Whether floats cost what integers do; where not, kernels on bytes use integers alone."""
    return not _cores or _cores[-1].fpu


def has_helium() -> bool:
    """Whether vectors are Helium's."""
    return bool(_cores) and "MVE" in _cores[-1].isa


def has_dsp() -> bool:
    """Whether rounding to bytes takes the instructions of `cortex.py`: on a Cortex-M, outside of vectors."""
    return bool(_cores) and {"DSP", "FPU"} <= _cores[-1].isa and "MVE" not in _cores[-1].isa and not _lanes


def rounds() -> bool:
    """Whether an instruction rounds f32 to an integer: not before FPv5, where it is a call of the library."""
    return not _cores or (_cores[-1].fpu and ("DSP" not in _cores[-1].isa or "FPV5" in _cores[-1].isa))


def has_limits() -> bool:
    """Whether `llvm.maximum` and `llvm.minimum` of f32, which keep NaN, are instructions."""
    return bool(_cores) and "NEON" in _cores[-1].isa


def to_nearest() -> bool:
    """Whether one instruction rounds f32 to the nearest integer, halves to even, and saturates: on AArch64."""
    return has_limits() and _cores[-1].vector_registers == 32


def fuses() -> bool:
    """Whether a product and the addition after it are one instruction on f32 of any vector."""
    return bool(_cores) and "FMA" in _cores[-1].isa and not has_limits()


def scales() -> bool:
    """Whether an instruction multiplies vectors by powers of two, to any number that f32 has."""
    return bool(_cores) and "AVX512F" in _cores[-1].isa and bool(_lanes) and _lanes[-1].count > 1


def picks() -> bool:
    """Whether each lane may pick an element of a vector of sixteen in one instruction, on the vectors around."""
    if not _cores or "AVX512F" not in _cores[-1].isa or not _lanes:
        return False
    return _lanes[-1].count % TABLE == 0 or 2 * _lanes[-1].count == TABLE


def estimates() -> tuple[str, str] | None:
    """NEON's instructions that estimate one over f32 and make an estimate better, where products are fused beside."""
    if not has_limits():
        return None
    registers, isa = _cores[-1].vector_registers, _cores[-1].isa
    if registers < 32 and ("FMA" not in isa or not _lanes or _lanes[-1].count < 2):  # there they take vectors alone
        return None
    return ESTIMATES.get(registers)


def reads_addends() -> bool:
    """Whether numbers that products are added to are better read from memory than copied from a register."""
    return bool(estimates()) and _cores[-1].vector_registers == 32 and _cores[-1].loads_pay


def unscaled_loads() -> bool:
    """Whether vectors are loaded in less work from addresses near their register."""
    return bool(_cores) and _cores[-1].unscaled_loads


def has_large_file() -> bool:
    """Whether a core has 32 registers of 512 bits."""
    return bool(_cores) and "AVX512F" in _cores[-1].isa


def has_doubles() -> bool:
    """Whether a core divides f64 about as quickly as f32: x86 and AArch64."""
    if not _cores or on_device():
        return False
    isa, registers = _cores[-1].isa, _cores[-1].vector_registers
    return "AVX2" in isa or ("NEON" in isa and registers == 32)


def divides_vectors() -> bool:
    """Whether vectors of integers of up to 32 bits are divided as floats: x86 divides integers one by one."""
    return bool(_cores) and "AVX2" in _cores[-1].isa and bool(_lanes) and _lanes[-1].count > 1 and not on_device()


def divides_long_vectors() -> bool:
    """Whether those of 64 bits are too: where instructions convert vectors of them to f64 and back."""
    return divides_vectors() and "AVX512DQ" in _cores[-1].isa


def on_device() -> bool:
    """Whether the kernel that is being built is for an accelerator."""
    return _device[-1]


def has_cache() -> bool:
    """Whether asking for lines of memory ahead is worth an instruction."""
    return not _cores or bool(_cores[-1].l2)
