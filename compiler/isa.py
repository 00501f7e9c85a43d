"""Features of a CPU that kernels may need: the names are those of the EC_ISA_* bits in edgec.h."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

HEADER = Path(__file__).resolve().parents[1] / "runtime" / "include" / "edgec" / "edgec.h"


@cache
def isa_bits() -> dict[str, int]:
    """Names and bits, as the header has them."""
    return {name: 1 << int(bit) for name, bit in re.findall(r"EC_ISA_(\w+) = 1 << (\d+)", HEADER.read_text())}


def isa_names(bits: int) -> list[str]:
    """Names of the bits that are set."""
    return [name for name, bit in isa_bits().items() if bits & bit]
