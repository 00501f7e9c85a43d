"""Instructions of an inference on an emulated Cortex-M: edgec's kernels, and the same layers in plain C at -O3.

    python benchmarks/cortex.py MODEL.onnx... [--target cortex-m4]

Plain C (cortex_plain.h) has the convolutions and matrix products of a quantized model alone, with all sizes constant;
weights are random, since no time depends on them. Both counts are those of the emulator's clock.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import edgec
from edgec.compiler import toolchain
from edgec.compiler.bundle.firmware import SOURCES, Firmware, linker_script
from edgec.compiler.bundle.manifest import read_bundle
from edgec.compiler.importer import import_model
from edgec.compiler.ir import Node
from edgec.compiler.op import full_attrs
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import Target, find_target

HERE = Path(__file__).resolve().parent
FLAGS = ("-O3", "-std=c11", "-ffreestanding", "-fno-exceptions")


def call(node: Node, zero: int = -128) -> str:
    """A layer as a call of cortex_plain.h."""
    attrs: Any = full_attrs(node)
    (x, w), out = (a.shape for a in node.args[:2]), node.types[0].shape
    data = "x, w, bias, multiplier, y"
    if node.op == "Edgec.MatMulInteger":
        sizes = [1, prod(x[:-1]), x[-1], 1, prod(x[:-1]), w[-1], 1, 1, 1, 1, 0, 0]
        return f"convolution({data}, {', '.join(map(str, sizes))}, {zero})"
    spatial = len(x) - 2
    ones, none = (1,) * (2 - spatial), (0,) * (2 - spatial)
    size, into, kernel = ones + x[2:], ones + out[2:], ones + w[2:]
    strides = ones + (tuple(attrs["strides"]) or (1,) * spatial)
    pads = none + (tuple(attrs["pads"])[:spatial] or (0,) * spatial)
    window = (*kernel, *strides, *pads)
    if attrs["group"] > 1:
        return f"depthwise({data}, {', '.join(map(str, (*size, x[1], *into, *window)))}, {zero})"
    return f"convolution({data}, {', '.join(map(str, (*size, x[1], *into, out[1], *window)))}, {zero})"


def layers(model: str, target: Target) -> Iterator[Node]:
    """The convolutions and products of a model whose arithmetic is on integers."""
    graph = run_pipeline(import_model(model), "canonicalize, fold, integers", Session(target=target))
    for node in graph.nodes():
        if node.op in ("Edgec.ConvInteger", "Edgec.MatMulInteger"):
            yield node


def program(nodes: list[Node]) -> str:
    """A C program that counts the ticks of each layer."""
    most = max(max(n.args[0].type.size, n.types[0].size) for n in nodes)
    weights = max(n.args[1].type.size for n in nodes)
    outputs = max(max(n.types[0].shape) for n in nodes)
    text = ['#include "cortex_plain.h"', '#include "semihost.h"', '#include "ticks.h"']
    text += [f"static int8_t x[{most}], y[{most}], w[{weights}];", f"static int32_t bias[{outputs}];"]
    text += [f"static float multiplier[{outputs}];"]
    for k, node in enumerate(nodes):
        text.append(f"__attribute__((noinline)) static void layer{k}(void) {{ {call(node)}; }}")
    text += ["int main(void) {", "uint64_t total = 0, start;", "ticks_start();"]
    text += [f"for (int i = 0; i < {weights}; i++) w[i] = (int8_t)(i * 37);"]
    text += [f"for (int i = 0; i < {outputs}; i++) multiplier[i] = 0.001f;"]
    for k in range(len(nodes)):
        text.append(f"start = ticks(); layer{k}(); total += ticks() - start;")
    text += ["print_hex((uint32_t)total);", 'print(" ");', "print_hex((uint32_t)ticks_per_million());", 'print("\\n");']
    return "\n".join([*text, "return 0; }", ""])


def plain(model: str, target: Target) -> int:
    """Instructions of the layers in plain C."""
    assert target.machine is not None
    chain, emulator = toolchain.toolchain(target), toolchain.emulator(target)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "plain.c").write_text(program(list(layers(model, target))))
        (work / "cortex_plain.h").write_text((HERE / "cortex_plain.h").read_text())
        (work / "firmware.ld").write_text(linker_script(target.machine))
        units = ["plain.c", "semihost.c", "startup.c", "ticks.c"]
        for unit in units[1:]:
            (work / unit).write_text((SOURCES / unit).read_text())
        objects = chain.compile(units, work, (*FLAGS, f"-I{SOURCES}", "-I."))
        chain.link("plain.elf", objects, work, ("-nostartfiles", "-static", "-Wl,-T,firmware.ld,--gc-sections"))
        machine = ("-M", target.machine.name, "-icount", "shift=6", "-kernel", "plain.elf", "-nographic")
        command = [str(emulator), *machine, "-monitor", "none", "-serial", "none"]
        done = subprocess.run(
            [*command, "-semihosting-config", "enable=on,target=native"],
            cwd=work, capture_output=True, text=True, check=True,
        )  # fmt: skip
    ticks, per_million = (int(word, 16) for word in (done.stdout + done.stderr).split()[-2:])
    return round(1e6 * ticks / per_million)


def ours(model: str, target: Target) -> tuple[int, int]:
    """Instructions of an inference, and bytes of code."""
    with tempfile.TemporaryDirectory() as folder:
        edgec.compile(model, target=target.name, out=folder)
        bundle = read_bundle(Path(folder))
        ports: Any = bundle.manifest["inputs"]
        rng = np.random.default_rng(0)
        feed = {p["name"]: rng.integers(-128, 128, p["shape"]).astype(p["dtype"]) for p in ports}
        counts = Firmware(bundle).count([feed])
        return counts.runs[0], int(bundle.manifest["code_bytes"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--target", default="cortex-m4")
    given = parser.parse_args()
    target = find_target(given.target)
    print(f"{'model':32} {'MACs':>11} {'edgec':>11} {'plain C':>11} {'ratio':>6} {'code':>8}")
    for model in given.models:
        macs = sum(prod(n.types[0].shape) * _each(n) for n in layers(model, target))
        count, code = ours(model, target)
        other = plain(model, target)
        print(f"{Path(model).stem:32} {macs:11,} {count:11,} {other:11,} {other / count:6.2f} {code:8,}", flush=True)


def _each(node: Node) -> int:
    """Products of one result."""
    w = node.args[1].shape
    return w[0] if node.op == "Edgec.MatMulInteger" else prod(w[1:])


if __name__ == "__main__":
    main()
