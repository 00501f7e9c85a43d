#!/bin/sh
# usage: freestanding.sh CC RUNTIME.  The units below compile without an operating system, and together need nothing but
# memcpy and memset (which compilers call on their own); for the host, and for what else clang can target.
set -eu
cc=$1 runtime=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-std=c11 -ffreestanding -Os -Wall -Wextra -Wpedantic -Wconversion -Wmissing-prototypes -Werror -I$runtime/include"

check() {
    for unit in core control cpu requantize status; do
        "$@" $flags -c "$runtime/src/$unit.c" -o "$work/$unit.o"
    done
    needed=$(nm -u "$work/core.o" "$work/control.o" "$work/cpu.o" "$work/requantize.o" "$work/status.o" | awk '$1 == "U" {print $2}' |
             grep -vxE 'mem(cpy|set)|__aeabi_mem(cpy|set|clr)[48]?|__aeabi_unwind_cpp_pr[01]|_GLOBAL_OFFSET_TABLE_|ec_(cpu|claim)_isa' || true)
    if [ -n "$needed" ]; then
        echo "$*: the core needs" $needed >&2
        exit 1
    fi
    echo "$*: ok"
}

check "$cc"
if clang --print-targets 2>/dev/null | grep -q thumb; then
    for triple in thumbv7em-none-eabi thumbv8.1m.main-none-eabi aarch64-none-elf riscv32-none-elf; do
        check clang --target=$triple
    done
fi
