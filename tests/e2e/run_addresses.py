"""Runs the steps of a model for CUDA in the emulation, each argument in memory that ends where the argument ends.

A script for a process with AddressSanitizer, without edgec: a pickled dictionary in, the outputs' bytes out.
A value of the arena lies there as its own allocation: neighbours, and values that lay there before, are out of reach.
"""

from __future__ import annotations

import ctypes as c
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

_ALIGN = 256  # as a device allocates
_libc = c.CDLL(None)
_libc.free.argtypes = [c.c_void_p]
_FAULT = c.CFUNCTYPE(None, c.c_char_p)


class Memory:
    """An allocation of exactly so many bytes. A context: it is gone behind it."""

    def __init__(self, data: bytes) -> None:
        self.at, self.bytes = c.c_void_p(), len(data)
        if _libc.posix_memalign(c.byref(self.at), c.c_size_t(_ALIGN), c.c_size_t(self.bytes)):
            raise MemoryError
        c.memmove(self.at, data, self.bytes)

    def read(self) -> bytes:
        return c.string_at(self.at, self.bytes)

    def free(self) -> None:
        _libc.free(self.at)


def run(model: dict[str, Any]) -> list[bytes]:
    """The outputs, of `arena` bytes in which inputs stand already."""
    libraries = [loaded(data) for data in model["modules"]]
    arena = bytearray(model["arena"])
    for step in model["steps"]:
        own: dict[tuple[str, int], Memory] = {}
        places = []
        for region, start, size, offset in step["args"]:
            if (region, start) not in own:
                source = {"arena": arena, "weights": model["weights"], "zeros": bytes(size)}[region]
                own[region, start] = Memory(bytes(source[start : start + size]))
            place = own[region, start].at.value
            assert place is not None
            places.append(c.c_void_p(place + offset))
        params = (c.c_void_p * len(places))(*(c.addressof(place) for place in places))
        print(step["name"], file=sys.stderr, flush=True)  # AddressSanitizer names no kernel's arguments
        kernel = getattr(libraries[step["module"]], f"{step['kernel']}_emulated")
        kernel(*step["grid"], step["block"], step["shared"], params)
        for (region, start), memory in own.items():
            if region == "arena":
                arena[start : start + memory.bytes] = memory.read()
            if region == "zeros" and any(memory.read()):
                raise RuntimeError("a kernel leaves counters that are not zero")
            memory.free()
    return [bytes(arena[start : start + size]) for start, size in model["outputs"]]


def loaded(data: bytes) -> c.CDLL:
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        Path(file.name).write_bytes(data)
        return c.CDLL(file.name)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.with_suffix(".out").write_bytes(pickle.dumps(run(pickle.loads(path.read_bytes()))))
