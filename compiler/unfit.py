"""What to say of a model that a target has no room for: how much is missing, what takes most of it, what would help."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .budget import Budget, Measures
from .bundle.names import middle_out
from .program import Allocation, Program
from .target import Target
from .units import show_bytes, show_seconds

NAMED = 3


def at_peak(map_: Sequence[Allocation]) -> list[Allocation]:
    """The buffers alive in the step that needs most, the largest first."""
    steps = {a.first for a in map_}
    alive = [[a for a in map_ if a.first <= step <= a.last] for step in sorted(steps)]
    most = max(alive, key=lambda rows: sum(a.bytes for a in rows), default=[])
    return sorted(most, key=lambda a: (-a.bytes, a.offset))


def largest(map_: Sequence[Allocation]) -> str:
    """What lies there in the step that needs most."""
    rows = at_peak(map_)[:NAMED]
    step = max((a.first for a in rows), default=0)
    return f"most at step {step}: " + ", ".join(f"{middle_out(a.value, 40)!r} {show_bytes(a.bytes)}" for a in rows)


def ram_help(types: Iterable[str], more: Iterable[str] = ()) -> str:
    """What makes an arena smaller; `types`: of what the steps compute."""
    ways = ["--quantize int8"] if "f32" in types else [*more]
    return f"what helps: {', '.join([*ways, *_ALWAYS])}"


_ALWAYS = ("a smaller input (--shape)", "`edgec compress`")


def flash_help(types: Iterable[str], more: Iterable[str] = ()) -> str:
    """What makes weights smaller; `types`: of what the steps compute."""
    ways = ["--quantize int8", "--weights int8"] if "f32" in types else []
    return f"what helps: {', '.join([*ways, *more, '`edgec compress`'])}"


def advice(program: Program, limits: Budget, found: Measures, code_bytes: int, target: Target) -> str:
    """What takes most of a program that exceeds its limits, and what would help."""
    parts, types = list[str](), _types(program)
    if limits.ram is not None and found.ram > limits.ram:
        parts += [largest(program.arena_map), ram_help(types, _byte_inputs(program))]
    if limits.flash is not None and found.flash > limits.flash:
        near = code_bytes > found.flash - limits.flash and not target.small and not target.gpu
        smaller = ["--optimize size"] if near else []
        parts += [f"weights {show_bytes(program.weights_bytes)}, code {show_bytes(code_bytes)}"]
        parts += [flash_help(types, smaller)]
    return "; ".join(parts) or "what helps: `edgec compress`, which looks for a form that fits"


def _types(program: Program) -> set[str]:
    """What most multiplications are computed in; of a program without any, what its steps compute."""
    macs = dict[str, int]()
    for step in program.steps:
        macs[step.dtype] = macs.get(step.dtype, 0) + step.macs
    return {kind for kind, count in macs.items() if 2 * count >= sum(macs.values())}


def _byte_inputs(program: Program) -> list[str]:
    """What makes inputs in f32 smaller, where they are among what needs most."""
    wide = {port.name for port in program.inputs if port.dtype == "f32"}
    found = wide & {a.value for a in at_peak(program.arena_map)[:NAMED]}
    return ['inputs as bytes (--passes "+byte-inputs@fold")'] if found else []


def soft_floats(program: Program, target: Target) -> str:
    """The price of a model that computes in f32 on a core that does not; nothing where there is none."""
    floats = [step for step in program.steps if "f32" in step.dtype.split()]
    if not target.soft_floats or not floats:
        return ""
    price, whole = (sum(step.cost_us for step in steps) * 1e-6 for steps in (floats, program.steps))
    return (
        f"warning: {target.name} has no floating point; {len(floats)} of {len(program.steps)} steps compute in f32 "
        f"through functions of the compiler's library, {show_seconds(price)} of {show_seconds(whole)} as modelled; "
        "--quantize int8 computes with integers"
    )
