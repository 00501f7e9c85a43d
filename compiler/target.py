"""A target is one TOML file, read into frozen records. Unknown keys are errors that name the nearest known one."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from .errors import EdgecError, nearest
from .memory.regions import Region, holding, regions_of
from .target_fields import fields_of, record

LONG = 4  # cycles of a product beyond which a shorter chain pays for loads beside it


@dataclass(frozen=True)
class Cpu:
    """What kernels and cost model need to know of a core. Sizes in bytes, rates per cycle of one core.

    `mcpu` and `mattr` are LLVM's spellings; `fma_per_cycle` counts vector instructions, `load_per_cycle` vector loads;
    `l2_bytes_per_cycle` and the like are sustained read rates of one core; `l3` is what one core may count on of a
    cache that cores share, 0 where there is none.
    """

    mcpu: str
    cores: int
    ghz: float
    vector_bits: int
    vector_registers: int
    l1d: int
    l2: int
    fma_per_cycle: float = 2.0
    fma_latency: int = 4
    load_per_cycle: float = 2.0
    l2_bytes_per_cycle: float = 32.0
    l3: int = 0
    l3_bytes_per_cycle: float = 12.0
    ram_bytes_per_cycle: float = 4.0
    mattr: tuple[str, ...] = ()
    isa: frozenset[str] = frozenset()
    unscaled_loads: bool = False  # whether vectors are loaded in less work where offsets are not scaled
    loads_beside: bool = False  # whether a core that issues in order begins a load beside a product of vectors
    fpu: bool = True  # whether the core computes in f32; without, code for bytes uses integers alone

    def lanes(self, bits: int = 32) -> int:
        """Elements of `bits` in one vector register."""
        return self.vector_bits // bits

    @property
    def has_vectors(self) -> bool:
        """Whether it has vectors of f32, and registers for a tile of them."""
        return self.vector_registers >= 8 and self.lanes(32) >= 2

    @property
    def loads_pay(self) -> bool:
        """Whether what products are added to is better read from memory than copied from a register. On cores that
        load no more than they multiply: where products are long, or loads less work than their number says."""
        if self.loads_beside:
            return True
        long = self.fma_latency > LONG or self.unscaled_loads
        return self.load_per_cycle > self.fma_per_cycle or (self.load_per_cycle == self.fma_per_cycle and long)

    @property
    def multiplies_halves(self) -> bool:
        """Whether vectors of 512 bits are multiplied in two steps, and half of one in one."""
        return self.vector_bits == 512 and self.fma_per_cycle <= 1

    @property
    def peak_gflops(self) -> float:
        """fp32 peak of one core, in 1e9 operations per second (a multiply-add counts two)."""
        return 2 * self.lanes() * self.fma_per_cycle * self.ghz


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU. Bytes, and rates of one multiprocessor per cycle; a multiply-add counts one.

    `archs` are what the bundle holds machine code for (`sm_87`; the last of them as PTX too, for newer devices), and
    `emulated` what the emulation on a CPU runs. `shared_block` is the most that one block may ask for; `*_gbytes` are
    1e9 bytes per second of the whole device, `launch_us` what one more kernel of a captured graph costs.
    """

    archs: tuple[str, ...]
    multiprocessors: int
    ghz: float
    threads: int = 1536
    registers: int = 65536
    shared: int = 102400
    shared_block: int = 101376
    l2: int = 4 << 20
    f32_fma: int = 128
    tf32_fma: int = 512
    f16_fma: int = 1024
    int8_fma: int = 2048
    l2_gbytes: float = 1000.0
    ram_gbytes: float = 200.0
    launch_us: float = 1.5
    allow_tf32: bool = False  # products of f32 may be computed with 10 bits of mantissa
    others: tuple[tuple[str, Gpu], ...] = ()  # a usual device of another architecture, where that is asked for


