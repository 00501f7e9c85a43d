#!/bin/sh
# usage: exports.sh LIBRARY HEADERS.  The shared library exports the functions of the headers, no more and no fewer.
set -eu
nm -D --defined-only "$1" | awk '$2 ~ /[TDBRVW]/ && $3 !~ /^(_init|_fini|__odr_asan|__asan)/ {print $3}' | sort >exported.txt
cat "$2"/*.h | grep -oE '^[a-z].*[ *](ec_[a-z0-9_]+)\(' | grep -v typedef | grep -oE 'ec_[a-z0-9_]+\(' | tr -d '(' | sort >declared.txt
diff declared.txt exported.txt
