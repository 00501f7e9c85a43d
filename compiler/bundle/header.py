"""`<name>.h`: the sizes of the model as constants, and its manual."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ..dtypes import DTYPES, dtype
from ..program import Memory, Port, Program
from .footprint import Footprint
from .names import comment, unique
from .tables import bank_symbol, scale_of, section_of

_C_TYPES = {"f32": "float", "f64": "double", "bool": "uint8_t", "f16": "uint16_t", "bf16": "uint16_t"}
_C_TYPES |= {n: f"{row.tvm}_t" for n, row in DTYPES.items() if row.is_whole or row.is_storage}  # intN_t and uintN_t


def header(program: Program, version: str, code_bytes: int, footprint: Footprint | None = None) -> str:
    """The whole header."""
    lines = [*_manual(program, version, code_bytes), *_declared(program, code_bytes, footprint)]
    return "\n".join(lines) + "\n"


def _manual(program: Program, version: str, code_bytes: int) -> list[str]:
    """The comment at the top: what the model needs and takes, and how it is used and linked."""
    name, big = program.name, program.name.upper()
    section = f" {big}_ARENA_SECTION" if program.placement.arena else ""
    closing = [" *     ec_close(&model);                               // gives back what it has on the device"]
    memory = [f" * On the device: {_on_device(program)} bytes per instance, and once the weights."]
    device = [" *     More about GPUs (streams, data that are there already, errors): edgec/cuda.h."]
    needs = "-lm -ldl -pthread" if program.device else "-lm"
    return [
        f'/* {name}.h - the model "{name}", compiled by edgec {version} for {_targets(program)}.',
        " *",
        f" * Memory: {program.arena_bytes} bytes per instance (the arena); {program.weights_bytes} bytes of weights and"
        f" {code_bytes} bytes of",
        " * code are read-only and shared by all instances.  Tensors are row-major.",
        *_banks(program),
        *(memory if program.device else []),
        " *",
        *_list("Inputs", program.inputs),
        *_list("Outputs", program.outputs),
        " * Usage (edgec/edgec.h is the manual):",
        " *",
        f" *     EC_ALIGNAS({big}_ARENA_ALIGN) static uint8_t arena[{big}_ARENA_BYTES]{section};",
        " *     ec_model model;",
        f" *     ec_status status = ec_open(&model, &{name}_desc, arena, sizeof arena);",
        " *     if (status < 0) { puts(ec_strerror(status)); return 1; }",
        *_usage(program),
        *(closing if program.device else []),
        " *",
        f" *     cc -I DIR app.c DIR/lib{name}.a {needs}              (DIR: the folder of this file)",
        *(device if program.device else []),
        " *     With edgec/pool.h, loader.h or bench.h (threads, loading, timing): link DIR/libedgec.a -pthread too.",
        f" *     CMake: find_package({name} CONFIG REQUIRED PATHS DIR) and target_link_libraries(app {name}::{name})",
        " */",
    ]


def _declared(program: Program, code_bytes: int, footprint: Footprint | None) -> list[str]:
    """Constants for memory, inputs and outputs, and the descriptor."""
    name, big = program.name, program.name.upper()
    golden = f"\nextern const ec_golden {name}_golden;" if program.golden else ""
    device = [f"#define {big}_DEVICE_BYTES {_on_device(program)}u /* of an instance */"]
    return [
        f"#ifndef {big}_H\n#define {big}_H\n",
        f'#include "edgec/{"selftest" if program.golden else "edgec"}.h"\n',
        f"#define {big}_ARENA_BYTES {max(program.arena_bytes, 1)}u",
        f"#define {big}_ARENA_ALIGN {program.align}",
        *_section(program),
        f"#define {big}_WEIGHTS_BYTES {program.weights_bytes}u",
        f"#define {big}_CODE_BYTES {code_bytes}u",
        *_footprint(big, footprint),
        *(device if program.device else []),
        f"#define {big}_STEPS {max(len(level.steps) for level in program.levels)}{_most(program)}",
        f"#define {big}_THREADS {program.threads} /* workers that the arena has scratch memory for */\n",
        *_constants(big, "INPUT", program.inputs),
        *_constants(big, "OUTPUT", program.outputs),
        f'#ifdef __cplusplus\nextern "C" {{\n#endif\nextern const ec_desc {name}_desc;{golden}',
        "#ifdef __cplusplus\n}\n#endif\n#endif",
    ]


def _on_device(program: Program) -> int:
    """Bytes that an instance has on a device."""
    return program.device.arena_bytes + program.device.zeros_bytes if program.device else 0


def _banks(program: Program) -> list[str]:
    """What the library brings along beside arena and weights."""
    lines = []
    for k, bank in enumerate(program.banks):
        what = "values of a run" if bank.data is None else "of the weights"
        lines.append(
            f" * model.banks[{k}]: {bank.size} bytes {what}, in {bank.region} (section {_where(program, bank)})."
        )
    if program.placement.arena:
        lines.append(f" * The arena was planned for {program.placement.arena}; {program.name}.ld places all of it.")
    return lines


def _where(program: Program, bank: Memory) -> str:
    return section_of(program.name, f".{'bss' if bank.data is None else 'rodata'}.{bank_symbol(program, bank)}")


def _section(program: Program) -> list[str]:
    """Where the program should put its arena."""
    if not program.placement.arena:
        return []
    big, name = program.name.upper(), program.name
    return [f'#define {big}_ARENA_SECTION __attribute__((section(".bss.{name}_arena")))']


def _footprint(big: str, footprint: Footprint | None) -> list[str]:
    """Sizes that are known where there is no operating system."""
    if footprint is None:
        return []
    lines = [f"#define {big}_FLASH_BYTES {footprint.flash}u /* with the runtime's code */"]
    if footprint.stack is not None:
        lines.append(f"#define {big}_STACK_BYTES {footprint.stack}u /* most below ec_run; interrupts need their own */")
    return lines


def _targets(program: Program) -> str:
    return ", else ".join(level.target for level in program.levels)


def _most(program: Program) -> str:
    return " /* most of its levels; ec_model.desc->n_steps of the one that is open */" if program.fallback else ""


def describe(port: Port) -> str:
    """Element type and shape, and quantization where there is one: `uint8[1, 8] (x - 128) * 0.5`.

    A size that depends on data is shown as a range: `int64[0..100, 3]`.
    """
    sizes = [f"0..{n}" if k == port.count_axis else f"{n}" for k, n in enumerate(port.shape)]
    text = f"{dtype(port.dtype).numpy.name}[{', '.join(sizes)}]"
    scale, zero = scale_of(port)
    return f"{text}, real = (x - {zero}) * {scale:.9g}" if scale else text


def _list(title: str, ports: Sequence[Port]) -> list[str]:
    rows = [f" *   {i}  {comment(p.name)}: {describe(p)}, {p.bytes} bytes" for i, p in enumerate(ports)]
    return [f" * {title}", *(rows or [" *   none"]), " *"]


def _usage(program: Program) -> list[str]:
    lines = []
    if program.inputs:
        size = f"{program.name.upper()}_INPUT_{unique([program.inputs[0].name])[0]}_BYTES"
        lines.append(f" *     memcpy(ec_input(&model, 0).data, source, {size});  // every input, before every run")
    lines.append(" *     status = ec_run(&model);")
    if program.outputs:
        kind = _C_TYPES[program.outputs[0].dtype]
        lines.append(
            f" *     const {kind} *result = (const {kind} *)ec_output(&model, 0).data;  // valid until the next run"
        )
        if program.outputs[0].count:
            lines.append(" *     const int64_t count = ec_output_count(&model, 0);  // how much of it is there")
    return lines


def _constants(big: str, word: str, ports: Sequence[Port]) -> list[str]:
    lines = [f"#define {big}_{word}S {len(ports)}"]
    for i, (port, short) in enumerate(zip(ports, unique(p.name for p in ports), strict=True)):
        prefix = f"#define {big}_{word}_{short}"
        lines += [
            f"{prefix} {i} /* {comment(port.name)}: {describe(port)} */",
            f"{prefix}_BYTES {port.bytes}u",
            f"{prefix}_SIZE {prod(port.shape)}u",
            f"{prefix}_RANK {len(port.shape)}",
        ]
        if port.shape:
            lines.append(f"{prefix}_SHAPE {{{', '.join(map(str, port.shape))}}}")
        if port.count:
            axis = port.count_axis
            lines += [
                f"{prefix}_COUNT_AXIS {axis} /* how much is there along it: ec_output_count(&model, {i}) */",
                f"{prefix}_COUNT_MOST {port.shape[axis]}",
            ]
    return [*lines, ""]
