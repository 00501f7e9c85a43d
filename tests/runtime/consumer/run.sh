#!/bin/sh
# usage: run.sh CMAKE GENERATOR BUILD CONSUMER CC CXX.  Installs BUILD and builds and runs a user's project against it.
set -eu
cmake=$1 generator=$2 build=$3 consumer=$4 cc=$5 cxx=$6
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$cmake" --install "$build" --prefix "$work/prefix" >/dev/null
"$cmake" -S "$consumer" -B "$work/build" -G "$generator" -DCMAKE_PREFIX_PATH="$work/prefix" \
    -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" >/dev/null
"$cmake" --build "$work/build" >/dev/null
cd "$build/tests/runtime"
"$work/build/app_edgec"
"$work/build/app_rt"