@dataclass(frozen=True)
class Machine:
    """A board without an operating system that the emulator knows: `name` is the emulator's.

    Memory for code, constants and weights, and memory for all else, each as address and bytes; `vectors`: where the
    core looks for its vector table, where that is not the beginning of `flash`.
    """

    name: str
    flash: tuple[int, int]
    ram: tuple[int, int]
    vectors: int = -1


@dataclass(frozen=True)
class Target:
    """A board or CPU level. `triple` is LLVM's, `zig` the triple for cross linking with ziglang.

    A target with `levels` is its first, least demanding level in all that its file does not say otherwise.
    `compilers` are C compilers to try in order when the target is not this machine, `cflags` what they are told of the
    core; `emulator` runs its programs here, on `machine` where there is no operating system. `float_abi` says how
    functions of 32-bit ARM pass floats; no model may need more than `stack_bytes` of stack (0: any).
    """

    name: str
    summary: str
    triple: str
    zig: str
    cpu: Cpu
    gpu: Gpu | None = None  # what runs the kernels; `cpu` is then one thread of a kernel that is written for CPUs
    pointer_bits: int = 64
    align: int = 64
    compilers: tuple[str, ...] = ()
    cflags: tuple[str, ...] = ()
    float_abi: str = ""
    emulator: tuple[str, ...] = ()
    machine: Machine | None = None
    stack_bytes: int = 0
    pipeline: str = (
        "canonicalize, fold, widen, integers, attention, phases, channels, rescale-once, short-constants, fuse, "
        "layout, plan"
    )
    memory: tuple[Region, ...] = ()  # regions that models may use; none: not known
    small: bool = False  # kernels are made small rather than fast
    levels: tuple[Target, ...] = ()  # a bundle holds one program for each of them, and opens the last that fits

    @property
    def programs(self) -> tuple[Target, ...]:
        """The descriptions to compile for, the most demanding first."""
        return self.levels[::-1] or (self,)

    @property
    def microcontroller(self) -> bool:
        """Whether it is a Cortex-M, whose code is Thumb."""
        return self.triple.startswith("thumb")

    @property
    def rounds_once(self) -> bool:
        """Whether sums of bytes are rescaled by one multiply-add where that gives the same (passes/rescale_once.py)."""
        return self.triple.startswith("aarch64")

    @property
    def fuses(self) -> bool:
        """Whether an instruction multiplies and adds f32, rounded once."""
        if self.gpu is not None:
            return True
        return self.cpu.fpu and ("FMA" in self.cpu.isa or not self.triple.startswith(("x86", "arm", "i386")))

    @property
    def shares_code(self) -> bool:
        """Whether layers that differ in numbers alone share one kernel's code: where flash counts, and kernels of bytes
        are written for the DSP extension."""
        return "DSP" in self.cpu.isa and "MVE" not in self.cpu.isa

    @property
    def widens(self) -> bool:
        """Whether kernels take multipliers and biases of quantized layers in 16 bits (passes/short_constants.py)."""
        return not self.gpu and (self.rounds_once or bool({"F16C", "FPU", "NEON"} & self.cpu.isa))

    @property
    def multiplies_few_bits(self) -> bool:
        """Whether its kernels multiply by weights of few bits in blocks as they are stored (docs/design/0050)."""
        return not (self.gpu or self.microcontroller) and self.cpu.has_vectors

    @property
    def spacing(self) -> int:
        """Bytes to whose multiples buffers and constants begin: a cache line, and less where memory is scarce."""
        return max(self.align, 16) if self.microcontroller else 64

    @property
    def grain(self) -> int:
        """Bytes to whose multiples small constants begin: a word, or a vector where it is dear across two lines."""
        return 16 if self.gpu or self.bytes_held == "u8" else 4

    @property
    def soft_floats(self) -> bool:
        """Whether functions of the compiler's library compute in f32."""
        return not self.cpu.fpu

    @property
    def ram(self) -> int | None:
        """Bytes that an arena may have in all; None: not known."""
        rooms = holding(self.memory, "arena")
        return sum(room.size for room in rooms) if rooms else None

    @property
    def flash(self) -> int | None:
        """Bytes that weights and code may have in all; None: not known."""
        rooms = [room for room in self.memory if room.kind == "flash"]
        return sum(room.size for room in rooms) if rooms else None

    @property
    def bytes_held(self) -> str:
        """How quantized tensors are held: x86 multiplies unsigned by signed bytes, ARM signed by signed."""
        return "u8" if self.triple.startswith("x86_64") else "i8"


