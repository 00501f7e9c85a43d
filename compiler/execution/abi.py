"""The C runtime as ctypes sees it: records of edgec.h, signatures, and the shared library that holds them."""

from __future__ import annotations

import ctypes as c
import hashlib
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from .. import toolchain as tools
from ..errors import EdgecError

ROOT = Path(__file__).resolve().parents[2] / "runtime"


class Ref(c.Structure):
    _fields_ = [("region", c.c_uint32), ("offset", c.c_uint32)]


class Step(c.Structure):
    _fields_ = [
        ("kernel", c.c_void_p),
        ("args", c.c_void_p),
        ("n_args", c.c_uint32),
        ("tasks", c.c_uint32),
        ("grain", c.c_uint32),
        ("scratch_stride", c.c_uint32),
        ("jump", c.c_int32),
        ("name", c.c_char_p),
    ]


class Io(c.Structure):
    _fields_ = [
        ("name", c.c_char_p), ("data", Ref), ("bytes", c.c_uint32), ("dtype", c.c_uint8), ("rank", c.c_uint8),
        ("count_axis", c.c_int16), ("dims", c.POINTER(c.c_int32)), ("scale", c.c_float), ("zero_point", c.c_int32),
        ("count", Ref),
    ]  # fmt: skip


class Desc(c.Structure):
    """Points to another of its kind: its fields follow when it is known."""


Desc._fields_ = [
    ("abi", c.c_uint32), ("isa", c.c_uint32), ("arena_bytes", c.c_uint32), ("arena_align", c.c_uint32),
    ("threads", c.c_uint32), ("n_inputs", c.c_uint32), ("n_outputs", c.c_uint32), ("n_steps", c.c_uint32),
    ("inputs", c.POINTER(Io)), ("outputs", c.POINTER(Io)), ("steps", c.POINTER(Step)), ("weights", c.c_void_p),
    ("weights_bytes", c.c_uint32), ("max_args", c.c_uint32), ("name", c.c_char_p), ("version", c.c_char_p),
    ("target", c.c_char_p), ("fallback", c.POINTER(Desc)), ("device", c.c_void_p), ("banks", c.c_void_p),
]  # fmt: skip


class Head(c.Structure):
    """The first fields of ec_model: enough to see which step runs next."""

    _fields_ = [("desc", c.POINTER(Desc)), ("arena", c.c_void_p), ("next", c.c_uint32)]


class Tensor(c.Structure):
    _fields_ = [("data", c.c_void_p), ("io", c.POINTER(Io))]


_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "ec_open": (c.c_int32, [c.c_void_p, c.POINTER(Desc), c.c_void_p, c.c_size_t]),
    "ec_input": (Tensor, [c.c_void_p, c.c_uint32]),
    "ec_output": (Tensor, [c.c_void_p, c.c_uint32]),
    "ec_output_count": (c.c_int64, [c.c_void_p, c.c_uint32]),
    "ec_close": (None, [c.c_void_p]),
    "ec_run": (c.c_int32, [c.c_void_p]),
    "ec_run_async": (c.c_int32, [c.c_void_p]),
    "ec_wait": (c.c_int32, [c.c_void_p]),
    "ec_cuda_use": (c.c_int32, [c.c_void_p, c.c_void_p, c.c_uint32]),
    "ec_read": (c.c_int32, [c.c_void_p, Ref, c.c_void_p, c.c_size_t]),
    "ec_step_next": (c.c_int32, [c.c_void_p]),
    "ec_restart": (None, [c.c_void_p]),
    "ec_strerror": (c.c_char_p, [c.c_int32]),
    "ec_device_error": (c.c_char_p, [c.POINTER(Desc)]),
    "ec_missing_isa": (c.c_uint32, [c.POINTER(Desc)]),
    "ec_cpu_isa": (c.c_uint32, []),
    "ec_model_bytes": (c.c_size_t, []),
    "ec_pool_open": (c.c_int32, [c.POINTER(c.c_void_p), c.c_uint32]),
    "ec_pool_close": (None, [c.c_void_p]),
    "ec_use_pool": (c.c_int32, [c.c_void_p, c.c_void_p]),
    "ec_bench": (c.c_int32, [c.c_void_p, c.c_uint32, c.c_void_p]),
    "ec_bench_steps": (c.c_int32, [c.c_void_p, c.c_uint32, c.c_void_p]),
    "ec_bench_peak": (c.c_double, []),
    "ec_bench_read": (c.c_double, [c.c_void_p, c.c_size_t]),
}
_LIBRARY: list[c.CDLL] = []
OF_DEVICES = (-8, -10, -11, -12, -13)  # EC_ERR_MEMORY, _NO_DEVICE, _DRIVER, _ARCH, _DEVICE: ec_device_error says more


def runtime_library() -> c.CDLL:
    """The runtime in the installed package, else built once from its sources with this machine's compiler."""
    if not _LIBRARY:
        packaged = ROOT / "lib" / "libedgec_rt.so"
        library = c.CDLL(str(packaged if packaged.exists() else _build()))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        _LIBRARY.append(library)
    return _LIBRARY[0]


def _build() -> Path:
    sources = sorted((ROOT / "src").glob("*.c"))
    digest = hashlib.sha256(platform.machine().encode())
    for path in sorted([*(ROOT / "src").iterdir(), *(ROOT / "include" / "edgec").iterdir()]):
        digest.update(path.read_bytes())
    library = tools.cache_folder() / f"python-{digest.hexdigest()[:20]}" / "libedgec_rt.so"
    if library.exists():
        return library
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        raise EdgecError(
            "the C runtime is not built and there is no C compiler here; install gcc, or edgec from its wheel"
        )
    with tempfile.TemporaryDirectory(dir=tools.writable_cache(library.parent.name)) as temporary:
        chain = tools.Toolchain((compiler,), ())
        built = str(Path(temporary) / library.name)
        flags = ("-shared", "-O2", "-fPIC", "-std=c11", f"-I{ROOT / 'include'}", "-pthread", "-ldl")
        chain.link(built, [str(s) for s in sources], Path(temporary), flags)
        os.replace(built, library)
    return library
