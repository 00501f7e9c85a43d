"""Emulated CUDA kernels called from tests: arrays in, arrays changed in place; faults become exceptions."""

from __future__ import annotations

import ctypes as c
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgec.targets.cuda.emulation import Check, emulated_library


def kernel(name: str, parameters: str, body: str, threads: int = 32) -> str:
    """A kernel as the generator writes it."""
    return f'extern "C" __global__ void __launch_bounds__({threads}) {name}({parameters}) {{\n{body}\n}}\n'


def same(got: np.ndarray, expected: np.ndarray) -> bool:
    """Equal bits, but any NaN for a NaN."""
    nan = np.isnan(expected)
    return bool(np.array_equal(np.isnan(got), nan) and got[~nan].tobytes() == expected[~nan].tobytes())


class Fault(Exception):
    """What the emulation reports."""


_HANDLER = c.CFUNCTYPE(None, c.c_char_p)


class Emulated:
    """The kernels of a text; `launch` calls one."""

    def __init__(self, source: str, check: Check = "none") -> None:
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            Path(file.name).write_bytes(emulated_library(source, check=check))
            self.library = c.CDLL(file.name)
        self.faults: list[str] = []
        self._handler = _HANDLER(lambda message: self.faults.append(message.decode()))
        self.library.ec_emulated_on_fault(self._handler)

    def launch(self, name: str, grid: tuple[int, ...], block: int, *arguments: Any, shared: int = 0) -> None:
        """Arrays are passed by address, integers as int."""
        values = [c.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else c.c_int(a) for a in arguments]
        params = (c.c_void_p * len(values))(*(c.addressof(value) for value in values))
        getattr(self.library, f"{name}_emulated")(*(*grid, 1, 1)[:3], block, shared, params)
        if self.faults:
            raise Fault(self.faults.pop())
