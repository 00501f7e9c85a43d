"""Which region of the board each constant and each kernel lies in, and where that puts what the steps refer to.

What is read most per byte comes first into the memory that is cheapest to read and has room: a small table that every
pixel looks at before a large matrix that is read once. The bulk of the weights keeps the first place in the program;
what lies elsewhere becomes banks beside it. spread.py does the same for the arena, whose offsets are divided here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..bundle import elf
from ..bundle.names import middle_out
from ..errors import EdgecError
from ..program import Memory, Placement, Port, Program, Ref, Step
from ..target import Target
from ..traffic import TILE
from ..unfit import flash_help
from ..units import show_bytes
from .regions import Region
from .spread import Bank

REST = 6144, 96  # bytes of the runtime and of tables that are kept free: of any model, and of each step
FETCH = 2.0  # bytes of code that a core reads per cycle


@dataclass(frozen=True)
class Constant:
    """Bytes of the weights as code generation placed them."""

    name: str
    offset: int
    bytes: int


@dataclass(frozen=True)
class _Item:
    what: str  # "weights" or "code"
    key: str | int  # symbol, or offset
    name: str
    bytes: int
    reads: float


def placed(
    program: Program, target: Target, banks: Sequence[Bank], constants: Sequence[Constant], align: int
) -> Program:
    """The program on the regions of its target; one without regions stays as it is."""
    if not target.memory:
        return program
    if len(banks) > 1 and program.threads > 1:
        raise EdgecError(f"threads: {program.threads} workers; an arena in several regions is for one")
    used = {bank.region: bank.bytes for bank in banks}
    where = _assigned(_items(program, target, constants), program, target, used)
    home, weights, moved, more = _weights(program, constants, where, align)
    arenas = tuple(Memory(bank.region, bank.bytes) for bank in banks[1:])

    def at(ref: Ref) -> Ref:
        if ref.region == "weights":
            bank, offset = moved[ref.offset]
            return Ref("bank", offset, len(arenas) + bank) if bank >= 0 else Ref("weights", offset)
        k = next(k for k in reversed(range(len(banks))) if banks[k].start <= ref.offset or not k)
        return ref if k == 0 else Ref("bank", ref.offset - banks[k].start, k - 1)

    kernels = {str(i.key): region for i, region in where.items() if i.what == "code"}
    code = _home({i: r for i, r in where.items() if i.what == "code"}, target, "code")
    return replace(
        program,
        steps=tuple(_step(step, at) for step in program.steps),
        inputs=tuple(_port(port, at) for port in program.inputs),
        outputs=tuple(_port(port, at) for port in program.outputs),
        weights=weights,
        arena_bytes=max(banks[0].bytes, align),
        banks=(*arenas, *more),
        placement=Placement(
            banks[0].region, home, code, {symbol: region for symbol, region in kernels.items() if region != code}
        ),
    )


def _items(program: Program, target: Target, constants: Sequence[Constant]) -> list[_Item]:
    """Constants and kernels with the bytes that an inference reads of them."""
    reads = dict.fromkeys((c.offset for c in constants), 0.0)
    cycles: dict[str, float] = {}
    sizes = {c.offset: c.bytes for c in constants}
    for step in program.steps:
        read = [ref.offset for ref in step.args if ref.region == "weights"]
        large = max(read, key=sizes.__getitem__, default=-1)
        for offset in read:
            reads[offset] += max(sizes[offset], step.macs / TILE if offset == large else 0)
        cycles[step.symbol] = cycles.get(step.symbol, 0.0) + step.cost_us * target.cpu.ghz * 1e3
    items = [_Item("weights", c.offset, c.name, c.bytes, reads[c.offset]) for c in constants]
    for _, data in program.objects:
        size = elf.stored_bytes(data)
        for symbol in elf.symbols(data):
            if symbol.defined and symbol.is_global and symbol.name in cycles:
                items.append(_Item("code", symbol.name, symbol.name, size, FETCH * cycles[symbol.name]))
    return items


class _Rooms:
    """What is left of each region while items are placed."""

    def __init__(self, items: Sequence[_Item], program: Program, target: Target, used: Mapping[str, int]) -> None:
        self.regions = target.memory
        self.left = {region.name: region.size - used.get(region.name, 0) for region in self.regions}
        flashes = [r for r in self.regions if r.kind == "flash" and "code" in r.holds]
        self.main = max(flashes, key=lambda r: r.size, default=None)  # tables and the runtime lie there
        if self.main is not None:
            self.left[self.main.name] -= REST[0] + REST[1] * len(program.steps)
        self.pending = {what: sum(_padded(i) for i in items if i.what == what) for what in ("weights", "code")}
        largest = {what: max((_padded(i) for i in items if i.what == what), default=0) for what in self.pending}
        # what may be left over at the ends of regions, because no item fits there
        self.ends = {what: largest[what] * max(len(self._holding(what)) - 1, 0) for what in self.pending}

    def _holding(self, what: str) -> list[str]:
        """Where bytes of it can lie in the end: what is read from RAM needs room in a flash too."""
        return [r.name for r in self.regions if what in r.holds and (r.kind == "flash" or self.main is None)]

    def _takes(self, region: Region) -> list[str]:
        """The regions that an item takes room of: what is read from RAM comes out of a flash."""
        return [region.name, *([self.main.name] if self.main is not None and region.kind == "ram" else [])]

    def _fits(self, item: _Item, region: Region) -> bool:
        """Whether there is room, and enough is left for the others that cannot lie in every region."""
        names, size = self._takes(region), _padded(item)
        if item.what not in region.holds or any(self.left[name] < size for name in names):
            return False
        for what in self.pending.keys() - {item.what}:
            there = self._holding(what)
            taken = size * sum(name in there for name in names)
            wanted = self.pending[what] + self.ends[what] if self.pending[what] else 0
            if taken and sum(self.left[name] for name in there) - taken < wanted:
                return False
        return True

    def place(self, item: _Item) -> str:
        """The cheapest region with room; "" where there is none."""
        self.pending[item.what] -= _padded(item)
        best = min((r for r in self.regions if self._fits(item, r)), key=lambda r: r.cost, default=None)
        for name in self._takes(best) if best else ():
            self.left[name] -= _padded(item)
        return best.name if best else ""


def _assigned(items: Sequence[_Item], program: Program, target: Target, used: Mapping[str, int]) -> dict[_Item, str]:
    """The region of each, the most read per byte first into the cheapest."""
    rooms = _Rooms(items, program, target, used)
    order = sorted(items, key=lambda i: (-i.reads / max(i.bytes, 1), i.what, str(i.key)))
    where = {item: rooms.place(item) for item in order}
    if left := [item for item in order if not where[item]]:
        raise EdgecError(_refused(program, target, items, left))
    return where


def _padded(item: _Item) -> int:
    return -(-item.bytes // 16) * 16


def _refused(program: Program, target: Target, items: Sequence[_Item], left: Sequence[_Item]) -> str:
    missing = sum(item.bytes for item in left)
    largest = sorted(items, key=lambda i: -i.bytes)[:3]
    have = ", ".join(f"{r.name} {show_bytes(r.size)}" for r in target.memory if set(r.holds) & {"weights", "code"})
    shown = ", ".join(f"{middle_out(i.name, 40)!r} {show_bytes(i.bytes)}" for i in largest)
    return (
        f"memory: weights and code of {program.name} take {show_bytes(missing)} more than fits into {have}; "
        f"largest: {shown}; {flash_help(step.dtype for step in program.steps)}, another flash (--memory)"
    )


def _home(where: Mapping[_Item, str], target: Target, what: str) -> str:
    """The flash with the most bytes of what was placed; without any the first that may hold it."""
    flash = [r.name for r in target.memory if what in r.holds and r.kind == "flash"]
    flash = flash or [r.name for r in target.memory if what in r.holds]
    return max(flash, key=lambda name: sum(i.bytes for i, region in where.items() if region == name))


def _weights(
    program: Program, constants: Sequence[Constant], where: Mapping[_Item, str], align: int
) -> tuple[str, bytes, dict[int, tuple[int, int]], list[Memory]]:
    """The region of the bulk and its bytes; by old offset the bank (-1: the bulk) and the new offset; other banks."""
    regions = {int(item.key): region for item, region in where.items() if item.what == "weights"}
    size: dict[str, int] = {}
    for c in constants:
        size[regions[c.offset]] = size.get(regions[c.offset], 0) + c.bytes
    if not size:
        return "", program.weights, {}, []
    order = sorted(size, key=lambda name: -size[name])
    data = {name: bytearray() for name in order}
    moved = {}
    for c in constants:
        name = regions[c.offset]
        data[name] += bytes(-len(data[name]) % align)
        moved[c.offset] = order.index(name) - 1, len(data[name])
        data[name] += program.weights[c.offset : c.offset + c.bytes]
    more = [Memory(name, len(data[name]), bytes(data[name])) for name in order[1:]]
    return order[0], bytes(data[order[0]]), moved, more


def _step(step: Step, at: Callable[[Ref], Ref]) -> Step:
    results = tuple(replace(r, ref=at(r.ref)) for r in step.results)
    return replace(step, args=tuple(map(at, step.args)), results=results)


def _port(port: Port, at: Callable[[Ref], Ref]) -> Port:
    return replace(port, ref=at(port.ref), count=at(port.count) if port.count else None)
