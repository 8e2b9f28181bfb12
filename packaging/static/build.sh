#!/bin/bash
# build.sh - the static release of the program: one file that needs no library, no interpreter and no folder around it.
#
#   packaging/static/build.sh [ARCH [OUT]]      ARCH x86_64 (default: this machine's) or aarch64, OUT build/static[-ARCH]
#
# Into OUT: pillion (static-pie, stripped), pillion.debug (its symbols, for gdb and addr2line), pillion.sha256. The libraries
# come from sysroot.sh (first time: some minutes, a network). The same source and compiler give the same bytes.
set -euo pipefail

ARCH=${1:-$(uname -m)}
TOP=$(cd "$(dirname "$0")/../.." && pwd)
DEFAULT_OUT=$TOP/build/static
[ "$ARCH" = "$(uname -m)" ] || DEFAULT_OUT+=-$ARCH
OUT=${2:-$DEFAULT_OUT}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1750000000} LC_ALL=C TZ=UTC ZERO_AR_DATE=1
unset MAKEFLAGS MAKELEVEL MODE B CFLAGS CPPFLAGS LDFLAGS LDLIBS

SYSROOT=$("$TOP/packaging/static/sysroot.sh" "$ARCH")
TOOLS=
[ "$ARCH" = "$(uname -m)" ] || TOOLS=$ARCH-linux-gnu-

PATH=$SYSROOT/bin:$PATH make -C "$TOP" -j"${JOBS:-2}" MODE=static B="$OUT/obj" CC=pcc AR=par PKG_CONFIG=ppkg-config \
    CFLAGS="-O2 -g" all
"${TOOLS}objcopy" --only-keep-debug "$OUT/obj/pillion" "$OUT/pillion.debug"
"${TOOLS}strip" --strip-all -o "$OUT/pillion.new" "$OUT/obj/pillion"
(cd "$OUT" && "${TOOLS}objcopy" --add-gnu-debuglink=pillion.debug pillion.new)
if "${TOOLS}readelf" -lW "$OUT/pillion.new" | grep -q INTERP; then
    echo "build.sh: the program asks for an interpreter: not static" >&2
    exit 1
fi
mv "$OUT/pillion.new" "$OUT/pillion"
(cd "$OUT" && sha256sum pillion >pillion.sha256)
ls -l "$OUT/pillion"
