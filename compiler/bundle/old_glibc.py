"""Which glibc a shared library asks for: that of boards as old as the C library knows, not that of this machine.

`dlopen` and its kin moved from libdl into libc in glibc 2.34, with a new version, so that what a compiler of today
links does not load on systems before it (Ubuntu 20.04 and Debian 11 have 2.31). Their old versions are still there: a
library that asks for those, and for libdl, loads on both.
"""

from __future__ import annotations

from ..toolchain import Toolchain

_CALLS = {  # result, parameters, arguments
    "dlopen": ("void *", "const char *path, int mode", "path, mode"),
    "dlsym": ("void *", "void *library, const char *name", "library, name"),
    "dlclose": ("int ", "void *library", "library"),
    "dlerror": ("char *", "void", ""),
}
_VERSIONS = {"x86_64": "GLIBC_2.2.5", "aarch64": "GLIBC_2.17"}  # the first of each
_LIBRARY = "libdl.so.2"
FILE = "old_glibc.c"


def source() -> str:
    """C of functions through which the library's objects come to the old versions."""
    lines = []
    for arch, version in _VERSIONS.items():
        lines.append(f"#if defined(__{arch}__)")
        lines.append(f'#define OLD(name) __asm__(".symver old_" #name ", " #name "@{version}")')
        lines.append("#endif")
    for name, (result, parameters, arguments) in _CALLS.items():
        lines.append(f"OLD({name});\n{result}old_{name}({parameters});\n{result}__wrap_{name}({parameters});")
        lines.append(f"{result}__wrap_{name}({parameters})\n{{\n    return old_{name}({arguments});\n}}\n")
    return "\n".join(lines)


def applies(chain: Toolchain, triple: str) -> bool:
    """Whether the tools link with the glibc of a machine, which has a libdl; ziglang asks for an old one by itself."""
    return triple.partition("-")[0] in _VERSIONS and chain.finds(_LIBRARY)


def flags() -> list[str]:
    """Of the linker, behind the objects."""
    wrapped = [f"-Wl,--wrap={name}" for name in _CALLS]
    return [*wrapped, "-Wl,--push-state,--no-as-needed", f"-l:{_LIBRARY}", "-Wl,--pop-state"]
