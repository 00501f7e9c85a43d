"""Cycles of pieces of AArch64 code on a core, as llvm-mca models it: repeated, with every access found in L1."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import EdgecError, nearest

TURNS, MANY = 100, 2000
LEAST, NEWEST = 19, 40  # versions of LLVM: older ones lack models, and take another core's without a word
_FEATURES = "+neon,+dotprod,+fullfp16,+i8mm,+bf16"
_PRODUCTS = re.compile(r"(f?ml[as]|[su]mlal2?|[su]mull2?|[us]dot|usdot|smmla)$")
_DOT = re.compile(r"^[su]dot\t(v\d+)\.4s, (v\d+)\.16b, (v\d+)\.(?:16b|4b(\[\d\]))$")
_LIKE_A_DOT = (r"fmla\t\1.4s, \2.4s, \3.s\4", r"fmla\t\1.4s, \2.4s, \3.4s")
_WHOLE = re.compile(r"fml[as]\tv\d+\.(4s|8h), |fmul\tv\d+\.(4s|8h), v\d+\.\w+, v\d+\.[sh]\[")
_TWO = re.compile(r"\.2[sd]\b")
_REGISTER = re.compile(r"\b([vqdsh])(\d+)")


@dataclass(frozen=True)
class Core:
    """A core, the LLVM scheduling model nearest to it, the clock and the target to compile for where none is said."""

    model: str
    ghz: float
    target: str
    halves: bool = False  # two pipes of 64 bits share a product of 128


CORES = {
    "cortex-a53": Core("cortex-a53", 1.4, "cortex-a53"),
    "cortex-a55": Core("cortex-a55", 1.8, "cortex-a55", halves=True),
    "cortex-a72": Core("cortex-a72", 1.5, "rpi4"),
    "cortex-a76": Core("neoverse-n1", 2.4, "rpi5"),
    "cortex-a78": Core("neoverse-n2", 2.6, "cortex-a78"),
    "neoverse-n1": Core("neoverse-n1", 2.6, "rpi5"),
    "neoverse-n2": Core("neoverse-n2", 2.8, "arm-i8mm"),
    "neoverse-v2": Core("neoverse-v2", 2.8, "arm-i8mm"),
}


def core(name: str) -> Core:
    """A core by its name."""
    if name not in CORES:
        raise EdgecError(f"--model-cpu {name}: not modelled{nearest(name, CORES)}")
    return CORES[name]


def tool(name: str) -> str:
    """The newest of LLVM's tools of a name: with a version, as Debian installs them, or without."""
    for version in range(NEWEST, LEAST - 1, -1):
        if found := shutil.which(f"{name}-{version}"):
            return found
    found = shutil.which(name)
    if found and int((re.search(r"version (\d+)", _output([found, "--version"])) or ["", "0"])[1]) >= LEAST:
        return found
    raise EdgecError(
        f"{name} {'is older than' if found else 'is not installed; needed is'} LLVM {LEAST}, whose models of cores "
        f"--model-cpu asks: apt-get install llvm-{LEAST} (or a newer one)"
    )


def disassembled(program: Path, symbols: Sequence[str]) -> dict[int, str]:
    """The instructions of functions by address. Branches and addresses of data lead to one and the same symbol."""
    command = [
        tool("llvm-objdump"),
        "-d",
        "--no-show-raw-insn",
        "--mattr=+all",
        f"--disassemble-symbols={','.join(symbols)}",
    ]
    found = {}
    for line in _output([*command, str(program)]).splitlines():
        if match := re.match(r"\s*([0-9a-f]+):\s+(\S.*)", line):
            text = match[2].split("//")[0].split("<")[0].strip()
            found[int(match[1], 16)] = re.sub(r"^((?:b|bl|b\.\w+|adrp?|[ct]bn?z)\s.*?)0x[0-9a-f]+$", r"\1edgec", text)
    return found


class Model:
    """What one core makes of code."""

    def __init__(self, core: Core) -> None:
        self.core, self.mca = core, tool("llvm-mca")
        self._each: dict[str, float] = {}

    def cycles(self, pieces: Sequence[Sequence[str]], turns: int = TURNS) -> list[tuple[float, float]]:
        """Cycles that one turn of each piece takes when it is repeated `turns` times; and those that it takes if
        nothing but the number of pipes and of instructions per cycle is in its way."""
        told = [[self._told(line) for line in piece] for piece in pieces]
        regions = [
            "\n".join([f"# LLVM-MCA-BEGIN {i}", *(f"\t{line}" for line in piece), "# LLVM-MCA-END"])
            for i, piece in enumerate(told)
        ]
        if not regions:
            return []
        command = [self.mca, "-mtriple=aarch64", f"-mcpu={self.core.model}", f"-mattr={_FEATURES}"]
        said = _output([*command, f"-iterations={turns}"], "\n".join(regions) + "\n")
        found = {
            int(match[1]): (int(match[2]) / turns, float(match[3]))
            for match in re.finditer(
                r"Code Region - (\d+)\s+.*?Total Cycles:\s+(\d+).*?Block RThroughput:\s+([\d.]+)", said, re.S
            )
        }
        if len(found) != len(pieces):
            raise EdgecError(f"{self.mca}: gave {len(found)} figures for {len(pieces)} pieces of code")
        more = [self._forgotten(piece) for piece in told]
        return [(taken + extra, least + extra) for (taken, least), extra in ((found[i], e) for i, e in enumerate(more))]

    def _told(self, line: str) -> str:
        """An instruction as the model is given it. Where a product of 128 bits keeps two pipes busy, the model lets no
        load begin beside one of bytes, as it does beside one of floats: it is given the latter for the former."""
        match = _DOT.match(line) if self.core.halves else None
        return match.expand(_LIKE_A_DOT[not match[4]]) if match else line

    def _forgotten(self, piece: Sequence[str]) -> float:
        """... and it lets two of floats begin in a cycle. Two instructions do, but one of them is no such product."""
        if not self.core.halves:
            return 0.0
        return max(0.0, sum(bool(_WHOLE.match(line)) for line in piece) - len(piece) / 2)

    def products(self, lines: Sequence[str]) -> Mapping[str, int]:
        """The multiply-adds of vectors among instructions: how many of each form. Two integers are indices."""
        found: dict[str, int] = {}
        for line in lines:
            name, _, operands = line.partition("\t")
            if _PRODUCTS.match(name) and operands.startswith("v") and not (name[0] != "f" and _TWO.search(operands)):
                form = f"{name}\t" + re.sub(r"\[\d+\]", "[0]", _REGISTER.sub(r"\1", operands))
                found[form] = found.get(form, 0) + 1
        return found

    def issue(self, form: str) -> float:
        """Cycles that each of many independent multiply-adds of a form takes: one over the pipes that do them."""
        if form not in self._each:
            ((cycles, _),) = self.cycles([[_instance(form, i) for i in range(16)]], MANY)
            self._each[form] = round(cycles / 16, 3)
        return self._each[form]


def _instance(form: str, i: int) -> str:
    """A form with registers: one of its own for the result, others for what is read."""
    name, _, operands = form.partition("\t")
    first, *others = operands.split(", ")
    parts = [first.replace("v", f"v{i}", 1), *(o.replace("v", f"v{28 + k}", 1) for k, o in enumerate(others))]
    return f"{name}\t{', '.join(parts)}"


def _output(command: Sequence[str], text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (
            [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["no message"]
        )
        raise EdgecError(f"{command[0]} failed: {said[0].strip()}")
    return done.stdout
