#!/bin/sh
# usage: tests/runtime/sanitize.sh [BUILD_FOLDER].  Builds and runs the runtime's tests plain, under AddressSanitizer with
# UndefinedBehaviorSanitizer, and under ThreadSanitizer, with gcc and with clang (where installed).
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:-$root/build/sanitize}

# ThreadSanitizer of older compilers cannot start where the kernel randomises addresses widely.
fixed_addresses=
if setarch -R true 2>/dev/null; then
    fixed_addresses="setarch -R"
fi

run() { # CC CXX SANITIZERS
    folder=$build/$1-$(echo "${3:-plain}" | tr , -)
    echo "== $1 ${3:-plain}"
    cmake -S "$root" -B "$folder" -DCMAKE_C_COMPILER="$1" -DCMAKE_CXX_COMPILER="$2" -DEDGEC_SANITIZE="$3" \
        -DEDGEC_BUILD_TESTS=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo >"$folder.log" 2>&1 &&
        cmake --build "$folder" -j2 >>"$folder.log" 2>&1 || { cat "$folder.log"; exit 1; }
    (cd "$folder" && $fixed_addresses ctest --output-on-failure -Q -O "$folder.log" || { cat "$folder.log"; exit 1; })
    tail -n 3 "$folder.log" | sed '/^$/d'
}

mkdir -p "$build"
for pair in gcc:g++ clang:clang++; do
    if ! command -v "${pair%:*}" >/dev/null; then
        echo "== ${pair%:*} is not installed: skipped"
        continue
    fi
    for sanitizers in "" address,undefined thread; do
        run "${pair%:*}" "${pair#*:}" "$sanitizers"
    done
done
