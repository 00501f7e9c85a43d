"""One compilation by NVRTC in a process of its own, whose memory lies where it always lies: so the code is the same.

What NVRTC makes of a text depends on the addresses of its heap: some kernels get other registers. Systems place memory
at random, and a heap that was used before gives out other addresses. So this file runs as a script, needs nothing of
edgec, and before it loads NVRTC, it reserves all free addresses above a fixed one: there Linux would look for room
first. The library then lies just below, and so do stack and heap (an arena of glibc's) of a thread that begins now and
does nothing else. Whoever starts this sets the environment and the folder, whose name NVRTC keeps in its heap.

In: a line of JSON `{"libraries": [...], "options": [...], "kind": "CUBIN" | "PTX"}`, then the text. `libraries`: paths
to load, NVRTC last. Out: a line of JSON `{"status": 0, "error": "", "log": "...", "placed": true}`, then the code.
`placed` is false where the system refuses.
"""

from __future__ import annotations

import ctypes as c
import gc
import json
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any

_PAGE = 1 << 12
_STACK = 64 << 20  # below the stack of the first thread: it grows
_NO_ACCESS = 0
_READ, _WRITE = 1, 2
_FLAGS = 0x02 | 0x20 | 0x4000  # private, anonymous, no memory behind it
_FIXED = 0x100000  # at this address or nowhere
_TRIES = 8  # looking takes memory too, which may come to lie in a gap that was seen
_kept: list[Any] = []  # what was freed would be a new gap


def main() -> None:
    if resource.getrlimit(resource.RLIMIT_STACK)[0] == resource.RLIM_INFINITY:  # then Linux looks upwards
        resource.setrlimit(resource.RLIMIT_STACK, (_STACK, resource.RLIM_INFINITY))
        os.execv(sys.executable, sys.orig_argv)
    gc.disable()
    request, _, text = sys.stdin.buffer.read().partition(b"\n")
    wanted = json.loads(request)
    placed = reserved()
    libraries = [c.CDLL(path) for path in wanted["libraries"]]  # NVRTC looks for them by name, where wheels are not
    library, program = libraries[-1], c.c_void_p()
    options = [option.encode() for option in wanted["options"]]
    create, compiles = library.nvrtcCreateProgram, library.nvrtcCompileProgram
    about = (c.byref(program), text, b"kernels.cu", 0, None, None)
    how = (len(options), (c.c_char_p * len(options))(*options))
    answer: list[int] = []

    def work() -> None:  # and nothing else: Python would take memory of the same heap
        answer.append(create(*about) or compiles(program, *how))

    threading.stack_size(_STACK)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (status,) = answer
    log = got(library, program, "ProgramLog").rstrip(b"\0") if program else b""
    code = b"" if status else got(library, program, wanted["kind"])
    library.nvrtcGetErrorString.restype = c.c_char_p
    error = library.nvrtcGetErrorString(status).decode() if status else ""
    said = {"status": status, "error": error, "log": log.decode(errors="replace"), "placed": placed}
    sys.stdout.buffer.write(json.dumps(said).encode() + b"\n" + code)


def got(library: Any, program: Any, what: str) -> bytes:
    size = c.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, c.byref(size))
    data = c.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, data)
    return data.raw


def reserved() -> bool:
    """Whether new memory now lies below a fixed address: all that is free above is taken, but never used.

    Addresses end at a power of two. Linux puts programs two thirds of the way there, plus at most an eighth by chance;
    libraries, stacks and memory at the end, minus at most an eighth. Between them, at 13/16, nothing is.
    """
    libc = c.CDLL(None)
    libc.mmap.restype = c.c_void_p
    libc.mmap.argtypes = [c.c_void_p, c.c_size_t, c.c_int, c.c_int, c.c_int, c.c_long]
    for _ in range(_TRIES):
        regions = used()
        _kept.append(regions)
        stack = next((first for first, _, is_stack in regions if is_stack), 0)
        end = 1 << stack.bit_length()
        bottom = at = end // 16 * 13
        for first, last, is_stack in [*regions, (end - _PAGE, end, False)]:
            free = min(first, end - _PAGE) - (_STACK if is_stack else 0)
            if free > at:
                libc.mmap(at, free - at, _NO_ACCESS, _FLAGS | _FIXED, -1, 0)
            at = max(at, last)
        if libc.mmap(None, _PAGE, _READ | _WRITE, _FLAGS, -1, 0) == bottom - _PAGE:
            return True
    return False


def used() -> list[tuple[int, int, bool]]:
    """First address, end, and whether it is the stack, of what lies in memory."""
    rows = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    _kept.append(rows)
    return [(int(row[0].split("-")[0], 16), int(row[0].split("-")[1], 16), row[-1] == "[stack]") for row in rows]


if __name__ == "__main__":
    main()
