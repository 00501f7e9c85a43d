"""What code generation hands to the bundle writer: one table of steps, and the bytes and sizes around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .ir import QParams, Type
from .memory.spread import Bank

Region = Literal["arena", "weights", "scratch", "zeros", "bank"]


@dataclass(frozen=True)
class Ref:
    """A place in memory: byte offset in a region. Scratch lies in the arena, once per worker.

    `zeros`: memory of an accelerator that is zero when an instance opens, and that each step leaves so.
    `bank`: number `bank` of the program's memories beside arena and weights.
    """

    region: Region
    offset: int
    bank: int = 0


@dataclass(frozen=True)
class Port:
    """An input or output of the model as the user sees it: row-major, `bytes` long, at `ref` in the arena.

    Where the size depends on data, `shape` is the largest, and the int64 at `count` says how many entries of
    `count_axis` are there.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    ref: Ref
    q: QParams | None = None
    count: Ref | None = None
    count_axis: int = -1


@dataclass(frozen=True)
class Stored:
    """What a step leaves in memory: a value's name, its type (layout included) and place."""

    value: str
    type: Type
    ref: Ref


@dataclass(frozen=True)
class Launch:
    """How an accelerator runs a kernel: `grid` blocks of `block` threads, each block with `shared` bytes beside what
    the kernel declares. `module`: the number of the device module that defines it.

    `registers` of a thread and bytes that it spills to memory: the most that the compiler states for any architecture.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: int
    shared: int = 0
    module: int = 0
    registers: int = 0
    spilled: int = 0


@dataclass(frozen=True)
class Image:
    """A device module for one architecture (sm_87: 87). `kind`: machine code (`cubin`), code that the driver compiles
    for this architecture or a newer one (`ptx`), or a shared library for the emulated driver (`emulated`, arch 0)."""

    arch: int
    kind: Literal["cubin", "ptx", "emulated"]
    data: bytes


@dataclass(frozen=True)
class Device:
    """The accelerator's part of a program. Its arena holds all values of the steps; that of the program only what goes
    in and comes out, in the order of `inputs` and `outputs` (and their counts), which lie in the device's arena at
    these places.

    `modules`: each for all architectures, in the same order; `source`: what they were compiled from.
    """

    modules: tuple[tuple[Image, ...], ...]
    arena_bytes: int
    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...]
    counts: tuple[Ref | None, ...]  # of outputs whose size depends on data
    zeros_bytes: int = 0
    source: str = ""


@dataclass(frozen=True)
class Step:
    """One kernel call: `symbol(args, begin, end)` over `tasks` tasks. The other fields explain it to people.

    name      unique within the program          row      registry row of the kernel
    origin    ONNX nodes that it computes        macs     multiply-accumulates (0 for memory-bound steps)
    config    the row's choices (tiles ...)      cost_us  modelled time on one core
    why       why this row and not another       bytes_moved  bytes read and written, weights included
    grain     tasks that are worth handing to another worker (grain.py)
    results   what lies where when it is done; of steps inside an If or a Loop, which may not run, nothing
    jump      of a branch, which has no symbol and one argument: where that is zero, so many steps further (or back)
    launch    on an accelerator: the kernel that runs instead of `symbol`, with all of `args` as its parameters

    Symbols `ec_...` are the runtime's: they copy and count around the graphs of If and Loop.
    """

    name: str
    symbol: str
    args: tuple[Ref, ...]
    tasks: int
    scratch_stride: int = 0
    grain: int = 1
    row: str = ""
    config: str = ""
    origin: tuple[str, ...] = ()
    dtype: str = "f32"
    macs: int = 0
    bytes_moved: int = 0
    cost_us: float = 0.0
    why: str = ""
    results: tuple[Stored, ...] = ()
    jump: int = 0
    launch: Launch | None = None

    @property
    def own(self) -> bool:
        """Whether its kernel is among the program's objects."""
        return self.launch is None and bool(self.symbol) and not self.symbol.startswith("ec_")


@dataclass(frozen=True)
class Allocation:
    """One buffer of the arena: bytes [offset, offset + bytes) hold `value` from step `first` to step `last`."""

    value: str
    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Arena:
    """The memory plan: bytes in all, the least that any plan could need, and who lies where.

    `banks`: its parts in different regions of RAM, the first of which the caller hands over; offsets count on.
    """

    bytes: int
    lower_bound: int
    map: tuple[Allocation, ...]
    banks: tuple[Bank, ...] = ()


@dataclass(frozen=True)
class Memory:
    """More memory of a program, in a region of the board: weights (`data`), or `size` bytes of the arena."""

    region: str
    size: int
    data: bytes | None = None


@dataclass(frozen=True)
class Placement:
    """Which regions of the board hold arena and weights ("": not said), and which kernels lie elsewhere than the rest:
    region by symbol."""

    arena: str = ""
    weights: str = ""
    code: str = ""
    kernels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Digest:
    """What a step leaves at a place: FNV-1a of 32 bits over its bytes."""

    step: int
    ref: Ref
    bytes: int
    digest: int


@dataclass(frozen=True)
class Golden:
    """What a self-test compares with: all inputs and then all outputs as bytes, and digests sorted by step."""

    data: bytes
    digests: tuple[Digest, ...]


@dataclass(frozen=True)
class Program:
    """A compiled model before linking. `objects` are ELF relocatable files (name, bytes) that define the symbols.

    `target` is what these steps were compiled for: of a target with several levels, one of them.
    """

    name: str
    target: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    steps: tuple[Step, ...]
    weights: bytes
    objects: tuple[tuple[str, bytes], ...]
    arena_bytes: int
    lower_bound: int
    arena_map: tuple[Allocation, ...]
    threads: int = 1
    align: int = 64
    isa: tuple[str, ...] = ()  # EC_ISA_* names without the prefix, checked by ec_open
    passes: str = ""
    model_sha256: str = ""
    notes: tuple[str, ...] = field(default=())
    quantization: Mapping[str, Any] | None = None  # what became of each layer, where calibration data chose scales
    compression: Mapping[str, Any] | None = None  # what became of each layer, where passes made layers smaller
    device: Device | None = None  # where an accelerator runs the steps
    banks: tuple[Memory, ...] = ()  # memory beside arena and weights, on boards with several regions
    placement: Placement = Placement()
    golden: Golden | None = None
    fallback: Program | None = None  # the same model for lesser CPUs: same ports, same weights, steps of its own

    @property
    def weights_bytes(self) -> int:
        """Of all regions."""
        return len(self.weights) + sum(bank.size for bank in self.banks if bank.data is not None)

    @property
    def ram_bytes(self) -> int:
        """The arena in all regions of the CPU."""
        return self.arena_bytes + sum(bank.size for bank in self.banks if bank.data is None)

    @property
    def levels(self) -> tuple[Program, ...]:
        """The program and its fallbacks, the most demanding first."""
        return (self, *(self.fallback.levels if self.fallback else ()))


def chained(levels: Sequence[Program]) -> Program:
    """The first of some programs, the others as its fallbacks."""
    chain: Program | None = None
    for program in reversed(levels):
        chain = replace(program, fallback=chain)
    assert chain is not None
    return chain
