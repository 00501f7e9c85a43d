"""Objects without their debug tables and unused sections: still link, still right, 32 and 64 bits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgec.compiler.bundle import elf
from edgec.compiler.bundle.elf_slim import slim

SOURCE = """
int from_outside(int);
__attribute__((weak)) int unused(int x) { return from_outside(x) + 1; }
__attribute__((weak)) int used(int x) { return x + 2; }
static const int table[] = {1, 2, 3};
static int counter[64];
int kernel(int i) { counter[i]++; return used(table[i] + counter[i]); }
"""
MAIN = "int kernel(int); int main(void) { kernel(1); return kernel(1) == 6 ? 0 : 1; }\n"
FLAGS = ["-g", "-O1", "-fno-inline", "-ffunction-sections", "-fdata-sections", "-c", "-x", "c", "-"]


def compiled(compiler: list[str], folder: Path) -> bytes:
    done = subprocess.run([*compiler, *FLAGS, "-o", "k.o"], cwd=folder, input=SOURCE, text=True, capture_output=True)
    if done.returncode:
        pytest.skip(done.stderr.splitlines()[0])
    return (folder / "k.o").read_bytes()


@pytest.mark.parametrize(
    "target", ["", "thumbv7em-none-eabi", "armv7-linux-gnueabihf", "aarch64-linux-gnu", "i386-linux"]
)
def test_only_what_the_strong_symbols_need_is_left(target: str, tmp_path: Path) -> None:
    if target and shutil.which("clang") is None:
        pytest.skip("no clang")
    whole = compiled(["clang", f"--target={target}"] if target else ["cc"], tmp_path)
    small = slim(whole)
    assert slim(small) == small and len(small) < len(whole)
    assert {s.name for s in elf.symbols(small) if s.defined and s.is_global} == {"kernel", "used"}
    assert not [s.name for s in elf.sections(small) if "debug" in s.name or "unused" in s.name]
    code = {s.name: (s.size, s.flags) for s in elf.sections(whole) if s.name.startswith((".text.", ".rodata", ".bss."))}
    left = {s.name: (s.size, s.flags) for s in elf.sections(small) if s.name in code}
    assert left.keys() >= {".text.kernel", ".text.used"} and left == {name: code[name] for name in left}


def test_a_program_runs_with_it(tmp_path: Path) -> None:
    (tmp_path / "small.o").write_bytes(elf.rename(slim(compiled(["cc"], tmp_path)), {"used": "used_by_kernel"}))
    (tmp_path / "main.c").write_text(MAIN)
    subprocess.run(["cc", "main.c", "small.o", "-o", "main"], cwd=tmp_path, check=True)
    subprocess.run(["./main"], cwd=tmp_path, check=True)