def read_target(text: str, where: str) -> Target:
    """Parse a description; `where` names the file in errors."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EdgecError(f"{where}: not valid TOML: {error}") from error
    if names := table.pop("levels", None):
        return _with_levels(table, names, where)
    target: Target = record(Target, table, where, _PARTS)
    if target.small and target.gpu:
        raise EdgecError(f"{where}: small: kernels made for size are for CPUs")
    return target


def _with_levels(table: dict[str, Any], names: Any, where: str) -> Target:
    """A target that is several others at once."""
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise EdgecError(f"{where}: levels: expected the names of two or more targets, the least demanding first")
    levels = tuple(find_target(name) for name in names)
    least = levels[0]
    for lower, level in zip(levels, levels[1:], strict=False):
        if level.levels or (level.triple, level.align) != (least.triple, least.align):
            raise EdgecError(f"{where}: levels: {level.name} and {least.name} do not fit into one library")
        if not lower.cpu.isa < level.cpu.isa:
            raise EdgecError(f"{where}: levels: {level.name} does not need more than {lower.name} before it")
    given = {"name", "summary"} & table.keys()
    if len(given) < 2 or len(table) > 2:
        raise EdgecError(f"{where}: a target of several levels has a name, a summary and levels, no more and no less")
    return dataclasses.replace(least, **fields_of(Target, table, where, {}), levels=levels)


def _gpu(table: Any, where: str) -> Gpu:
    """A device; a table [gpu.sm_90] in its own says how one of another architecture differs."""
    where = f"{where}: [gpu]"
    given = table.items() if isinstance(table, dict) else ()
    others = {key: value for key, value in given if isinstance(value, dict)}
    first: Gpu = record(Gpu, {key: value for key, value in given if key not in others} if others else table, where)
    found = []
    for arch, changes in others.items():
        values = fields_of(Gpu, {**changes, "archs": [arch]}, f"{where[:-1]}.{arch}]", {})
        found.append((arch, dataclasses.replace(first, **values)))
    return dataclasses.replace(first, others=tuple(found))


_PARTS = {  # fields of a target that are tables of their own
    "cpu": lambda table, where: record(Cpu, table, f"{where}: [cpu]"),
    "machine": lambda table, where: record(Machine, table, f"{where}: [machine]"),
    "gpu": _gpu,
    "memory": regions_of,
}


FOLDER = Path(__file__).resolve().parent.parent / "targets"


def find_target(name: str | Path) -> Target:
    """A target by name (built in, of a plugin, `host` for this machine), or from the path of a .toml file."""
    from .plugins import all_targets

    if not isinstance(name, str | Path):
        raise EdgecError(f"target: {name!r}; expected a name, such as host, or the path of a .toml file")
    name = str(name)
    if name == "host":
        host: Target = import_module("edgec.targets.host").host()
        return host
    known = all_targets()
    path = known.get(name, Path(name))
    if name not in known and path.suffix != ".toml":
        raise EdgecError(f"unknown target {name!r}{nearest(name, [*known, 'host'])}")
    try:
        return read_target(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise EdgecError(f"target {path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EdgecError(f"{path}: not valid TOML: {error.reason} at byte {error.start}") from error


def target_files() -> dict[str, Path]:
    """Names of the built-in descriptions."""

    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}
